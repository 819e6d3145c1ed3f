"""The order of a megabatch: which chips make each minibatch, no two of them of one scene."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.blend import blend_chips
from chipmill.model.deal import deal_chips, hands
from chipmill.model.fill import Fill, Leftover, chips_of, fill_group, in_groups
from chipmill.model.shuffle import permutation

ORDER_VERSION = 2
"""Changes whenever the same inputs would give another order; a run resumes in its own only."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """All minibatches of a megabatch, in order; the arrays cannot be written to."""

    scene: NDArray[np.int32]
    """Scene of each place, shape (places,)."""

    chip: NDArray[np.int32]
    """Chip of each place as its index in the scene, from 0; shape (places,)."""

    offsets: NDArray[np.int64]
    """Minibatch k has the places offsets[k] to offsets[k + 1]; shape (minibatches + 1,)."""

    left_over: NDArray[np.int64]
    """Chips of each scene that are in no minibatch, shape (scenes,)."""

    def __len__(self) -> int:
        """Count the minibatches."""
        return len(self.offsets) - 1

    def minibatch(self, k: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Name the chips of minibatch k as (scene, chip), each of shape (chips,).

        Raises:
            RequestError: There is no minibatch k.
        """
        return self.share(k, rank=0, world=1)

    def share(
        self, k: int, *, rank: int, world: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Name one rank's chips of minibatch k: the slices of all ranks, in turn, are the whole.

        Args:
            k: Minibatch, from 0.
            rank: Rank, from 0.
            world: How many ranks share the minibatch.

        Returns:
            (scene, chip), each of shape (chips,); lengths differ by one at most between ranks.

        Raises:
            RequestError: There is no such minibatch or rank.
        """
        if not 0 <= k < len(self):
            raise RequestError(
                f"minibatch {k} is not in an order of {len(self)} minibatches; count from 0"
            )
        if not 0 <= rank < world:
            raise RequestError(
                f"rank {rank} is not in a world of {world} ranks; give 0 <= rank < world"
            )
        start, stop = int(self.offsets[k]), int(self.offsets[k + 1])
        chips = stop - start
        places = slice(start + chips * rank // world, start + chips * (rank + 1) // world)
        return self.scene[places], self.chip[places]


def minibatch_order(
    counts: NDArray[np.integer],
    groups: NDArray[np.integer],
    *,
    size: int,
    seed: int,
    epoch: int,
    megabatch: int,
    leftover: Leftover = "drop",
    mixed: bool = False,
) -> Order:
    """Put the chips of a megabatch in order: each at most once, no scene twice in a minibatch.

    Each group gets as many minibatches of exactly `size` chips as the law "no scene twice" allows.
    With `mixed` all groups together do, and each full minibatch has of every group its share of the
    chips, rounded up or down; the group of a place is that of its scene, `groups[order.scene]`, and
    the groups of a minibatch come at random places.

    Args:
        counts: Usable chips of each scene, shape (scenes,).
        groups: Group of each scene, shape (scenes,), any integers; a minibatch is of one group
            unless `mixed`.
        size: Chips of a minibatch over all ranks.
        seed: Seed of the plan, any integer.
        epoch: Epoch, so that each has its own order.
        megabatch: Number of the megabatch in its plan.
        leftover: `drop` leaves the chips that fit in no full minibatch out; `spread` makes shorter
            minibatches of them, so that every chip comes exactly once.
        mixed: Put chips of all groups into each minibatch.

    Returns:
        The order, a pure function of the arguments and ORDER_VERSION.

    Raises:
        RequestError: A size below 1, a negative count, arrays that are not one number a scene, or
            an unknown `leftover`.
    """
    key = (seed, epoch, megabatch)
    fills = fill_minibatches(counts, groups, size=size, leftover=leftover, key=key, mixed=mixed)
    dealt: list[_Dealt] = []
    for number, fill in enumerate(fills):
        dealt += _dealt(fill, groups[fill.scene] if mixed else None, key=(*key, number))
    return _shuffled(dealt, left_over(fills, len(counts)), key=key)


def fill_minibatches(
    counts: NDArray[np.integer],
    groups: NDArray[np.integer],
    *,
    size: int,
    leftover: Leftover,
    key: tuple[int, int, int],
    mixed: bool = False,
) -> list[Fill]:
    """Work out what each group will give, without drawing a chip; groups ascending.

    With `mixed` all groups are filled as one.

    Args:
        counts: As of `minibatch_order`, and so are the next three.
        groups: Group of each scene.
        size: Chips of a minibatch over all ranks.
        leftover: What becomes of chips that fit in no full minibatch.
        key: Seed, epoch and number of the megabatch.
        mixed: Whether a minibatch has chips of all groups.

    Raises:
        RequestError: As by `minibatch_order`.
    """
    _check(counts, groups, size=size, leftover=leftover)
    chips = counts.astype(np.int64, casting="same_kind")
    of_one = np.zeros_like(groups) if mixed else groups
    members = [np.flatnonzero(of_one == group) for group in np.unique(of_one)]
    fills = [
        fill_group(scenes, chips[scenes], size=size, leftover=leftover, key=(*key, number))
        for number, scenes in enumerate(members)
    ]
    return [in_groups(fill, groups[fill.scene]) for fill in fills] if mixed else fills


def left_over(fills: list[Fill], scenes: int) -> NDArray[np.int64]:
    """Count the chips of each scene that are in no minibatch, shape (scenes,)."""
    left = np.zeros(scenes, np.int64)
    for fill in fills:
        left[fill.scene] = fill.left_over
    return left


def _check(
    counts: NDArray[np.integer], groups: NDArray[np.integer], *, size: int, leftover: Leftover
) -> None:
    """Refuse what is no description of a megabatch."""
    if size < 1:
        raise RequestError(f"a minibatch cannot have {size} chips; ask for 1 or more")
    if leftover not in get_args(Leftover):
        raise RequestError(
            f"left-over chips cannot be treated as {leftover!r}; "
            f"choose one of {', '.join(get_args(Leftover))}"
        )
    if counts.ndim != 1 or counts.shape != groups.shape:
        raise RequestError(
            f"counts have the shape {counts.shape} and groups {groups.shape}; "
            "give one count and one group for each scene"
        )
    if len(counts) and counts.min() < 0:
        scene = int(counts.argmin())
        raise RequestError(f"scene {scene} has {counts[scene]} chips; give counts of 0 or more")


_Dealt = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Chips in minibatches, minibatch after minibatch, as cards; and the chips of each minibatch."""

_CHIP = 32
"""Bits of a card for the chip; those above are the scene's."""


def _dealt(fill: Fill, groups: NDArray[np.integer] | None, *, key: tuple[int, ...]) -> list[_Dealt]:
    """Deal chips to full minibatches, and the rest to the shorter ones; by groups if they mix."""
    kept, rest = chips_of(fill, key=key)
    dealt: list[_Dealt] = []
    for counts, chip, minibatches, use in (
        (fill.kept, kept, fill.full, "full"),
        (fill.rest, rest, fill.shorter, "rest"),
    ):
        if minibatches:
            cards = np.repeat(fill.scene << _CHIP, counts)
            cards |= chip
            deal = (f"order deal {use}", *key)
            if groups is None:
                table = deal_chips(counts, minibatches, key=deal)
            else:
                places, table = blend_chips(counts, groups, minibatches, key=deal)
                cards = cards[places]
            dealt.append(hands(cards, table, minibatches, key=(f"order places {use}", *key)))
    return dealt


def _shuffled(dealt: list[_Dealt], left: NDArray[np.int64], *, key: tuple[int, ...]) -> Order:
    """Shuffle the minibatches of all groups together."""
    none = np.empty(0, np.int64)
    cards, sizes = (
        np.concatenate([none, *each]) for each in zip((none, none), *dealt, strict=True)
    )
    drawn = permutation(len(sizes), key=("order minibatches", *key))
    offsets = np.concatenate(([0], np.cumsum(sizes[drawn])))
    if len(sizes) and np.ptp(sizes) == 0:
        cards = cards.reshape(len(sizes), -1)[drawn].reshape(-1)
    else:
        starts = (np.cumsum(sizes) - sizes)[drawn]
        cards = cards[np.arange(len(cards)) + np.repeat(starts - offsets[:-1], sizes[drawn])]
    order = Order(
        scene=(cards >> _CHIP).astype(np.int32),
        chip=cards.astype(np.int32),
        offsets=offsets,
        left_over=left,
    )
    for array in (order.scene, order.chip, order.offsets, order.left_over):
        array.flags.writeable = False
    return order
