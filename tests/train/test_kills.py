"""A rank that is killed, wherever it stands: what follows is what would have been."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.toy_training import PLACES, Line, Training, goes_on

PLAN = "0123456789abcdef"
POINTS = [(place, turn) for place in PLACES for turn in (1, 3, 5)]
"""Twelve: within a megabatch, at its last batches, and behind its end."""
SCENES = [[(0, 5), (0, 4), (0, 5), (0, 4)], [(0, 4), (0, 4), (0, 4), (1, 5)]]
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def staged_once(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage two megabatches, one of which has a scene of another kind."""
    return build(tmp_path_factory.mktemp("kills") / "plan", SCENES, minibatch=3)


def training(staged: Path, root: Path, world: int) -> Training:
    """Give a training on these megabatches."""
    return Training(root, str(staged / "archive"), staged / "fast", PLAN, world)


@pytest.fixture(scope="module")
def undisturbed(
    staged_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, list[list[Line]]]:
    """Train in worlds of one, two and three ranks without any harm."""
    found: dict[int, list[list[Line]]] = {}
    for world in (1, 2, 3):
        quiet = training(staged_once, tmp_path_factory.mktemp(f"quiet-{world}"), world)
        assert not quiet.run()
        found[world] = quiet.trained()
    return found


@pytest.mark.parametrize(("place", "turn"), POINTS)
def test_a_killed_rank_changes_neither_order_nor_pixels(
    staged_once: Path,
    undisturbed: dict[int, list[list[Line]]],
    tmp_path: Path,
    place: str,
    turn: int,
) -> None:
    """F13: after SIGKILL each rank goes on from the checkpoint, and trains on what it would have.

    Here the data is still there; `tests/storage/test_rollback.py` has it staged again.
    """
    world = 1 + POINTS.index((place, turn)) % 3
    victim = 0 if "checkpoint" in place else world - 1
    killed = training(staged_once, tmp_path, world)
    assert killed.run(place=place, turn=turn, victim=victim) == -signal.SIGKILL
    before = killed.trained()
    assert not killed.run()
    goes_on(undisturbed[world], before, killed.trained())
