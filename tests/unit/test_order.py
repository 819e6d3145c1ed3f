"""Laws of the order of minibatches: G1 to G3 and G5 of the guarantees."""

import hashlib
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.fill import Leftover
from chipmill.model.order import (
    ORDER_VERSION,
    Order,
    fill_minibatches,
    left_over,
    minibatch_order,
)
from tests.unit.order_laws import (
    LAWS,
    Case,
    Law,
    every_place_for_every_chip,
    own,
    sizes_of,
)

leftovers = st.sampled_from(get_args(Leftover))
seeds = st.integers(-(2**65), 2**65)


Megabatch = tuple[NDArray[np.int64], NDArray[np.int64]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw megabatches of up to 40 scenes in any groups, some of them empty, some large."""
    scene = st.tuples(st.one_of(st.integers(0, 9), st.integers(0, 40)), st.integers(-1, 2))
    scenes = np.array(draw(st.lists(scene, max_size=40)), dtype=np.int64).reshape(-1, 2)
    return Case(
        counts=scenes[:, 0],
        groups=scenes[:, 1],
        size=draw(st.integers(1, 12)),
        seed=draw(seeds),
        epoch=draw(st.integers(0, 9)),
        megabatch=draw(st.integers(0, 9)),
        leftover=draw(leftovers),
        mixed=draw(st.booleans()),
        world=draw(st.integers(1, 9)),
    )


def order_of(
    scenes: Megabatch,
    size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    megabatch: int = 0,
    leftover: Leftover = "drop",
    mixed: bool = False,
) -> Order:
    """Put a megabatch in order; what a test does not vary is 0."""
    key = {"seed": seed, "epoch": epoch, "megabatch": megabatch}
    return minibatch_order(*scenes, size=size, leftover=leftover, mixed=mixed, **key)


def alike(scenes: int, each: int) -> Megabatch:
    """Make a megabatch of scenes of one group with equally many chips."""
    return np.full(scenes, each), np.zeros(scenes, dtype=np.int64)


@pytest.mark.parametrize("law", LAWS)
@given(case=cases())
def test_the_order_keeps_each_law(law: Law, case: Case) -> None:
    """G1 to G3 and G5, each said in `order_laws`; `test_planted_bugs` shows that each can fail."""
    law(own, case)


@given(case=cases())
def test_what_is_counted_beforehand_comes_true(case: Case) -> None:
    """A plan promises minibatches and left-overs without drawing a chip."""
    key = (case.seed, case.epoch, case.megabatch)
    fills = fill_minibatches(
        case.counts,
        case.groups,
        size=case.size,
        leftover=case.leftover,
        key=key,
        mixed=case.mixed,
    )
    order = own(case)
    assert sum(len(fill) for fill in fills) == len(order)
    assert np.array_equal(left_over(fills, len(case.counts)), order.left_over)


def test_the_order_of_version_2_never_changes() -> None:
    """A resumed run goes on in the order it began with: if this fails, raise ORDER_VERSION."""
    megabatch = (np.array([4, 3, 5, 2, 3, 4]), np.array([0, 0, 0, 0, 1, 1]))
    drop = order_of(megabatch, 3, seed=7, epoch=1, megabatch=2)
    spread = order_of(megabatch, 3, seed=7, epoch=1, megabatch=2, leftover="spread")
    assert ORDER_VERSION == 2
    assert drop.scene.tolist() == [2, 1, 0, 2, 0, 1, 0, 1, 3, 0, 2, 3]
    assert drop.chip.tolist() == [2, 0, 1, 4, 0, 1, 3, 2, 1, 2, 0, 0]
    assert drop.offsets.tolist() == [0, 3, 6, 9, 12]
    assert drop.left_over.tolist() == [0, 0, 2, 0, 3, 4]
    assert spread.scene.tolist() == [2, 4, 5, 5, 4, 5, 4, 2, 1, 0, 2, 0, 1, 0, 1, 3, 5, 0, 2, 3, 2]
    assert spread.chip.tolist() == [3, 0, 2, 3, 1, 0, 2, 2, 0, 1, 4, 0, 1, 3, 2, 1, 1, 2, 0, 0, 1]
    assert spread.offsets.tolist() == [0, 1, 3, 5, 7, 10, 13, 16, 17, 20, 21]


def test_an_order_of_many_chips_never_changes() -> None:
    """A NumPy release, a processor or a platform that sorts otherwise is noticed here."""
    scenes = np.arange(400)
    order = order_of(
        (50 + scenes * 7919 % 97, scenes % 3), 32, seed=-5, epoch=2, megabatch=1, leftover="spread"
    )
    assert len(order) == 1226
    assert _digest(order) == "6ca2ba843822fdf6fd3099afd020a870d457cb4d406702be17b4a584c86277b7"


@pytest.mark.parametrize(
    ("leftover", "digest"),
    [
        ("drop", "a1ffe68c51111e2327565631e19a1b4d5777343bfd40b20cf04a645df7fc001e"),
        ("spread", "1a2723322e2101105d8644324626ca42191065ee0c31fbff9aa14ccb677ecfc9"),
    ],
)
def test_a_mixed_order_never_changes(leftover: Leftover, digest: str) -> None:
    """As the others: what a run has seen of each sensor must come true again."""
    scenes = np.arange(400)
    order = order_of(
        (50 + scenes * 7919 % 97, scenes % 7 % 3),
        32,
        seed=-5,
        epoch=2,
        megabatch=1,
        leftover=leftover,
        mixed=True,
    )
    assert _digest(order) == digest


@pytest.mark.parametrize("mixed", [False, True])
def test_a_megabatch_of_real_size_keeps_the_laws(*, mixed: bool) -> None:
    """1.2 million chips: index types, bit budgets of sort keys and the repair hold at scale."""
    order = order_of((np.full(3000, 400), np.arange(3000) % 7 % 3 * mixed), 1024, mixed=mixed)
    assert len(order) == 1_200_000 // 1024
    assert order.left_over.sum() == 1_200_000 % 1024
    minibatch = np.repeat(np.arange(len(order)), 1024)
    assert len(np.unique(minibatch * 3000 + order.scene)) == len(order.scene)
    assert len(np.unique(order.scene * np.int64(400) + order.chip)) == len(order.scene)


@pytest.mark.parametrize("mixed", [False, True])
def test_every_chip_comes_everywhere_equally_often(*, mixed: bool) -> None:
    """No corner of a scene, and no scene, has a favourite place in a megabatch."""
    every_place_for_every_chip(own, 1500, mixed=mixed)


def test_chips_of_different_scenes_meet_equally_often() -> None:
    """Over 1500 seeds no two scenes are drawn together: neither neighbours nor the first ones."""
    scenes, each, size, trials = 6, 4, 3, 1500
    chips = scenes * each
    met = np.zeros((chips, chips))
    for seed in range(trials):
        order = order_of(alike(scenes, each), size, seed=seed)
        table = (order.scene * each + order.chip).reshape(-1, size)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            met[table[:, one], table[:, other]] += 1
            met[table[:, other], table[:, one]] += 1
    scene = np.arange(chips) // each
    apart = scene[:, None] != scene
    chance = (size - 1) / (chips - each)
    deviation = np.sqrt(trials * chance * (1 - chance))
    assert not met[~apart].any()
    assert np.abs(met[apart] - trials * chance).max() < 4.5 * deviation


def test_no_chip_is_left_over_more_often_than_another() -> None:
    """Over 1500 seeds every chip of equal scenes has the same chance to be cut."""
    trials, came = 1500, np.zeros((4, 5))
    for seed in range(trials):
        order = order_of(alike(4, 5), 3, seed=seed)
        came[order.scene, order.chip] += 1
    missed = trials - came
    expected = missed.sum() / missed.size
    assert expected == trials * 2 / 20
    assert np.abs(missed - expected).max() < 4 * np.sqrt(expected)


def test_what_is_cut_is_no_whole_scene() -> None:
    """Over 500 seeds two cut chips share a scene as often as any two chips do."""
    trials, together = 500, 0
    for seed in range(trials):
        left = order_of(alike(20, 10), 15, seed=seed).left_over
        assert left.sum() == 5
        together += int((left * (left - 1) // 2).sum())
    chance = 9 / 199
    expected = trials * 10 * chance
    assert abs(together - expected) < 4 * np.sqrt(expected)


def test_a_scene_with_too_many_chips_gives_any_of_them() -> None:
    """Over 1500 seeds no corner of the scene is favoured: its first chips are its first rows."""
    megabatch, trials = (np.array([12, 4, 4, 4]), np.zeros(4, dtype=int)), 1500
    came = np.zeros(12)
    for seed in range(trials):
        order = order_of(megabatch, 3, seed=seed)
        came[order.chip[order.scene == 0]] += 1
    expected = came.sum() / 12
    assert expected < trials
    assert np.abs(came - expected).max() < 4 * np.sqrt(expected * (1 - expected / trials))


def test_groups_and_short_minibatches_come_at_any_time() -> None:
    """Over 1500 seeds no sensor trains first, and the short minibatches are not the last ones."""
    megabatch, trials = (np.full(9, 3), np.repeat([0, 1], [6, 3])), 1500
    second, short = np.zeros(14), np.zeros(14)
    for seed in range(trials):
        order = order_of(megabatch, 2, seed=seed, leftover="spread")
        second += megabatch[1][order.scene[order.offsets[:-1]]] == 1
        short += sizes_of(order) < 2
    for seen in (second, short):
        share = seen.sum() / trials / 14
        assert np.abs(seen - trials * share).max() < 4 * np.sqrt(trials * share * (1 - share))


def test_a_scene_is_not_bound_to_a_rank() -> None:
    """Over 50 seeds a scene comes to all places of a minibatch: ranks share every scene."""
    scenes, each, size, trials = 6, 24, 4, 50
    chi_square = 0.0
    for seed in range(trials):
        order = order_of(alike(scenes, each), size, seed=seed)
        place = np.arange(len(order.scene)) % size
        seen = np.bincount(order.scene * size + place, minlength=scenes * size)
        chi_square += float(((seen - each / size) ** 2 / (each / size)).sum())
    cells = trials * scenes * size
    assert chi_square < cells + 4 * np.sqrt(2 * cells)


def test_an_order_cannot_be_written_to() -> None:
    """Minibatches are views: a caller that sorts one in place would change everybody's order."""
    order = order_of(alike(4, 3), 2)
    scene, chip = order.minibatch(len(order) - 1)
    for array in (scene, chip):
        with pytest.raises(ValueError, match="read-only"):
            array.sort()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "cannot have 0 chips"),
        ({"counts": np.array([3, -1])}, "scene 1 has -1 chips"),
        ({"groups": np.array([0])}, r"shape \(2,\) and groups \(1,\)"),
        ({"counts": np.ones((1, 2), int), "groups": np.ones((1, 2), int)}, r"shape \(1, 2\)"),
        ({"leftover": "pad"}, "'pad'; choose one of drop, spread"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    """What cannot be a megabatch is named with its values, before any array is made."""
    lawful: dict[str, Any] = {
        "counts": np.array([3, 2]),
        "groups": np.array([0, 0]),
        "size": 2,
        "seed": 0,
        "epoch": 0,
        "megabatch": 0,
    }
    with pytest.raises(RequestError, match=message):
        minibatch_order(**(lawful | change))


@pytest.mark.parametrize(
    ("k", "rank", "world"), [(-1, 0, 1), (3, 0, 1), (0, -1, 2), (0, 2, 2), (0, 0, 0)]
)
def test_a_minibatch_or_rank_that_does_not_exist_is_refused(k: int, rank: int, world: int) -> None:
    """A negative number would silently slice from the end: two ranks would train on the same."""
    order = order_of(alike(4, 3), 4)
    assert len(order) == 3
    with pytest.raises(RequestError, match="is not in"):
        order.share(k, rank=rank, world=world)


def _digest(order: Order) -> str:
    digest = hashlib.sha256()
    for array in (order.scene, order.chip, order.offsets, order.left_over):
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()
