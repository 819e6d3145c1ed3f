"""Read a quality band fast: the same answer as its rule gives, by fewer passes over the pixels.

A rule is asked once what each value means that its band can hold. What it answers is a table of
true and false, which often has a shorter form: some bits of which any is set, or a few stretches
of values. Both are told by operations that go through dozens of pixels at once; only a table
without such a form is looked up pixel by pixel. Each form is made from the table, and so says the
same. Where the upper byte of a pixel says nothing, only the lower one is looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.model.quality import QualityRule
from chipmill.model.scratch import Scratch

Mask = Callable[[NDArray[Any], NDArray[np.bool_], NDArray[Any]], object]
"""Tells something of values (y, x), and writes it into an array of the same shape; a third one, of
the shape and the type of the values, is room for what comes between."""

_OF_BITS = 3
"""Passes over the pixels that a test of bits takes, at most."""
_LOOKED_UP = 15
"""Looking up costs as much as so many passes over the pixels."""
_LESS = 2
"""So many passes is one that tells less from more: processors have no such comparison of bytes
without a sign."""
_FEW = 32
"""Values of which it is looked for bits that they have in common."""
_BYTE, _BOOL = np.dtype(np.uint8), np.dtype(np.bool_)


@dataclass(frozen=True, slots=True)
class Judge:
    """What a rule says of the pixels of a band of one data type."""

    masks: Callable[[tuple[NDArray[Any], ...], NDArray[np.bool_]], None]
    """Tells nodata, and what is cloud *or* nodata, of the pixels (y, x) of a band; writes it into
    an array (2, y, x). A pixel is cloud or nodata, never both: the cloud is the difference."""
    strange: Callable[[NDArray[Any]], tuple[int, int]] | None
    """Counts the pixels that the rule cannot be meant for, and those that are not nodata; None: it
    can be meant for all."""


def judge(rule: QualityRule, dtype: np.dtype[Any], scratch: Scratch) -> Judge:
    """Make the fast form of a rule for the pixels of a data type."""
    if dtype.kind != "u" or dtype.itemsize > np.dtype(np.uint16).itemsize:
        return Judge(
            lambda bands, out: _plain(rule, bands[0], out),
            (lambda values: _plainly_strange(rule, values)) if rule.always else None,
        )
    every = np.arange(2 ** (8 * dtype.itemsize), dtype=dtype)
    nodata, cloud = rule.masks(every)
    always, _ = replace(rule, nodata=rule.always).masks(every)
    tables = np.stack([nodata, nodata | cloud, ~(always | nodata)])
    lower = _lower(tables)
    looked = tables if lower is None else lower
    kind = dtype if lower is None else _BYTE
    empty, either, odd = (_mask(table, scratch) for table in looked)

    def pixels(values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype == kind:
            return values
        found = scratch.array("lower", values.shape, kind)
        np.copyto(found, values, casting="unsafe")
        return found

    def masks(bands: tuple[NDArray[Any], ...], out: NDArray[np.bool_]) -> None:
        values = pixels(bands[0])
        room = scratch.array("room", values.shape, kind)
        empty(values, out[0], room)
        either(values, out[1], room)

    def strange(values: NDArray[Any]) -> tuple[int, int]:
        values = pixels(values)
        found = scratch.array("sample", values.shape, _BOOL)
        room = scratch.array("room", values.shape, kind)
        odd(values, found, room)
        count = _count(found)
        empty(values, found, room)
        return count, values.size - _count(found)

    return Judge(masks, strange if rule.always else None)


def _plain(rule: QualityRule, values: NDArray[Any], out: NDArray[np.bool_]) -> None:
    nodata, cloud = rule.masks(values)
    out[0] = nodata
    np.logical_or(nodata, cloud, out=out[1])


def _plainly_strange(rule: QualityRule, values: NDArray[Any]) -> tuple[int, int]:
    data = values.size - _count(rule.masks(values)[0])
    return round(rule.strange(values) * data), data


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _lower(tables: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Give the tables of the lower byte, shape (tables, 256), where the upper one says nothing."""
    by_upper = tables.reshape(len(tables), -1, 2**8)
    return by_upper[:, 0] if (by_upper == by_upper[:, :1]).all() else None


