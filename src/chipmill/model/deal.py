"""Deals like cards: the scenes of a plan to megabatches, the chips of scenes to minibatches."""

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.shuffle import Key, permutation, permutation_within, ranks

PIECE = 1 << 18
"""Places that are shuffled at a time: they stay in a processor's cache."""

# A key to sort a place by: one bit for what goes last, 32 of randomness, 31 for the place itself,
# so that no two keys are equal and the sorted keys are the permutation.
_PLACE = np.uint64(31)
_PLACES = np.uint64((1 << 31) - 1)
_HALF = np.uint64(32)
_WORD = np.uint64((1 << 32) - 1)
_LAST = np.uint64(1 << 63)

_NONE = np.int64(-1)
"""No card."""
_NOBODY = np.empty(0, np.int32)


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


def deal_chips(
    counts: NDArray[np.integer],
    minibatches: int,
    *,
    key: Key,
    begun: NDArray[np.integer] = _NOBODY,
) -> NDArray[np.int32]:
    """Deal the chips of scenes to minibatches of even size, no scene twice in one.

    The chips are laid out as rows of a matrix whose columns are the minibatches, scene after scene.
    A scene meets itself in no row and crosses into one row at most; each row is shuffled by itself,
    but so that a scene that crosses into it finds only columns that it does not have yet. The
    minibatches of a scene's chips are any, in any order, with equal chance.

    Args:
        counts: Chips of each scene, shape (scenes,), in the order of the layout.
        minibatches: How many there are; no scene may have more chips.
        key: What the deal depends on.
        begun: Minibatches of the first chips, different ones, where they are dealt already; the
            others start a new row of the matrix.

    Returns:
        Minibatch of each chip, shape (chips,); sizes of minibatches differ by one at most.

    Raises:
        RequestError: A scene has more chips than there are minibatches.
    """
    most = int(counts.max(initial=0))
    if most > minibatches:
        raise RequestError(
            f"a scene of {most} chips does not fit in {minibatches} minibatches without meeting "
            "itself; leave some of its chips out"
        )
    if not most:
        return np.empty(0, dtype=np.int32)
    first = -len(begun) % minibatches
    bounds = np.cumsum(np.concatenate(([first], counts)), dtype=np.int64)
    above, inside = _crossings(bounds, minibatches)
    table = np.empty((len(above), minibatches), np.int32)
    step = max(1, PIECE // minibatches)
    for start in range(0, len(table), step):
        rows = slice(start, start + step)
        table[rows] = _row_shuffles(above[rows], inside[rows], minibatches, key=key, start=start)
    if len(begun):
        table[0] = np.concatenate([np.delete(np.arange(minibatches), begun), begun])
    # Each row is told in places of the row above; only now, row by row, in minibatches.
    for row in range(1, len(table)):
        table[row] = table[row - 1][table[row]]
    return table.reshape(-1)[first : int(bounds[-1])]


def hands(
    cards: NDArray[np.int64], dealt: NDArray[np.int32], minibatches: int, *, key: Key
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Collect what each minibatch was dealt, in random places.

    Args:
        cards: What is dealt, shape (chips,), numbers of 0 or more.
        dealt: Minibatch of each card, as `deal_chips` gives it, shape (chips,).
        minibatches: How many there are.
        key: What the places depend on.

    Returns:
        The cards, minibatch after minibatch, shape (chips,); and how many each minibatch has, shape
        (minibatches,).
    """
    rows = -(-len(cards) // minibatches)
    table = np.full((rows, minibatches), _NONE)
    for row, start in enumerate(range(0, len(cards), minibatches)):
        part = slice(start, start + minibatches)
        table[row, dealt[part]] = cards[part]
    held = np.empty((minibatches, rows), np.int64)
    step = max(1, PIECE // max(1, rows))
    for start in range(0, minibatches, step):
        part = np.ascontiguousarray(table[:, start : start + step].T)
        held[start : start + step] = _seated(part, key=key, start=start)
    sizes = np.full(minibatches, rows) - (table[-1:] == _NONE).sum(axis=0)
    return held[held != _NONE] if len(cards) % minibatches else held.reshape(-1), sizes


def _seated(part: NDArray[np.int64], *, key: Key, start: int) -> NDArray[np.int64]:
    """Shuffle each row of a table; where the last place has no card it stays without."""
    rows, columns = part.shape
    keys = ranks(rows * columns, key=key, start=start * columns).reshape(part.shape)
    keys &= ~_PLACES
    keys |= np.arange(columns, dtype=np.uint64)
    keys[:, -1] |= (part[:, -1] == _NONE) * ~_PLACES
    keys.sort(axis=1)
    return np.take_along_axis(part, (keys & _PLACES).view(np.int64), axis=1)


def _crossings(
    bounds: NDArray[np.int64], columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the places that the scene which crosses into each row has above it and in it.

    Args:
        bounds: Where each scene begins in the layout, and where the last one ends, shape
            (scenes + 1,).
        columns: Places of a row.

    Returns:
        (above, inside), each of shape (rows, 1). Where a scene begins with the row, both are 0.
    """
    rows = -(-int(bounds[-1]) // columns)
    edges = np.arange(1, rows) * columns
    run = np.searchsorted(bounds[1:], edges, side="right")
    starts, stops = bounds[run], bounds[run + 1]
    above, inside = np.zeros((2, rows, 1), dtype=np.int64)
    above[1:, 0] = edges - starts
    inside[1:, 0] = (stops - edges) * (starts < edges)
    return above, inside


def _row_shuffles(
    above: NDArray[np.int64],
    inside: NDArray[np.int64],
    columns: int,
    *,
    key: Key,
    start: int,
) -> NDArray[np.uint64]:
    """Draw for each row a permutation whose first places avoid the last places of the row above.

    Args:
        above: Places at the end of the row above that the crossing scene has, shape (rows, 1).
        inside: Places at the start of this row that it has; above + inside <= columns.
        columns: Places of a row.
        key: What the shuffles depend on.
        start: Number of the first of these rows.

    Returns:
        Shape (rows, columns): for each place one of the row above, uniform among such permutations.
    """
    places = np.arange(columns, dtype=np.uint64)
    words = ranks(len(above) * columns, key=key, start=start * columns).reshape(-1, columns)
    # Half of each word is for this sort, half for the choice below.
    drawn = (words >> _HALF) << _PLACE
    drawn |= places
    drawn.sort(axis=1)
    drawn &= _PLACES
    taken = drawn >= (columns - above).astype(np.uint64)
    free = places >= inside.astype(np.uint64)
    conflict = taken & ~free
    # What the scene has above changes places with as many others, at random.
    words &= _WORD
    words <<= _PLACE
    words |= places + np.uint64(1)
    words[taken | ~free] = _LAST
    chosen = _smallest(words, np.count_nonzero(conflict, axis=1, keepdims=True))
    drawn[chosen], drawn[conflict] = drawn[conflict], drawn[chosen]
    return drawn


def _smallest(keys: NDArray[np.uint64], counts: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Mark the smallest keys of each row, `counts` of them, shape (rows, 1); no key is 0."""
    most = int(counts.max(initial=0))
    if not most:
        return np.zeros(keys.shape, np.bool_)
    # Filled up with zeros, all rows have the last of the smallest in one column.
    filling = np.where(np.arange(most) < most - counts, np.uint64(0), _LAST)
    split = np.partition(np.concatenate([keys, filling], axis=1), most - 1, axis=1)
    return keys <= split[:, most - 1 : most]
