"""The order of a megabatch: which chips make each minibatch, no two of them of one scene."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.deal import deal_chips
from chipmill.model.shuffle import Key, permutation, permutation_within, ranks

ORDER_VERSION = 1
"""Changes whenever the same inputs would give another order; a run resumes in its own only."""

Leftover = Literal["drop", "spread"]
"""What becomes of chips that fit in no full minibatch: no use, or shorter minibatches."""


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
) -> Order:
    """Put the chips of a megabatch in order: each at most once, no scene twice in a minibatch.

    Each group gets as many minibatches of exactly `size` chips as the law "no scene twice" allows.

    Args:
        counts: Usable chips of each scene, shape (scenes,).
        groups: Group of each scene, shape (scenes,), any integers; a minibatch is of one group.
        size: Chips of a minibatch over all ranks.
        seed: Seed of the plan, any integer.
        epoch: Epoch, so that each has its own order.
        megabatch: Number of the megabatch in its plan.
        leftover: `drop` leaves the chips that fit in no full minibatch out; `spread` makes shorter
            minibatches of them, so that every chip comes exactly once.

    Returns:
        The order, a pure function of the arguments and ORDER_VERSION.

    Raises:
        RequestError: A size below 1, a negative count, arrays that are not one number a scene, or
            an unknown `leftover`.
    """
    _check(counts, groups, size=size, leftover=leftover)
    key = (seed, epoch, megabatch)
    chips = counts.astype(np.int64, casting="same_kind")
    laid = _laid_out(chips, groups, key=key)
    minibatch = np.full(len(laid.scene), -1, dtype=np.int64)
    start = minibatches = 0
    for group, stop in enumerate(laid.stops):
        dealt = _dealt(laid, slice(start, stop), size=size, leftover=leftover, key=(*key, group))
        minibatch[start:stop] = np.where(dealt < 0, -1, dealt + minibatches)
        minibatches += int(dealt.max(initial=-1)) + 1
        start = stop
    return _shuffled(laid, minibatch, chips, key=key)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """All chips in a row: by group, then by scene, in seeded order."""

    scene: NDArray[np.int64]
    """Scene of each chip, shape (chips,)."""

    chip: NDArray[np.int64]
    """Index of each chip in its scene."""

    turn: NDArray[np.int64]
    """How many chips of its scene lie before each chip."""

    stops: list[int]
    """Where the chips of each group end, groups ascending."""


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


def _laid_out(
    chips: NDArray[np.int64], groups: NDArray[np.integer], *, key: tuple[int, ...]
) -> _Layout:
    """Lay all chips out, scenes of a group and chips of a scene contiguous, each at random."""
    parts = np.unique(groups, return_inverse=True)[1]
    scenes = permutation_within(parts, key=("order scenes", *key))
    stops = np.cumsum(chips[scenes])
    run = np.repeat(np.arange(len(scenes)), chips[scenes])
    turn = np.arange(len(run)) - (stops - chips[scenes])[run]
    last = np.cumsum(np.bincount(parts)) - 1
    return _Layout(
        scene=scenes[run],
        chip=turn[permutation_within(run, key=("order chips", *key))],
        turn=turn,
        stops=stops[last].tolist(),
    )


def _dealt(
    laid: _Layout, part: slice, *, size: int, leftover: Leftover, key: tuple[int, ...]
) -> NDArray[np.int64]:
    """Number the minibatch of each chip of one group from 0; -1 is none. Shape (chips,)."""
    scene, turn = laid.scene[part], laid.turn[part]
    full = _full_minibatches(turn, size=size)
    used = _used(turn, full, size=size, key=("order cut", *key))
    number = np.full(len(scene), -1, dtype=np.int64)
    number[used] = deal_chips(scene[used], full, key=("order rows", *key))
    rest = scene[~used]
    if leftover == "spread" and len(rest):
        widest = int(np.bincount(rest).max())
        shorter = max(-(-len(rest) // size), widest)
        number[~used] = full + deal_chips(rest, shorter, key=("order rest", *key))
    return number


def _full_minibatches(turn: NDArray[np.int64], *, size: int) -> int:
    """Find the largest M with sum(min(c, M)) >= M * size over the scenes of c chips.

    By the theorem of Gale and Ryser, M minibatches of `size` chips without a scene twice exist
    exactly then. The sum is concave in M, so that the law holds up to its largest M and not beyond.
    """
    reach = np.cumsum(np.bincount(turn))  # reach[M - 1] is the sum
    lawful = reach // np.arange(1, len(reach) + 1) >= size
    return len(turn) // size if lawful.all() else int(lawful.argmin())


def _used(turn: NDArray[np.int64], full: int, *, size: int, key: Key) -> NDArray[np.bool_]:
    """Choose full * size chips, at most `full` of a scene; shape (chips,), True is chosen."""
    used = turn < full
    fitting = np.flatnonzero(used)
    surplus = len(fitting) - full * size
    if surplus:
        # Fewer than `size`, and each chip is as likely as any other to be one of them.
        cut = np.argpartition(ranks(len(fitting), key=key), surplus)[:surplus]
        used[fitting[cut]] = False
    return used


def _shuffled(
    laid: _Layout,
    minibatch: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    key: tuple[int, ...],
) -> Order:
    """Shuffle the minibatches of all groups together, and the places within each."""
    used = minibatch >= 0
    minibatches = int(minibatch.max(initial=-1)) + 1
    number = permutation(minibatches, key=("order minibatches", *key))[minibatch[used]]
    places = permutation_within(number, key=("order places", *key))
    scene = laid.scene[used][places]
    order = Order(
        scene=scene.astype(np.int32),
        chip=laid.chip[used][places].astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum(np.bincount(number, minlength=minibatches)))),
        left_over=counts - np.bincount(scene, minlength=len(counts)),
    )
    for array in (order.scene, order.chip, order.offsets, order.left_over):
        array.flags.writeable = False
    return order
