"""Read a quality band fast: the same answer as its rule gives, by fewer passes over the pixels.

A rule is asked once what each value means that its band can hold. What it answers is a table of
true and false, which often has a shorter form: some bits of which any is set, or a few stretches
of values. Both are told by operations that go through dozens of pixels at once; only a table
without such a form is looked up pixel by pixel. Each form is made from the table, and so says the
same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.model.quality import QualityRule

Mask = Callable[[NDArray[Any]], NDArray[np.bool_]]

_STRETCHES = 6
"""So many stretches of values are told faster than by looking up."""


def judge(
    rule: QualityRule, dtype: np.dtype[Any]
) -> Callable[[tuple[NDArray[Any], ...]], tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Give what tells nodata, and what is cloud *or* nodata, of the pixels of a quality band.

    A pixel is cloud or nodata, never both: the number of cloud pixels is the difference. Both
    masks have the shape (y, x) of the band.
    """
    if dtype.kind != "u" or dtype.itemsize > np.dtype(np.uint16).itemsize:
        return lambda bands: _plain(rule, bands[0])
    every = np.arange(2 ** (8 * dtype.itemsize), dtype=dtype)
    nodata, cloud = rule.masks(every)
    empty, either = _mask(nodata, every), _mask(nodata | cloud, every)
    return lambda bands: (empty(bands[0]), either(bands[0]))


def _plain(rule: QualityRule, values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    nodata, cloud = rule.masks(values)
    return nodata, nodata | cloud


def _mask(table: NDArray[np.bool_], every: NDArray[Any]) -> Mask:
    """Give the cheapest form of a table that holds one answer for every value."""
    edges = np.flatnonzero(np.diff(table, prepend=False, append=False))
    if len(edges) <= 2 * _STRETCHES:
        tests = [_stretch(first, end, len(table)) for first, end in edges.reshape(-1, 2).tolist()]
        return lambda values: _any(tests, values)
    bits = sum(1 << bit for bit in range(len(table).bit_length() - 1) if table[1 << bit])
    if np.array_equal(table, (every & bits) != 0):
        return lambda values: np.not_equal(np.bitwise_and(values, bits), 0)
    return table.take


def _stretch(first: int, end: int, size: int) -> Mask:
    """Tell the values from `first` to before `end`, of all that are smaller than `size`."""
    if end - first == 1:
        return lambda values: np.equal(values, first)
    if end == size:
        return lambda values: np.greater_equal(values, first)
    if first == 0:
        return lambda values: np.less(values, end)
    # Below the first value the difference wraps around to a large one.
    return lambda values: np.less(np.subtract(values, first), end - first)


def _any(tests: list[Mask], values: NDArray[Any]) -> NDArray[np.bool_]:
    if not tests:
        return np.zeros(values.shape, np.bool_)
    found = tests[0](values)
    for test in tests[1:]:
        found |= test(values)
    return found
