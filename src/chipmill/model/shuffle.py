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


def ranks(n: int, *, key: Key) -> NDArray[np.uint64]:
    """Give each of n things a random rank that depends on the key and its index alone.

    Args:
        n: How many things.
        key: What the ranks depend on.

    Returns:
        Shape (n,), uniform over all 64-bit values. No two are equal: the mixer is a bijection.
    """
    counter = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    return _mixed(counter + np.uint64(_state(key)))


def permutation(n: int, *, key: Key) -> NDArray[np.int64]:
    """Shuffle 0 to n - 1; shape (n,), the order of `ranks` with the same key."""
    return np.argsort(ranks(n, key=key), kind="stable").astype(np.int64, copy=False)


def permutation_within(parts: NDArray[np.integer], *, key: Key) -> NDArray[np.int64]:
    """Sort things by part and shuffle them inside each part, in one pass.

    Args:
        parts: Part of each thing, shape (things,), numbered densely from 0: the bits that the
            largest number takes are lost for the ranks.
        key: What the shuffle depends on.

    Returns:
        Shape (things,), indices into `parts`: part 0 first, at random inside.
    """
    bits = max(1, int(parts.max(initial=0)).bit_length())
    high = parts.astype(np.uint64) << np.uint64(_WORD - bits)
    # Equal keys are rare and go by index: a stable sort makes even them the same everywhere.
    keys = high | (ranks(len(parts), key=key) >> np.uint64(bits))
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


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
    """Scramble each word so that every bit of it moves half of the bits; a bijection."""
    for shift, factor in _MIXER:
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(_LAST_SHIFT))
