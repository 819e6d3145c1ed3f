"""Chips of several groups in the same minibatches, each group in proportion to its chips."""

import numpy as np
from numpy.typing import NDArray

from chipmill.model.deal import deal_chips
from chipmill.model.shuffle import Key


def blend_chips(
    counts: NDArray[np.integer],
    groups: NDArray[np.integer],
    minibatches: int,
    *,
    key: Key,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Deal the chips of all groups to minibatches of even size, no scene twice in one.

    Of a group of n chips, n modulo the minibatches are dealt first: all groups together, as scenes
    are dealt, so that none meets itself. The others fill whole rows, of which each minibatch gets
    one chip. So the chips of a group in two minibatches differ by one at most, and so do all chips.

    Args:
        counts: Chips of each scene, shape (scenes,), group after group.
        groups: Group of each scene, shape (scenes,), ascending.
        minibatches: How many there are; no scene may have more chips.
        key: What the deal depends on.

    Returns:
        The chips as they are dealt, as places among all chips, shape (chips,): every run of
        `minibatches` of them goes to different minibatches; and the minibatch of each of these.

    Raises:
        RequestError: A scene has more chips than there are minibatches.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    chips = np.add.reduceat(counts.astype(np.int64), starts) if len(starts) else starts
    begun = chips % minibatches
    first = deal_chips(begun, minibatches, key=("blend", *key))
    rows: list[NDArray[np.int32]] = []
    places: list[NDArray[np.int64]] = []
    begins, ends = np.cumsum(begun) - begun, np.cumsum(chips)
    for number, scenes in enumerate(np.split(counts, starts[1:])):
        few, end = int(begun[number]), int(ends[number])
        of_group = first[begins[number] : begins[number] + few]
        dealt = deal_chips(scenes, minibatches, key=(*key, number), begun=of_group)
        rows.append(dealt[few:])
        places.append(np.arange(end - int(chips[number]) + few, end))
    places.append(np.arange(len(first)) + np.repeat(ends - chips - begins, begun))
    return np.concatenate(places), np.concatenate([*rows, first])
