"""The laws of an order, as functions of what makes it: so that a wrong maker can be shown to fail.

`test_order` holds chipmill's own order against them, `test_planted_bugs` orders with known bugs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chipmill.model.fill import Leftover
from chipmill.model.order import Order, minibatch_order


@dataclass(frozen=True, kw_only=True)
class Case:
    """One megabatch and how it is put in order."""

    counts: NDArray[np.integer]
    groups: NDArray[np.integer]
    size: int
    seed: int = 0
    epoch: int = 0
    megabatch: int = 0
    leftover: Leftover = "drop"
    mixed: bool = False
    world: int = 1

    @property
    def filled(self) -> NDArray[np.integer]:
        """Group of each scene among those that fill minibatches together."""
        return np.zeros_like(self.groups) if self.mixed else self.groups


Make = Callable[[Case], Order]
Law = Callable[[Make, Case], None]


def own(case: Case) -> Order:
    """Put a megabatch in chipmill's order."""
    return minibatch_order(
        case.counts,
        case.groups,
        size=case.size,
        seed=case.seed,
        epoch=case.epoch,
        megabatch=case.megabatch,
        leftover=case.leftover,
        mixed=case.mixed,
    )


def exactly_once(make: Make, case: Case) -> None:
    """G1: nothing is doubled, and what is missing is counted scene by scene."""
    order = make(case)
    chips = chips_of(order)
    assert len(set(chips)) == len(chips)
    assert all(0 <= chip < case.counts[scene] for scene, chip in chips)
    came = np.bincount(order.scene, minlength=len(case.counts))
    assert np.array_equal(case.counts - came, order.left_over)
    assert case.leftover == "drop" or not order.left_over.any()


def no_scene_meets_itself(make: Make, case: Case) -> None:
    """G5: chips of one scene are near copies; a minibatch is of one group where none are mixed."""
    order = make(case)
    for k in range(len(order)):
        scene, _ = order.minibatch(k)
        assert len(set(scene.tolist())) == len(scene) > 0
        assert len(set(case.filled[scene].tolist())) == 1


def as_many_as_can_be(make: Make, case: Case) -> None:
    """Gale-Ryser by brute force: one minibatch more would need a scene twice or a chip too many."""
    order = make(replace(case, leftover="drop"))
    assert (sizes_of(order) == case.size).all()
    of_group = case.filled[order.scene[order.offsets[:-1]]]
    for group in set(case.filled.tolist()):
        inside = case.filled == group
        most = most_minibatches(case.counts[inside].tolist(), case.size)
        assert np.count_nonzero(of_group == group) == most
        # Beyond what no order could take, less than one minibatch is left.
        over = order.left_over[inside] - np.maximum(case.counts[inside] - most, 0)
        assert over.min() >= 0
        assert over.sum() < case.size


def the_rest_is_spread_evenly(make: Make, case: Case) -> None:
    """The full minibatches stay, and the rest is even: no last minibatch of one chip."""
    left = make(replace(case, leftover="drop")).left_over
    order = make(replace(case, leftover="spread"))
    of_group = case.filled[order.scene[order.offsets[:-1]]]
    for group in set(case.filled.tolist()):
        inside = case.filled == group
        rest, widest = int(left[inside].sum()), int(left[inside].max())
        full = most_minibatches(case.counts[inside].tolist(), case.size)
        short = max(-(-rest // case.size), widest)
        even = [rest // short + (i < rest % short) for i in range(short)]
        assert sorted(sizes_of(order)[of_group == group]) == sorted([case.size] * full + even)
    assert sizes_of(order).max(initial=0) <= case.size


def one_order_for_any_world(make: Make, case: Case) -> None:
    """G2 and G3: ranks slice the order and never make it, so a run may resume on other hardware."""
    order = make(case)
    for ranks in (1, 2, 4, case.world):
        shares = [
            np.stack(order.share(k, rank=rank, world=ranks))
            for k in range(len(order))
            for rank in range(ranks)
        ]
        lengths = np.array([part.shape[1] for part in shares]).reshape(-1, ranks)
        assert not len(lengths) or np.ptp(lengths, axis=1).max() <= 1
        whole = np.concatenate([np.empty((2, 0), dtype=np.int32), *shares], axis=1)
        assert np.array_equal(whole, np.stack([order.scene, order.chip]))


def a_rerun_is_the_same(make: Make, case: Case) -> None:
    """All ranks compute the order by themselves; integer types of the arrays do not matter."""
    one = make(case)
    counts, groups = case.counts.astype(np.uint16), case.groups.astype(np.int8)
    other = make(replace(case, counts=counts, groups=groups))
    assert chips_of(one) == chips_of(other)
    assert np.array_equal(one.offsets, other.offsets)


def each_key_counts(make: Make, case: Case) -> None:
    """A second epoch in the first one's order would teach the same minibatches again."""
    one = Case(counts=np.full(20, 10), groups=np.zeros(20, np.int64), size=8, seed=case.seed)
    others = ({"seed": case.seed + 1}, {"epoch": 1}, {"megabatch": 1})
    orders = [make(one), *(make(replace(one, **changed)) for changed in others)]
    together = {frozenset(chips_of(o)[k * 8 : k * 8 + 8]) for o in orders for k in range(len(o))}
    assert len(together) == sum(len(order) for order in orders) == 100


def groups_come_in_proportion(make: Make, case: Case) -> None:
    """What a mixed minibatch has of a group is its share of the chips, rounded up or down."""
    order = make(replace(case, mixed=True))
    sizes = sizes_of(order)
    minibatch = np.repeat(np.arange(len(order)), sizes)
    for group in set(case.groups.tolist()):
        inside = case.groups[order.scene] == group
        chips = np.bincount(minibatch[inside], minlength=len(order))
        for alike in (chips[sizes < case.size], chips if case.leftover == "drop" else chips[:0]):
            assert not len(alike) or np.ptp(alike) <= 1


def every_place_for_every_chip(make: Make, trials: int, *, mixed: bool = False) -> None:
    """Over many seeds a chip has no favourite place: chi-square of all (chip, place) pairs."""
    scenes, each = 5, 5
    places, counts = scenes * each, np.full(scenes, each)
    groups = np.array([1, 0, 0, 1, 0])
    seen = np.zeros((places, places))
    for seed in range(trials):
        case = Case(counts=counts, groups=groups * mixed, size=3, seed=seed, mixed=mixed)
        order = make(case)
        seen[order.scene * each + order.chip, np.arange(len(order.scene))] += 1
    used = seen[:, :24]
    expected = trials / places
    chi_square = ((used - expected) ** 2 / expected).sum() / (1 - 1 / places)
    assert abs(chi_square - used.size) < 4 * np.sqrt(2 * used.size)


LAWS: tuple[Law, ...] = (
    exactly_once,
    no_scene_meets_itself,
    as_many_as_can_be,
    the_rest_is_spread_evenly,
    one_order_for_any_world,
    a_rerun_is_the_same,
    each_key_counts,
    groups_come_in_proportion,
)


def chips_of(order: Order) -> list[tuple[int, int]]:
    """All (scene, chip) of an order, as it goes."""
    return list(zip(order.scene.tolist(), order.chip.tolist(), strict=True))


def sizes_of(order: Order) -> NDArray[np.int64]:
    """Chips of each minibatch."""
    return np.diff(order.offsets)


def most_minibatches(counts: list[int], size: int) -> int:
    """Try every M: the largest with room for M minibatches, each scene in each once at most."""
    tries = range(sum(counts) // size + 1)
    return max(m for m in tries if sum(min(c, m) for c in counts) >= m * size)
