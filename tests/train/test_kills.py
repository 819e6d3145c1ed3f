"""A rank that is killed, wherever it stands: what follows is what would have been."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PLAN = "0123456789abcdef"
PLACES = ("before a step", "after a step", "before a checkpoint", "after a checkpoint")
POINTS = [(place, turn) for place in PLACES for turn in (1, 3, 5)]
"""Twelve: within a megabatch, at its last batches, and behind its end."""
SCENES = [[(0, 5), (0, 4), (0, 5), (0, 4)], [(0, 4), (0, 4), (0, 4), (1, 5)]]
Build = Callable[..., Path]
Line = tuple[tuple[int, ...], tuple[str, ...], str]


def run(root: Path, *, world: int, place: str = "", turn: int = 0, victim: int = 0) -> list[int]:
    """Train to the end, or until a rank dies and its launcher stops the others."""
    program = str(Path(__file__).with_name("resuming_rank.py"))
    ranks = [
        subprocess.Popen(
            [
                *(sys.executable, program, str(root), PLAN, str(rank), str(world)),
                *((place, str(turn)) if rank == victim else ("", "0")),
            ]
        )
        for rank in range(world)
    ]
    codes = [ranks[victim].wait(240)]
    for rank in ranks:
        if codes[0]:
            rank.kill()
        codes.append(rank.wait(240))
    return codes


def trained(root: Path, *, world: int) -> list[list[Line]]:
    """Read what each rank trained on."""
    return [
        [
            (tuple(position), tuple(chips), pixels)
            for position, chips, pixels in map(
                json.loads, (root / f"rank-{rank}.jsonl").read_text().splitlines()
            )
        ]
        for rank in range(world)
    ]


@pytest.fixture(scope="module")
def staged_once(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage two megabatches, one of which has a scene of another kind."""
    return build(tmp_path_factory.mktemp("kills") / "plan", SCENES, minibatch=3)


@pytest.fixture(scope="module")
def undisturbed(
    staged_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, list[list[Line]]]:
    """Train in worlds of one, two and three ranks without any harm."""
    found: dict[int, list[list[Line]]] = {}
    for world in (1, 2, 3):
        root = tmp_path_factory.mktemp(f"quiet-{world}") / "plan"
        shutil.copytree(staged_once, root)
        assert not any(run(root, world=world))
        found[world] = trained(root, world=world)
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

    At every other point the data is gone when the run comes back, and is staged again.
    """
    number = POINTS.index((place, turn))
    world = 1 + number % 3
    victim = 0 if "checkpoint" in place else world - 1
    root = tmp_path / "plan"
    shutil.copytree(staged_once, root)
    codes = run(root, world=world, place=place, turn=turn, victim=victim)
    assert codes[0] == -signal.SIGKILL
    before = trained(root, world=world)
    if number % 2:
        shutil.rmtree(root / "fast")
        shutil.copytree(staged_once / "fast", root / "fast")
    for path in root.glob("rank-*.jsonl"):
        path.unlink()
    for step in root.glob("step-*"):
        shutil.rmtree(step)
    assert not any(run(root, world=world))
    after = trained(root, world=world)
    for whole, head, tail in zip(undisturbed[world], before, after, strict=True):
        assert head == whole[: len(head)]
        assert tail == whole[len(whole) - len(tail) :]
        assert len(head) + len(tail) >= len(whole)
    starts = {tail[0][0] for tail in after if tail}
    assert len(starts) == 1
