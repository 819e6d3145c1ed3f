"""Laws of the order of minibatches: G1 to G3 and G5 of the guarantees."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.order import ORDER_VERSION, Leftover, Order, minibatch_order

leftovers = st.sampled_from(get_args(Leftover))
seeds = st.integers(-(2**65), 2**65)


Megabatch = tuple[NDArray[np.int64], NDArray[np.int64]]


@st.composite
def megabatches(draw: st.DrawFn) -> Megabatch:
    """Draw counts and groups of up to 40 scenes, some of them empty, some large."""
    scene = st.tuples(st.one_of(st.integers(0, 9), st.integers(0, 40)), st.integers(-1, 2))
    scenes = np.array(draw(st.lists(scene, max_size=40)), dtype=np.int64).reshape(-1, 2)
    return scenes[:, 0], scenes[:, 1]


def order_of(
    scenes: Megabatch,
    size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    megabatch: int = 0,
    leftover: Leftover = "drop",
) -> Order:
    """Put a megabatch in order; what a test does not vary is 0."""
    key = {"seed": seed, "epoch": epoch, "megabatch": megabatch}
    return minibatch_order(*scenes, size=size, leftover=leftover, **key)


def alike(scenes: int, each: int) -> Megabatch:
    """Make a megabatch of scenes of one group with equally many chips."""
    return np.full(scenes, each), np.zeros(scenes, dtype=np.int64)


def sizes_of(order: Order) -> NDArray[np.int64]:
    """Chips of each minibatch."""
    return np.diff(order.offsets)


def chips_of(order: Order) -> list[tuple[int, int]]:
    """All (scene, chip) of an order, as it goes."""
    return list(zip(order.scene.tolist(), order.chip.tolist(), strict=True))


def most_minibatches(counts: list[int], size: int) -> int:
    """Try every M: the largest with room for M minibatches, each scene in each once at most."""
    tries = range(sum(counts) // size + 1)
    return max(m for m in tries if sum(min(c, m) for c in counts) >= m * size)


@given(megabatch=megabatches(), size=st.integers(1, 12), seed=seeds, leftover=leftovers)
def test_every_chip_comes_once_or_is_named_as_left_over(
    megabatch: Megabatch, size: int, seed: int, leftover: Leftover
) -> None:
    """G1: nothing is doubled, and what is missing is counted scene by scene."""
    counts, _ = megabatch
    order = order_of(megabatch, size, seed=seed, leftover=leftover)
    chips = chips_of(order)
    assert len(set(chips)) == len(chips)
    assert all(0 <= chip < counts[scene] for scene, chip in chips)
    came = np.bincount(order.scene, minlength=len(counts))
    assert np.array_equal(counts - came, order.left_over)
    assert leftover == "drop" or not order.left_over.any()


@given(megabatch=megabatches(), size=st.integers(1, 12), seed=seeds, leftover=leftovers)
def test_no_scene_meets_itself_and_no_group_another(
    megabatch: Megabatch, size: int, seed: int, leftover: Leftover
) -> None:
    """G5: chips of one scene are near copies, and a minibatch is one tensor of one group."""
    _, groups = megabatch
    order = order_of(megabatch, size, seed=seed, leftover=leftover)
    for k in range(len(order)):
        scene, _ = order.minibatch(k)
        assert len(set(scene.tolist())) == len(scene) > 0
        assert len(set(groups[scene].tolist())) == 1


@given(megabatch=megabatches(), size=st.integers(1, 12), seed=seeds)
def test_each_group_has_as_many_full_minibatches_as_can_be(
    megabatch: Megabatch, size: int, seed: int
) -> None:
    """Gale-Ryser by brute force: one minibatch more would need a scene twice or a chip too many."""
    counts, groups = megabatch
    order = order_of(megabatch, size, seed=seed)
    assert (sizes_of(order) == size).all()
    of_group = groups[order.scene[order.offsets[:-1]]]
    for group in set(groups.tolist()):
        inside = groups == group
        most = most_minibatches(counts[inside].tolist(), size)
        assert np.count_nonzero(of_group == group) == most
        # Beyond what no order could take, less than one minibatch is left.
        over = order.left_over[inside] - np.maximum(counts[inside] - most, 0)
        assert over.min() >= 0
        assert over.sum() < size


@given(megabatch=megabatches(), size=st.integers(1, 12), seed=seeds)
def test_spread_adds_as_few_short_minibatches_as_can_be(
    megabatch: Megabatch, size: int, seed: int
) -> None:
    """The full minibatches stay, and the rest is even: no last minibatch of one chip."""
    counts, groups = megabatch
    left = order_of(megabatch, size, seed=seed).left_over
    order = order_of(megabatch, size, seed=seed, leftover="spread")
    of_group = groups[order.scene[order.offsets[:-1]]]
    for group in set(groups.tolist()):
        inside = groups == group
        rest, widest = int(left[inside].sum()), int(left[inside].max())
        full = most_minibatches(counts[inside].tolist(), size)
        short = max(-(-rest // size), widest)
        even = [rest // short + (i < rest % short) for i in range(short)]
        assert sorted(sizes_of(order)[of_group == group]) == sorted([size] * full + even)
    assert sizes_of(order).max(initial=0) <= size


@given(megabatch=megabatches(), size=st.integers(1, 12), world=st.integers(1, 9), seed=seeds)
def test_any_world_size_reads_the_same_sequence(
    megabatch: Megabatch, size: int, world: int, seed: int
) -> None:
    """G2 and G3: ranks slice the order and never make it, so a run may resume on other hardware."""
    order = order_of(megabatch, size, seed=seed)
    for ranks in (1, 2, 4, world):
        shares = [
            np.stack(order.share(k, rank=rank, world=ranks))
            for k in range(len(order))
            for rank in range(ranks)
        ]
        lengths = np.array([part.shape[1] for part in shares]).reshape(-1, ranks)
        assert not len(lengths) or np.ptp(lengths, axis=1).max() <= 1
        whole = np.concatenate([np.empty((2, 0), dtype=np.int32), *shares], axis=1)
        assert np.array_equal(whole, np.stack([order.scene, order.chip]))


@given(megabatch=megabatches(), size=st.integers(1, 12), seed=seeds, leftover=leftovers)
def test_a_rerun_gives_the_same_order(
    megabatch: Megabatch, size: int, seed: int, leftover: Leftover
) -> None:
    """All ranks compute the order by themselves; integer types of the arrays do not matter."""
    counts, groups = megabatch
    small = (counts.astype(np.uint16), groups.astype(np.int8))
    one = order_of(megabatch, size, seed=seed, epoch=3, leftover=leftover)
    other = minibatch_order(*small, size=size, seed=seed, epoch=3, megabatch=0, leftover=leftover)
    assert chips_of(one) == chips_of(other)
    assert np.array_equal(one.offsets, other.offsets)


@given(seed=seeds)
def test_seed_epoch_and_megabatch_each_change_the_order(seed: int) -> None:
    """A second epoch in the first one's order would teach the same minibatches again."""
    orders = [
        order_of(alike(20, 10), 8, seed=seed),
        order_of(alike(20, 10), 8, seed=seed + 1),
        order_of(alike(20, 10), 8, seed=seed, epoch=1),
        order_of(alike(20, 10), 8, seed=seed, megabatch=1),
    ]
    together = {frozenset(chips_of(o)[k * 8 : k * 8 + 8]) for o in orders for k in range(len(o))}
    assert len(together) == sum(len(order) for order in orders) == 100


