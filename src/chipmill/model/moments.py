"""Count, mean, deviation and range of values: exact sums, so that order and chunking do not matter.

Sums are kept as fractions without any rounding, and merging two of them is an addition. So however
a data set is divided among workers, and in whatever order their parts come together, mean and
deviation are the same to the last bit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e150
"""Values beyond it are no measurements, and their squares would leave the range of a double."""
_BLOCK = 2**20
"""Values at once: sums of as many squares of 16 bits stay below 2**53, where doubles are whole."""
_SMALL = 2
"""Bytes of an integer whose squares add up exactly as doubles."""
_HALF = 27
"""Bits: the 53 of a double are added up in two halves, each exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What is kept of values: enough for their mean, deviation and range, and to be merged."""

    count: int = 0
    total: Fraction = Fraction(0)
    """Sum of the values, exact."""
    squares: Fraction = Fraction(0)
    """Sum of the squares; exact but for squares that no double holds, each rounded once."""
    minimum: float = math.inf
    maximum: float = -math.inf

    def __add__(self, other: "Moments") -> "Moments":
        """Merge with the moments of other values."""
        return Moments(
            count=self.count + other.count,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float | None:
        """The arithmetic mean; None of nothing."""
        return float(self.total / self.count) if self.count else None

    @property
    def std(self) -> float | None:
        """The standard deviation over all values (not of a sample of them); None of nothing."""
        if not self.count:
            return None
        # Squares that were rounded once can leave a trace below zero where all values are the same.
        variance = self.squares / self.count - (self.total / self.count) ** 2
        return math.sqrt(max(variance, Fraction(0)))

    def scaled(self, scale: float, offset: float) -> "Moments":
        """Give the moments of value x scale + offset, as exactly."""
        by, shift = Fraction(scale), Fraction(offset)
        ends = sorted(end * scale + offset for end in (self.minimum, self.maximum))
        if not self.count:
            return self
        return Moments(
            count=self.count,
            total=by * self.total + shift * self.count,
            squares=by**2 * self.squares + 2 * by * shift * self.total + shift**2 * self.count,
            minimum=ends[0],
            maximum=ends[1],
        )


def moments(values: NDArray[Any]) -> Moments:
    """Measure values.

    Args:
        values: Any shape and any real data type; finite, and at most `LARGEST` in size.
    """
    found = Moments()
    for block in _blocks(values.reshape(-1)):
        small = block.dtype.kind in "iu" and block.dtype.itemsize <= _SMALL
        numbers = block.astype(np.float64)
        found += Moments(
            count=len(numbers),
            total=Fraction(float(numbers.sum())) if small else _exact(numbers),
            squares=Fraction(float(numbers @ numbers)) if small else _exact(numbers * numbers),
            minimum=float(numbers.min()),
            maximum=float(numbers.max()),
        )
    return found


def measurable(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell the values that can be measured: neither NaN nor infinite nor absurdly large."""
    if values.dtype.kind != "f":
        return np.ones(values.shape, np.bool_)
    limit = min(LARGEST, float(np.finfo(values.dtype).max))
    return np.asarray(np.abs(values) <= limit)  # a comparison with NaN is false


def decibels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give 10 log10 of the positive ones of some values, in one dimension."""
    return 10 * np.log10(values[values > 0])


def _blocks(flat: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(flat), _BLOCK):
        yield flat[start : start + _BLOCK]


def _exact(values: NDArray[np.float64]) -> Fraction:
    """Add doubles without rounding: whole mantissas, one sum for each exponent."""
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, np.finfo(np.float64).nmant + 1).astype(np.int64)
    least = int(exponent.min())
    place = exponent - least
    high = np.bincount(place, weights=whole >> _HALF)
    low = np.bincount(place, weights=whole & (2**_HALF - 1))
    total = 0
    for step in np.flatnonzero((high != 0) | (low != 0)).tolist():
        total += ((int(high[step]) << _HALF) + int(low[step])) << step
    unit = least - np.finfo(np.float64).nmant - 1
    return Fraction(total << unit) if unit >= 0 else Fraction(total, 1 << -unit)
