"""Moments: mean and deviation that no order, no chunk and no rounding changes."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from chipmill.model.moments import LARGEST, Moments, decibels, measurable, moments

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
finite = {"min_value": -(2.0**100), "max_value": 2.0**100}
values = st.sampled_from(DTYPES).flatmap(
    lambda name: arrays(
        name,
        st.integers(1, 60),
        elements=finite if name.startswith("float") else None,
    )
)


@given(pixels=values)
def test_sums_are_exact(pixels: NDArray[np.generic]) -> None:
    """The oracle is Python's own fractions, which never round; float64 squares round once each."""
    found = moments(pixels)
    exact = [Fraction(value) for value in pixels.tolist()]
    assert found.count == len(exact)
    assert found.total == sum(exact)
    squares = sum(value * value for value in exact)
    if pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32:
        assert found.squares == squares
    assert float(found.squares) == pytest.approx(float(squares), rel=1e-14)
    assert (found.minimum, found.maximum) == (min(pixels.tolist()), max(pixels.tolist()))


@given(pixels=values)
def test_mean_and_deviation_are_those_of_the_textbook(pixels: NDArray[np.generic]) -> None:
    """`statistics` of the standard library computes with fractions too."""
    found = moments(pixels)
    numbers = [float(value) for value in pixels.tolist()]
    assert found.mean == pytest.approx(statistics.fmean(numbers), rel=1e-12, abs=1e-300)
    spread = statistics.pstdev(numbers)
    # Squares of less than 1e-154 are below the range of a double.
    slack = max(1e-7 * max(abs(number) for number in numbers), 1e-150)
    assert found.std == pytest.approx(spread, rel=1e-9, abs=slack if spread < slack else 0)


@given(pixels=values, data=st.data())
def test_neither_order_nor_chunks_matter(pixels: NDArray[np.generic], data: st.DataObject) -> None:
    """Whoever measures which part, and when: the merged result is the same to the last bit."""
    shuffled = pixels[data.draw(st.permutations(range(len(pixels))))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pixels)), max_size=5)))
    parts = [moments(part) for part in np.split(shuffled, cuts)]
    merged = Moments()
    for part in data.draw(st.permutations(parts)):
        merged += part
    assert merged == moments(pixels)


@settings(max_examples=25)
@given(
    pixels=arrays("uint16", st.integers(1, 60)),
    scale=st.sampled_from([1.0, 1e-4, 2.75e-05, -2.0]),
    offset=st.sampled_from([0.0, -0.1, -0.2, 149.0]),
)
def test_scaling_moments_is_scaling_values(
    pixels: NDArray[np.uint16], scale: float, offset: float
) -> None:
    """Scenes with other offsets merge in physical values, without reading a pixel again."""
    found = moments(pixels).scaled(scale, offset)
    physical = pixels.astype(np.float64) * scale + offset
    assert found.mean == pytest.approx(physical.mean(), rel=1e-12, abs=1e-12)
    assert found.std == pytest.approx(physical.std(), rel=1e-9, abs=1e-9)
    assert found.minimum == pytest.approx(physical.min(), abs=1e-12)
    assert found.maximum == pytest.approx(physical.max(), abs=1e-12)


def test_many_values_stay_exact() -> None:
    """More values than one block, and such that adding doubles one by one would round them off."""
    pixels = np.full(2**20 + 7, 65535, np.uint16)
    found = moments(pixels)
    assert found.total == 65535 * len(pixels)
    assert found.squares == 65535**2 * len(pixels)
    assert found.std == 0
    far = np.array([1e16, 1.0, -1e16] * 400_000)
    assert moments(far).total == 400_000


def test_nothing_has_no_mean() -> None:
    """An empty band is told from a black one."""
    nothing = moments(np.empty(0, np.uint16))
    assert nothing == Moments() == nothing.scaled(2.0, 1.0)
    assert nothing.mean is nothing.std is None


def test_what_cannot_be_measured_is_told() -> None:
    """NaN, infinities and absurd fill values would spoil a sum of a billion good pixels."""
    pixels = np.array([1.0, math.nan, math.inf, -math.inf, 2 * LARGEST, -3e38])
    assert measurable(pixels).tolist() == [True, False, False, False, False, True]
    assert measurable(np.array([0, 255], np.uint8)).all()
    assert measurable(np.array([3e38, -math.inf], np.float32)).tolist() == [True, False]


def test_decibels_are_of_positive_values() -> None:
    """Zero and negative power have no logarithm: they are left out, not made up."""
    assert decibels(np.array([1.0, 0.0, 10.0, -5.0, 0.001])).tolist() == [0, 10, -30]