def test_the_order_of_version_1_never_changes() -> None:
    """A resumed run goes on in the order it began with: if this fails, raise ORDER_VERSION."""
    megabatch = (np.array([4, 3, 5, 2, 3, 4]), np.array([0, 0, 0, 0, 1, 1]))
    drop = order_of(megabatch, 3, seed=7, epoch=1, megabatch=2)
    spread = order_of(megabatch, 3, seed=7, epoch=1, megabatch=2, leftover="spread")
    assert ORDER_VERSION == 1
    assert drop.scene.tolist() == [2, 1, 0, 1, 0, 2, 3, 2, 0, 2, 1, 0]
    assert drop.chip.tolist() == [2, 1, 2, 2, 3, 1, 1, 3, 0, 0, 0, 1]
    assert drop.offsets.tolist() == [0, 3, 6, 9, 12]
    assert drop.left_over.tolist() == [0, 0, 1, 1, 3, 4]
    assert spread.scene.tolist() == [2, 3, 4, 5, 4, 5, 4, 5, 5, 0, 2, 1, 3, 2, 0, 0, 2, 1, 1, 0, 2]
    assert spread.chip.tolist() == [4, 0, 1, 3, 0, 1, 2, 2, 0, 2, 2, 1, 1, 3, 0, 1, 0, 0, 2, 3, 1]
    assert spread.offsets.tolist() == [0, 2, 4, 6, 8, 9, 12, 15, 18, 21]


def test_a_megabatch_of_real_size_keeps_the_laws() -> None:
    """1.2 million chips: index types, bit budgets of sort keys and the repair hold at scale."""
    order = order_of(alike(3000, 400), 1024)
    assert len(order) == 1_200_000 // 1024
    assert order.left_over.sum() == 1_200_000 % 1024
    minibatch = np.repeat(np.arange(len(order)), 1024)
    assert len(np.unique(minibatch * 3000 + order.scene)) == len(order.scene)
    assert len(np.unique(order.scene * np.int64(400) + order.chip)) == len(order.scene)


def test_every_chip_comes_everywhere_equally_often() -> None:
    """Over 1500 seeds a chip has no favourite place: chi-square of all (chip, place) pairs."""
    scenes, each, trials = 5, 5, 1500
    places = scenes * each
    seen = np.zeros((places, places))
    for seed in range(trials):
        order = order_of(alike(scenes, each), 3, seed=seed)
        seen[order.scene * each + order.chip, np.arange(len(order.scene))] += 1
    used = seen[:, :24]
    expected = trials / places
    chi_square = ((used - expected) ** 2 / expected).sum() / (1 - 1 / places)
    assert abs(chi_square - used.size) < 4 * np.sqrt(2 * used.size)


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


@given(data=st.data(), megabatch=megabatches())
def test_an_order_cannot_be_written_to(data: st.DataObject, megabatch: Megabatch) -> None:
    """Minibatches are views: a caller that sorts one in place would change everybody's order."""
    order = order_of(megabatch, 2)
    assume(len(order))
    scene, chip = order.minibatch(data.draw(st.integers(0, len(order) - 1)))
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
