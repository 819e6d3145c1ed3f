"""Coarser bands on the finest grid."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from chipmill.train.gather import to_finest


@given(height=st.integers(1, 24), width=st.integers(1, 24), size=st.integers(1, 24))
def test_a_pixel_is_the_one_at_the_floor_of_its_place(height: int, width: int, size: int) -> None:
    """The rule that is documented, one pixel after the other: floor(i * coarse / size)."""
    band = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    found = to_finest(band, size=size)
    expected = [
        [band[int(y * height / size + 1e-9), int(x * width / size + 1e-9)] for x in range(size)]
        for y in range(size)
    ]
    np.testing.assert_array_equal(found, expected)


@given(edge=st.integers(1, 16), ratio=st.integers(1, 8))
def test_whole_ratios_repeat_each_pixel_equally(edge: int, ratio: int) -> None:
    """A 20 m band on a 10 m grid is each pixel four times: no shift, no blend."""
    band = np.arange(edge * edge, dtype=np.float32).reshape(edge, edge)
    expected = band.repeat(ratio, axis=0).repeat(ratio, axis=1)
    np.testing.assert_array_equal(to_finest(band, size=edge * ratio), expected)
