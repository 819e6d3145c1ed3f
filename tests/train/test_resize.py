"""Coarser bands on the finest grid."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from PIL import Image

from chipmill.train.resize import to_finest


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


@given(height=st.integers(1, 12), width=st.integers(1, 12), more=st.integers(0, 24))
def test_bilinear_is_what_others_compute(height: int, width: int, more: int) -> None:
    """Pillow enlarges with the same half-pixel rule: an independent reading of the formula."""
    size = max(height, width) + more
    band = np.random.default_rng(size).random((height, width)).astype(np.float32)
    expected = np.asarray(Image.fromarray(band).resize((size, size), Image.Resampling.BILINEAR))
    found = np.asarray(to_finest(band, size=size, resize="bilinear"), np.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@given(value=st.integers(0, 65535), edge=st.integers(1, 8), size=st.integers(8, 16))
def test_bilinear_keeps_type_and_flat_fields(value: int, edge: int, size: int) -> None:
    """Weights add up to one: a flat field stays what it is, to the last digital number."""
    band = np.full((edge, edge), value, np.uint16)
    found = to_finest(band, size=size, resize="bilinear")
    assert found.dtype == np.uint16
    assert (found == value).all()
