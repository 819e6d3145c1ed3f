"""How the scenes of a group fill its minibatches: how many there are, and what is left over."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chipmill.model.shuffle import Key, permutation, permutation_within, sample

Leftover = Literal["drop", "spread"]
"""What becomes of chips that fit in no full minibatch: no use, or shorter minibatches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fill:
    """What a group gives; known from the counts of its scenes alone, before any chip is drawn.

    Arrays have the shape (scenes,), the scenes of the group in random order.
    """

    scene: NDArray[np.int64]
    """Number of each scene in the megabatch."""

    kept: NDArray[np.int64]
    """Chips of each scene that are in full minibatches."""

    rest: NDArray[np.int64]
    """Its other chips."""

    full: int
    """Minibatches of exactly `size` chips."""

    shorter: int
    """Further minibatches, of the rest; 0 where the rest is dropped."""

    def __len__(self) -> int:
        """Count the minibatches."""
        return self.full + self.shorter

    @property
    def left_over(self) -> NDArray[np.int64]:
        """Chips of each scene that are in no minibatch."""
        return self.rest if not self.shorter else np.zeros_like(self.rest)


def fill_group(
    scenes: NDArray[np.integer],
    counts: NDArray[np.int64],
    *,
    size: int,
    leftover: Leftover,
    key: Key,
) -> Fill:
    """Work out what a group gives: as many full minibatches as the law "no scene twice" allows.

    Args:
        scenes: Number of each scene, shape (scenes,).
        counts: Chips of each scene, shape (scenes,).
        size: Chips of a full minibatch.
        leftover: What becomes of the others.
        key: What the choice depends on.

    Returns:
        The fill. Beyond the chips that no order could take, fewer than `size` are left over, and
        each chip is as likely as any other to be one of them.
    """
    drawn = permutation(len(scenes), key=("order scenes", *key))
    chips = counts[drawn]
    full = full_minibatches(chips, size=size)
    fitting = np.minimum(chips, full)
    stops = np.cumsum(fitting)
    surplus = int(fitting.sum()) - full * size
    cut = sample(full * size + surplus, surplus, key=("order cut", *key))
    owner = np.searchsorted(stops, cut, side="right")
    kept = fitting - np.bincount(owner, minlength=len(chips))
    rest = chips - kept
    left = int(rest.sum())
    shorter = max(-(-left // size), int(rest.max(initial=0))) if leftover == "spread" else 0
    return Fill(
        scene=scenes[drawn].astype(np.int64), kept=kept, rest=rest, full=full, shorter=shorter
    )


def in_groups(fill: Fill, groups: NDArray[np.integer]) -> Fill:
    """Put the scenes of a fill group after group, in each still in random order.

    Args:
        fill: What scenes of several groups give together.
        groups: Group of each of its scenes, shape (scenes,).
    """
    drawn = np.argsort(groups, kind="stable")
    scene, kept, rest = fill.scene[drawn], fill.kept[drawn], fill.rest[drawn]
    return replace(fill, scene=scene, kept=kept, rest=rest)


def full_minibatches(counts: NDArray[np.integer], *, size: int) -> int:
    """Find the largest M with sum(min(c, M)) >= M * size over the scenes of c chips.

    By the theorem of Gale and Ryser, M minibatches of `size` chips without a scene twice exist
    exactly then. The sum is concave in M, so that the law holds up to its largest M and not beyond.
    """
    lawful, unlawful = 0, int(counts.sum()) // size + 1
    while unlawful - lawful > 1:
        tried = (lawful + unlawful) // 2
        if int(np.minimum(counts, tried).sum()) >= tried * size:
            lawful = tried
        else:
            unlawful = tried
    return lawful


def chips_of(fill: Fill, *, key: Key) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Say which chips of each scene are kept and which are the rest: any, with equal chance.

    Returns:
        The indices of the kept chips in their scenes, scene after scene, and those of the rest. A
        scene without a rest keeps its chips in their own order: dealing makes it random.
    """
    kept, rest = _counted(fill.kept), _counted(fill.rest)
    split = fill.rest > 0
    chips = np.where(split, fill.kept + fill.rest, 0)
    owner = np.repeat(np.arange(len(chips)), chips)
    starts = np.cumsum(chips) - chips
    shuffled = permutation_within(owner, key=("order chips", *key)) - starts[owner]
    first = np.arange(len(owner)) - starts[owner] < fill.kept[owner]
    kept[np.repeat(split, fill.kept)] = shuffled[first]
    rest[:] = shuffled[~first]
    return kept, rest


def _counted(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Count from 0 in each scene: [2, 3] gives [0, 1, 0, 1, 2]."""
    starts = np.cumsum(counts) - counts
    counted = np.arange(int(counts.sum()), dtype=np.int32)
    counted -= np.repeat(starts.astype(np.int32), counts)
    return counted
