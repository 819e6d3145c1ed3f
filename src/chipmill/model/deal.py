"""Deals like cards: the scenes of a plan to megabatches, the chips of scenes to minibatches."""

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.shuffle import Key, permutation, permutation_within, ranks

_HIGH = np.uint64(1 << 63)


def deal_scenes(
    strata: NDArray[np.integer], *, megabatch: int, seed: int, epoch: int
) -> NDArray[np.int32]:
    """Deal scenes to as few megabatches as hold them, each with the mix of all strata.

    Args:
        strata: Stratum of each scene (its collection, say), shape (scenes,), any integers.
        megabatch: The most scenes that a megabatch holds.
        seed: Seed of the plan, any integer.
        epoch: Epoch, so that each deals anew.

    Returns:
        Number of each scene's megabatch, shape (scenes,). Sizes of megabatches differ by one at
        most, and so do the scenes that each has of any one stratum.

    Raises:
        RequestError: A megabatch of no scenes, or strata that are not one number a scene.
    """
    if megabatch < 1:
        raise RequestError(f"a megabatch cannot hold {megabatch} scenes; ask for 1 or more")
    if strata.ndim != 1:
        raise RequestError(
            f"strata of scenes have the shape {strata.shape}; give one number for each scene"
        )
    if not len(strata):
        return np.empty(0, dtype=np.int32)
    megabatches = -(-len(strata) // megabatch)
    parts = np.unique(strata, return_inverse=True)[1]
    cards = permutation_within(parts, key=("deal scenes", seed, epoch))
    # The last round is short: who gets nothing in it must not be always the high numbers.
    players = permutation(megabatches, key=("deal megabatches", seed, epoch)).astype(np.int32)
    dealt = np.empty(len(strata), dtype=np.int32)
    dealt[cards] = np.resize(players, len(strata))
    return dealt


def deal_chips(scene: NDArray[np.integer], minibatches: int, *, key: Key) -> NDArray[np.int64]:
    """Deal chips to minibatches of even size, no scene twice in one.

    The chips are laid out as rows of a matrix whose columns are the minibatches. A scene meets
    itself in no row and crosses into one row at most; each row is shuffled by itself, but so that
    a scene that crosses into it finds only columns that it does not have yet.

    Args:
        scene: Scene of each chip, shape (chips,), the chips of a scene contiguous.
        minibatches: How many there are; no scene may have more chips.
        key: What the deal depends on.

    Returns:
        Minibatch of each chip, shape (chips,); sizes of minibatches differ by one at most.

    Raises:
        RequestError: A scene has more chips than there are minibatches.
    """
    bounds = np.concatenate(([0], np.flatnonzero(np.diff(scene)) + 1, [len(scene)]))
    most = int(np.diff(bounds).max())
    if most > minibatches:
        raise RequestError(
            f"a scene of {most} chips does not fit in {minibatches} minibatches without meeting "
            "itself; leave some of its chips out"
        )
    if not most:
        return np.empty(0, dtype=np.int64)
    table = _row_shuffles(*_crossings(bounds, minibatches), minibatches, key=key)
    # Each row is told in places of the row above; only now, row by row, in minibatches.
    for row in range(1, len(table)):
        table[row] = table[row - 1][table[row]]
    return table.ravel()[: len(scene)]


def _crossings(
    bounds: NDArray[np.int64], columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the places that the scene which crosses into each row has above it and in it.

    Args:
        bounds: Where scenes begin in the layout, and the end of the last; shape (scenes + 1,).
        columns: Places of a row.

    Returns:
        (above, inside), each of shape (rows, 1). Where a scene begins with the row, above is 0.
    """
    rows = -(-int(bounds[-1]) // columns)
    edges = np.arange(1, rows) * columns
    run = np.searchsorted(bounds, edges, side="right")
    above, inside = np.zeros((2, rows, 1), dtype=np.int64)
    above[1:, 0], inside[1:, 0] = edges - bounds[run - 1], bounds[run] - edges
    return above, inside


def _row_shuffles(
    above: NDArray[np.int64],
    inside: NDArray[np.int64],
    columns: int,
    *,
    key: Key,
) -> NDArray[np.int64]:
    """Draw for each row a permutation whose first places avoid the last places of the row above.

    Args:
        above: Places at the end of the row above that the crossing scene has, shape (rows, 1).
        inside: Places at the start of this row that it has; above + inside <= columns.
        columns: Places of a row.
        key: What the shuffles depend on.

    Returns:
        Shape (rows, columns): for each place one of the row above, uniform among such permutations.
    """
    places = np.arange(columns, dtype=np.uint64)
    first, second = ranks(2 * len(above) * columns, key=key).reshape(2, len(above), columns)
    # What the scene has above goes last, so that its first places here get something else ...
    taken = places >= (columns - above).astype(np.uint64)
    drawn = np.argsort((first >> np.uint64(1)) | (taken * _HIGH), axis=1, kind="stable")
    # ... and then all places but these are shuffled again.
    free = places >= inside.astype(np.uint64)
    again = np.argsort(np.where(free, second | _HIGH, places), axis=1, kind="stable")
    return np.take_along_axis(drawn, again, axis=1)
