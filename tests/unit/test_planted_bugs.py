"""Orders with a known bug: each must break the law that is there against it."""

from dataclasses import fields, replace
from itertools import count

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipmill.model.deal import deal_chips
from chipmill.model.order import Order, fill_minibatches
from chipmill.model.shuffle import permutation
from tests.unit import order_laws as laws
from tests.unit.order_laws import Case, Law, Make, own

_calls = count()


def loses_the_last_chip(case: Case) -> Order:
    """An off-by-one at the end of the megabatch."""
    order = own(case)
    if not len(order.scene):
        return order
    offsets = np.append(order.offsets[:-1], order.offsets[-1] - 1)
    return replace(order, scene=order.scene[:-1], chip=order.chip[:-1], offsets=offsets)


def doubles_a_chip(case: Case) -> Order:
    """A place that is written twice."""
    order = own(case)
    if not len(order.scene):
        return order
    scene, chip = order.scene.copy(), order.chip.copy()
    scene[-1], chip[-1] = scene[0], chip[0]
    return replace(order, scene=scene, chip=chip)


def says_that_nothing_is_left(case: Case) -> Order:
    """Chips that vanish without a word."""
    order = own(case)
    return replace(order, left_over=np.zeros_like(order.left_over))


def repeats_a_parent_at_a_row_boundary(case: Case) -> Order:
    """Rows shuffled by themselves, and nobody looks after the scene that crosses into the next."""
    counts, size, seed = case.counts, case.size, case.seed
    columns = int(counts.sum()) // size
    scene = np.repeat(np.arange(len(counts)), counts)[: columns * size].astype(np.int32)
    chip = np.array([i for c in counts.tolist() for i in range(c)][: columns * size], np.int32)
    table = [permutation(columns, key=(seed, row)) + row * columns for row in range(size)]
    places = np.array(table, np.int64).reshape(size, columns).T.reshape(-1)
    return Order(
        scene=scene[places],
        chip=chip[places],
        offsets=np.arange(columns + 1) * size,
        left_over=counts - np.bincount(scene, minlength=len(counts)),
    )


def mixes_groups(case: Case) -> Order:
    """A minibatch of two sensors cannot be one tensor."""
    return own(replace(case, groups=np.zeros_like(case.groups)))


def leaves_proportions_to_chance(case: Case) -> Order:
    """Some minibatches have a sensor twice as often as others."""
    return own(replace(case, groups=np.zeros_like(case.groups)))


def rounds_up_at_both_ends_of_a_group(case: Case) -> Order:
    """A group's first and last row that know nothing of each other: both give a chip more."""
    (fill,) = fill_minibatches(
        case.counts,
        case.groups,
        size=case.size,
        leftover="drop",
        key=(case.seed, 0, 0),
        mixed=True,
    ) or [None]
    if fill is None or not fill.full:
        return own(replace(case, leftover="drop"))
    minibatch = deal_chips(fill.kept, fill.full, key=(case.seed,))
    places = np.argsort(minibatch, kind="stable")
    scene = np.repeat(fill.scene, fill.kept).astype(np.int32)
    chip = np.array([i for kept in fill.kept.tolist() for i in range(kept)], np.int32)
    return Order(
        scene=scene[places],
        chip=chip[places],
        offsets=np.arange(fill.full + 1) * case.size,
        left_over=fill.left_over[np.argsort(fill.scene)],
    )


def forgets_who_began_a_row(case: Case) -> Order:
    """Mixed groups whose first chips are dealt apart: a scene in both parts may meet itself."""
    order = rounds_up_at_both_ends_of_a_group(case)
    minibatches = len(order)
    if not minibatches:
        return order
    group = case.groups[order.scene]
    places = np.lexsort((order.scene, group))
    counts = np.unique(group, return_counts=True)[1]
    begun = np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(counts % minibatches, counts)
    late = np.arange(len(places)) >= begun
    places = np.concatenate([places[late], places[~late]]).reshape(-1, minibatches)
    drawn = np.array([permutation(minibatches, key=(case.seed, k)) for k in range(len(places))])
    places = np.take_along_axis(places, drawn, axis=1).T.reshape(-1)
    return replace(order, scene=order.scene[places], chip=order.chip[places])


def makes_one_minibatch_less(case: Case) -> Order:
    """A bound that is too careful: chips are left out though there is a place for them."""
    order = own(case)
    if not len(order):
        return order
    kept = slice(0, int(order.offsets[-2]))
    came = np.bincount(order.scene[kept], minlength=len(order.left_over))
    return replace(
        order,
        scene=order.scene[kept],
        chip=order.chip[kept],
        offsets=order.offsets[:-1],
        left_over=case.counts - came,
    )


def spreads_into_single_chips(case: Case) -> Order:
    """A last minibatch of one chip: its gradient is noise."""
    order = own(case)
    if case.leftover == "drop" or not len(order):
        return order
    offsets = order.offsets.tolist()
    single = [*offsets[:-2], *range(offsets[-2], offsets[-1] + 1)]
    return replace(order, offsets=np.array(single))


