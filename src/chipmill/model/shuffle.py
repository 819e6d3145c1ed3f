"""Randomness that is a pure function of a key: the same on every machine and NumPy version."""

import hashlib
import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

Key = Sequence[SupportsIndex | str]
"""What randomness depends on: any integers (negative and large ones too), and words that name the
use, so that two uses of one seed are independent."""

# SplitMix64: the increment of Steele, Lea and Flood, "Fast splittable pseudorandom number
# generators" (OOPSLA 2014), and the mixer of Vigna's public-domain splitmix64.c (Stafford's variant
# 13). NumPy's own generators would not do: their shuffles may change with a release.
_GAMMA = 0x9E3779B97F4A7C15
_MIXER = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_WORD = 64
_MASK = (1 << _WORD) - 1


def ranks(n: int, *, key: Key, start: int = 0) -> NDArray[np.uint64]:
    """Give each of n things a random rank that depends on the key and its index alone.

    Args:
        n: How many things.
        key: What the ranks depend on.
        start: Index of the first of them, so that ranks can be made in pieces.

    Returns:
        Shape (n,), uniform over all 64-bit values. No two are equal: the mixer is a bijection.
    """
    return ranks_of(np.arange(start, start + n, dtype=np.uint64), key=key)


def ranks_of(index: NDArray[np.uint64], *, key: Key) -> NDArray[np.uint64]:
    """Give things of any index the rank that `ranks` gives them; same shape as `index`."""
    return _mixed((index + np.uint64(1)) * np.uint64(_GAMMA) + np.uint64(_state(key)))


def permutation(n: int, *, key: Key) -> NDArray[np.int64]:
    """Shuffle 0 to n - 1; shape (n,), the order of `ranks` with the same key."""
    return permutation_within(np.zeros(n, np.int64), key=key)


def permutation_within(parts: NDArray[np.integer], *, key: Key) -> NDArray[np.int64]:
    """Sort things by part and shuffle them inside each part, in one pass.

    Args:
        parts: Part of each thing, shape (things,), numbered densely from 0.
        key: What the shuffle depends on.

    Returns:
        Shape (things,), indices into `parts`: part 0 first, at random inside. Of each rank as many
        bits count as parts and indices leave of 64; equal ones, which are rare, go by index.
    """
    low = np.uint64(_bits(len(parts) - 1))
    high = np.uint64(_bits(int(parts.max(initial=0))))
    # No two keys are equal, so that every sorting algorithm of every release gives one result; and
    # sorting values is several times as fast as sorting indices by them.
    keys = (ranks(len(parts), key=key) >> (high + low)) << low
    keys |= np.arange(len(parts), dtype=np.uint64)
    if high:
        keys |= parts.astype(np.uint64) << (np.uint64(_WORD) - high)
    keys.sort()
    return (keys & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)


def sample(n: int, count: int, *, key: Key) -> NDArray[np.int64]:
    """Draw `count` of the numbers below n, each set as likely as any other; ascending.

    By the algorithm of Floyd (Bentley and Floyd, "A sample of brilliance", CACM 30(9), 1987), which
    costs as many steps as are drawn, however large n is.
    """
    draws = (ranks(count, key=key) % np.arange(n - count + 1, n + 1, dtype=np.uint64)).tolist()
    drawn: set[int] = set()
    for last, number in enumerate(draws, start=n - count):
        drawn.add(last if number in drawn else number)
    return np.array(sorted(drawn), np.int64)


def _bits(largest: int) -> int:
    """Count the bits that numbers up to `largest` take."""
    return max(0, largest).bit_length()


def _state(key: Key) -> int:
    """Hash a key into the starting state of its stream; the empty key starts at 0."""
    state = 0
    for word in key:
        state = _absorbed(state, _folded(word))
    return state


def _folded(word: SupportsIndex | str) -> int:
    """Fold a word into 64 bits; integers of 64 bits with sign stay distinct."""
    if isinstance(word, str):
        return int.from_bytes(hashlib.sha256(word.encode()).digest()[: _WORD // 8], "big")
    number, state = operator.index(word), 0
    while not -(1 << _WORD - 1) <= number < 1 << _WORD - 1:
        state = _absorbed(state, number & _MASK)
        number >>= _WORD
    return state ^ (number & _MASK)


def _absorbed(state: int, word: int) -> int:
    """Hash one more word of 64 bits into a state, as the next number of its stream."""
    start = ((state ^ word) + _GAMMA) & _MASK
    return int(_mixed(np.array([start], dtype=np.uint64))[0])


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble each word, in place, so that every bit of it moves half of the bits; a bijection."""
    shifted = np.empty_like(words)
    for shift, factor in _MIXER:
        words ^= np.right_shift(words, np.uint64(shift), out=shifted)
        words *= np.uint64(factor)
    words ^= np.right_shift(words, np.uint64(_LAST_SHIFT), out=shifted)
    return words
