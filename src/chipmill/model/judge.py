"""Read a quality band fast: the same answer as its rule gives, by fewer passes over the pixels.

A rule is asked once what each value means that its band can hold. What it answers is a table of
true and false, which often has a shorter form: some bits of which any is set, or a few stretches
of values. Both are told by operations that go through dozens of pixels at once; only a table
without such a form is looked up pixel by pixel. Each form is made from the table, and so says the
same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.model.quality import QualityRule

Mask = Callable[[NDArray[Any], NDArray[np.bool_]], object]
"""Tells something of values (y, x), and writes it into an array of the same shape: memory that is
used again stays in the cache."""

_STRETCHES = 6
"""So many stretches of values are told faster than by looking up."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What a rule says of the pixels of a band of one data type."""

    masks: Callable[[tuple[NDArray[Any], ...], NDArray[np.bool_]], None]
    """Tells nodata, and what is cloud *or* nodata, of the pixels (y, x) of a band; writes it into
    an array (2, y, x). A pixel is cloud or nodata, never both: the cloud is the difference."""
    strange: Callable[[NDArray[Any]], tuple[int, int]]
    """Counts the pixels that the rule cannot be meant for, and those that are not nodata."""


def judge(rule: QualityRule, dtype: np.dtype[Any]) -> Judge:
    """Make the fast form of a rule for the pixels of a data type."""
    if dtype.kind != "u" or dtype.itemsize > np.dtype(np.uint16).itemsize:
        return Judge(
            lambda bands, out: _plain(rule, bands[0], out),
            lambda values: _plainly_strange(rule, values),
        )
    every = np.arange(2 ** (8 * dtype.itemsize), dtype=dtype)
    nodata, cloud = rule.masks(every)
    always, _ = replace(rule, nodata=rule.always).masks(every)
    empty, either = _mask(nodata, every), _mask(nodata | cloud, every)
    odd = _mask(~(always | nodata) if rule.always else np.zeros_like(always), every)

    def masks(bands: tuple[NDArray[Any], ...], out: NDArray[np.bool_]) -> None:
        empty(bands[0], out[0])
        either(bands[0], out[1])

    def strange(values: NDArray[Any]) -> tuple[int, int]:
        found = np.empty(values.shape, np.bool_)
        odd(values, found)
        count = _count(found)
        empty(values, found)
        return count, values.size - _count(found)

    return Judge(masks, strange)


def _plain(rule: QualityRule, values: NDArray[Any], out: NDArray[np.bool_]) -> None:
    nodata, cloud = rule.masks(values)
    out[0] = nodata
    np.logical_or(nodata, cloud, out=out[1])


def _plainly_strange(rule: QualityRule, values: NDArray[Any]) -> tuple[int, int]:
    data = values.size - _count(rule.masks(values)[0])
    return round(rule.strange(values) * data), data


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _mask(table: NDArray[np.bool_], every: NDArray[Any]) -> Mask:
    """Give the cheapest form of a table that holds one answer for every value."""
    edges = np.flatnonzero(np.diff(table, prepend=False, append=False))
    if len(edges) <= 2 * _STRETCHES:
        tests = [_stretch(first, end, len(table)) for first, end in edges.reshape(-1, 2).tolist()]
        return lambda values, out: _any(tests, values, out)
    bits = sum(1 << bit for bit in range(len(table).bit_length() - 1) if table[1 << bit])
    if np.array_equal(table, (every & bits) != 0):
        return lambda values, out: np.not_equal(np.bitwise_and(values, bits), 0, out=out)
    return lambda values, out: table.take(values, out=out, mode="clip")


def _stretch(first: int, end: int, size: int) -> Mask:
    """Tell the values from `first` to before `end`, of all that are smaller than `size`."""
    if end - first == 1:
        return lambda values, out: np.equal(values, first, out=out)
    if end == size:
        return lambda values, out: np.greater_equal(values, first, out=out)
    if first == 0:
        return lambda values, out: np.less(values, end, out=out)
    # Below the first value the difference wraps around to a large one.
    return lambda values, out: np.less(np.subtract(values, first), end - first, out=out)


def _any(tests: list[Mask], values: NDArray[Any], out: NDArray[np.bool_]) -> None:
    if not tests:
        out[:] = False
        return
    tests[0](values, out)
    found = np.empty(out.shape if len(tests) > 1 else 0, np.bool_)
    for test in tests[1:]:
        test(values, found)
        np.logical_or(out, found, out=out)