class _ByWorld(Order):
    """An order that each world size shuffles for itself."""

    def share(
        self, k: int, *, rank: int, world: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        scene, chip = Order.share(self, k, rank=0, world=1)
        drawn = permutation(len(scene), key=(world, k))
        part = slice(len(scene) * rank // world, len(scene) * (rank + 1) // world)
        return scene[drawn][part], chip[drawn][part]


class _Greedy(Order):
    """An order of which the first rank takes all that does not divide."""

    def share(
        self, k: int, *, rank: int, world: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        scene, chip = Order.share(self, k, rank=0, world=1)
        each, more = divmod(len(scene), world)
        start = each * rank + (more if rank else 0)
        stop = each * (rank + 1) + more
        return scene[start:stop], chip[start:stop]


def _as(kind: type[Order], order: Order) -> Order:
    return kind(**{item.name: getattr(order, item.name) for item in fields(order)})


def depends_on_the_world_size(case: Case) -> Order:
    """A run that resumes on other hardware would see chips again and miss others."""
    return _as(_ByWorld, own(case))


def gives_one_rank_more(case: Case) -> Order:
    """Ranks wait for the slowest: shares differ by one chip at most."""
    return _as(_Greedy, own(case))


def depends_on_earlier_calls(case: Case) -> Order:
    """A generator that somebody else has drawn from."""
    return own(replace(case, seed=case.seed + next(_calls)))


def depends_on_the_type_of_integers(case: Case) -> Order:
    """A hash of the bytes of an array instead of its numbers."""
    return own(replace(case, seed=case.counts.itemsize))


def forgets_the_epoch(case: Case) -> Order:
    """Each epoch in the order of the first."""
    return own(replace(case, epoch=0))


def forgets_the_megabatch(case: Case) -> Order:
    """Each megabatch in the order of the first."""
    return own(replace(case, megabatch=0))


def leaves_scenes_in_their_places(case: Case) -> Order:
    """Minibatches whose chips come by scene: each rank would see its own scenes only."""
    order = own(case)
    minibatch = np.repeat(np.arange(len(order)), laws.sizes_of(order))
    places = np.lexsort((order.scene, minibatch))
    return replace(order, scene=order.scene[places], chip=order.chip[places])


BUGS: list[tuple[Make, Law]] = [
    (loses_the_last_chip, laws.exactly_once),
    (doubles_a_chip, laws.exactly_once),
    (says_that_nothing_is_left, laws.exactly_once),
    (repeats_a_parent_at_a_row_boundary, laws.no_scene_meets_itself),
    (mixes_groups, laws.no_scene_meets_itself),
    (forgets_who_began_a_row, laws.no_scene_meets_itself),
    (leaves_proportions_to_chance, laws.groups_come_in_proportion),
    (rounds_up_at_both_ends_of_a_group, laws.groups_come_in_proportion),
    (makes_one_minibatch_less, laws.as_many_as_can_be),
    (loses_the_last_chip, laws.as_many_as_can_be),
    (spreads_into_single_chips, laws.the_rest_is_spread_evenly),
    (depends_on_the_world_size, laws.one_order_for_any_world),
    (gives_one_rank_more, laws.one_order_for_any_world),
    (depends_on_earlier_calls, laws.a_rerun_is_the_same),
    (depends_on_the_type_of_integers, laws.a_rerun_is_the_same),
    (forgets_the_epoch, laws.each_key_counts),
    (forgets_the_megabatch, laws.each_key_counts),
]


@pytest.mark.parametrize(("bug", "law"), BUGS)
def test_each_bug_breaks_the_law_against_it(bug: Make, law: Law) -> None:
    """A law that no bug can break proves nothing of the order that keeps it."""

    @settings(derandomize=True, database=None, phases=[Phase.generate], max_examples=200)
    @given(case=cases())
    def held(case: Case) -> None:
        law(bug, case)

    with pytest.raises(AssertionError):
        held()


def test_scenes_that_keep_their_places_are_seen() -> None:
    """The statistical law too can fail, at a tenth of the trials that `test_order` takes."""
    with pytest.raises(AssertionError):
        laws.every_place_for_every_chip(leaves_scenes_in_their_places, 150)
    laws.every_place_for_every_chip(own, 150)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw megabatches of up to 12 scenes."""
    scene = st.tuples(st.integers(0, 9), st.integers(0, 2))
    scenes = np.array(draw(st.lists(scene, max_size=12)), dtype=np.int64).reshape(-1, 2)
    return Case(
        counts=scenes[:, 0],
        groups=scenes[:, 1],
        size=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 9)),
        leftover=draw(st.sampled_from(("drop", "spread"))),
        mixed=draw(st.booleans()),
        world=draw(st.integers(1, 5)),
    )