def _mask(table: NDArray[np.bool_], scratch: Scratch) -> Mask:
    """Give the cheapest form of a table that holds one answer for every value."""
    size = len(table)
    edges = np.flatnonzero(np.diff(table, prepend=False, append=False))
    stretches = [(first, end) for first, end in edges.reshape(-1, 2).tolist()]
    passes = sum(1 + _stretch_passes(first, end, size) for first, end in stretches) - 1
    for wanted in (True, False):
        bits = sum(1 << bit for bit in range(size.bit_length() - 1) if table[1 << bit] == wanted)
        if passes > _OF_BITS and np.array_equal(table == wanted, (np.arange(size) & bits) != 0):
            return _bits(bits, size, wanted=wanted)
    values = np.flatnonzero(table).tolist()
    if len(values) <= _FEW:
        sets = common_bits(values, size - 1)
        if sum(2 + (bits != size - 1) for bits, _ in sets) - 1 < min(passes, _LOOKED_UP):
            return _any([_same_bits(bits, value, size) for bits, value in sets], scratch)
    if passes > _LOOKED_UP:
        return lambda values, out, _: table.take(values, out=out, mode="clip")
    return _any([_stretch(first, end, size) for first, end in stretches], scratch)


def common_bits(values: list[int], every: int) -> list[tuple[int, int]]:
    """Divide values into few sets, each of all values that agree in some bits.

    Pairs of sets that differ in one bit are one larger set, again and again (Quine, "The problem of
    simplifying truth functions", 1952); of these, what holds most values for its passes is taken.

    Args:
        values: The values.
        every: All bits that a value can have.

    Returns:
        For each set the bits and what they are: together they hold these values and no others.
    """
    found: dict[tuple[int, int], frozenset[int]] = {
        (every, value): frozenset((value,)) for value in values
    }
    grown = dict(found)
    while grown:
        grown = {
            (bits & ~bit, value & ~bit): held | grown[bits, value ^ bit]
            for (bits, value), held in grown.items()
            for bit in (1 << place for place in range(every.bit_length()))
            if bits & bit and (bits, value ^ bit) in grown
        }
        found |= grown
    left, taken = set(values), list[tuple[int, int]]()
    while left:
        best = max(found, key=lambda one: len(found[one] & left) / (2 + (one[0] != every)))
        taken.append(best)
        left -= found[best]
    return taken


def _same_bits(bits: int, value: int, size: int) -> Mask:
    """Tell the values of which some bits are as they are in one."""
    if bits == size - 1:
        return _stretch(value, value + 1, size)
    looked, same = _number(bits, size), _number(value, size)
    return lambda values, out, room: np.equal(
        np.bitwise_and(values, looked, out=room), same, out=out
    )


def _number(value: int, size: int) -> NDArray[Any]:
    """Give a number in the type of all that are smaller than `size`: NumPy is asked often."""
    return np.array(value, np.min_scalar_type(size - 1))


def _stretch_passes(first: int, end: int, size: int) -> int:
    if end - first == 1:
        return 1
    return _LESS if first == 0 or end == size else 1 + _LESS


def _bits(bits: int, size: int, *, wanted: bool) -> Mask:
    """Tell where any of some bits is set, or none."""
    looked, nothing = _number(bits, size), _number(0, size)
    if wanted and bits == 1 and size == 2**8:  # the bit is the answer
        return lambda values, out, _: np.bitwise_and(values, looked, out=out.view(_BYTE))
    test = np.not_equal if wanted else np.equal
    return lambda values, out, room: test(
        np.bitwise_and(values, looked, out=room), nothing, out=out
    )


def _stretch(first: int, end: int, size: int) -> Mask:
    """Tell the values from `first` to before `end`, of all that are smaller than `size`."""
    least = _number(first, size)
    if end - first == 1:
        return lambda values, out, _: np.equal(values, least, out=out)
    if end == size:
        return lambda values, out, _: np.greater_equal(values, least, out=out)
    if first == 0:
        beyond = _number(end, size)
        return lambda values, out, _: np.less(values, beyond, out=out)
    # Below the first value the difference wraps around to a large one.
    length = _number(end - first, size)
    return lambda values, out, room: np.less(np.subtract(values, least, out=room), length, out=out)


def _any(tests: list[Mask], scratch: Scratch) -> Mask:
    """Tell where any of some tests says yes."""
    if not tests:
        return lambda _, out, __: out.fill(0)
    first, *others = tests
    if not others:
        return first

    def any_of(values: NDArray[Any], out: NDArray[np.bool_], room: NDArray[Any]) -> None:
        first(values, out, room)
        found = scratch.array("found", out.shape, _BOOL)
        for each in others:
            each(values, found, room)
            np.logical_or(out, found, out=out)

    return any_of
