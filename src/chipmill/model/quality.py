"""Tell cloud and nodata from a quality band."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """A quality band whose values are classes."""

    keys: tuple[str, ...]
    """Asset keys of the quality band, best first."""
    nodata: tuple[int, ...]
    cloud: tuple[int, ...]

    def masks(self, values: NDArray[np.integer]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell nodata and cloud of values (y, x): two masks of the same shape."""
        return np.isin(values, self.nodata), np.isin(values, self.cloud)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitRule:
    """A quality band whose values are bit fields."""

    keys: tuple[str, ...]
    """Asset keys of the quality band, best first."""
    nodata: tuple[int, ...]
    """Numbers of the bits that mean nodata; bit 0 is the lowest."""
    cloud: tuple[int, ...]

    def masks(self, values: NDArray[np.integer]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell nodata and cloud of values (y, x): two masks of the same shape; nodata wins."""
        nodata = (values & _mask(self.nodata)) != 0
        return nodata, ((values & _mask(self.cloud)) != 0) & ~nodata


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Some values of a word of several bits inside a bit field."""

    first: int
    """Number of its lowest bit; bit 0 is the lowest of the field."""
    width: int
    """How many bits it has."""
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordRule:
    """A quality band whose values are bit fields with words of several bits."""

    keys: tuple[str, ...]
    """Asset keys of the quality band, best first."""
    nodata: tuple[int, ...]
    """Values of the whole field that mean nodata: a fill value."""
    cloud: tuple[Word, ...]
    """A pixel is cloud when any of these words has any of its values."""

    def masks(self, values: NDArray[np.integer]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell nodata and cloud of values (y, x): two masks of the same shape; nodata wins."""
        nodata = np.isin(values, self.nodata)
        cloud = np.zeros(values.shape, np.bool_)
        for word in self.cloud:
            cloud |= np.isin((values >> word.first) & _mask(tuple(range(word.width))), word.values)
        return nodata, cloud & ~nodata


QualityRule = ClassRule | BitRule | WordRule


def _mask(bits: tuple[int, ...]) -> int:
    return sum(1 << bit for bit in bits)
