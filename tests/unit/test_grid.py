"""Grids of pixels and of chips."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipmill.errors import SceneError
from chipmill.model.count import Tally, Windows, nodata_mask
from chipmill.model.grid import ChipGrid, Grid, Ratio, nearest, ratio, spans
from chipmill.model.quality import QualityRule, value

edges = st.integers(1, 60)


def grid(height: int, width: int, size: float = 10.0, *, x: float = 0, y: float = 0) -> Grid:
    """Make a north-up grid; x and y move its corner, in metres."""
    corner = (500_000.0 + x, 5_000_000.0 - y)
    transform = (size, 0.0, corner[0], 0.0, -size, corner[1])
    return Grid(height=height, width=width, transform=transform, crs="EPSG:32633")


@given(height=edges, width=edges, size=st.integers(1, 20))
def test_chips_tile_the_scene(height: int, width: int, size: int) -> None:
    """Whole chips only, from the upper left; the rest is told as the remainder."""
    if min(height, width) < size:
        with pytest.raises(SceneError, match=f"no chip of {size} px fits"):
            ChipGrid(grid=grid(height, width), size=size)
        return
    chips = ChipGrid(grid=grid(height, width), size=size)
    assert chips.rows * size <= height < (chips.rows + 1) * size
    assert chips.cols * size <= width < (chips.cols + 1) * size
    corners = chips.corners()
    assert corners.shape == (chips.rows + 1, chips.cols + 1, 2)
    assert corners[0, 0].tolist() == [500_000, 5_000_000]
    assert corners[-1, -1].tolist() == [
        500_000 + 10 * size * chips.cols,
        5_000_000 - 10 * size * chips.rows,
    ]
    used = chips.rows * chips.cols * size**2
    assert chips.remainder == pytest.approx(1 - used / (height * width))


@pytest.mark.parametrize("size", [10.0, 20.0, 60.0, 30.0, 15.0, 14.0])
def test_aligned_grids_have_a_ratio(size: float) -> None:
    """The coarser file may end within its last pixel; the ratio is that of the pixels."""
    fine = grid(128, 100)
    coarse = grid(math.ceil(1280 / size), math.ceil(1000 / size), size)
    found = ratio(coarse, fine=fine, where="both")
    assert found.y == found.x == pytest.approx(size / 10)
    assert found.whole == (size / 10 if size % 10 == 0 else None)


def test_the_panchromatic_band_of_landsat_lies_within_the_others() -> None:
    """As a real item has it: 2n - 1 pixels, half a pixel inside, of 15 m under 30 m."""
    transform = (30.0, 0.0, 594285.0, 0.0, -30.0, -2121285.0)
    others = Grid(height=7821, width=7721, transform=transform, crs="EPSG:32655")
    transform = (15.0, 0.0, 594292.5, 0.0, -15.0, -2121292.5)
    pan = Grid(height=15641, width=15441, transform=transform, crs="EPSG:32655")
    found = ratio(others, fine=pan, where="both")
    assert (found.y, found.x, found.centred, found.inset) == (2, 2, True, (0.5, 0.5))
    assert found.whole is None  # no edge of a chip falls on an edge of a coarse pixel
    given = spans(60, size=256, ratio=2, limit=7721, inset=0.5)
    assert given[:2].tolist() == [[0, 129], [128, 257]]
    assert nearest(1, size=256, ratio=2, limit=7721, inset=0.5)[:3].tolist() == [128, 129, 129]


def test_grids_that_do_not_align_are_refused() -> None:
    """Shifted, of another size on the ground, or of another zone: never silently moved."""
    fine = grid(120, 120)
    other = Grid(height=60, width=60, transform=grid(60, 60, 20).transform, crs="EPSG:32634")
    for coarse in (grid(60, 60, 20, x=1), grid(60, 60, 20, y=-20), grid(59, 60, 20), other):
        with pytest.raises(SceneError, match="band B do not align"):
            ratio(coarse, fine=fine, where="band A and band B")


@given(
    count=st.integers(1, 12),
    size=st.integers(1, 40),
    factor=st.sampled_from([1.0, 2.0, 3.0, 6.0, 1.5, 4 / 3, 0.5]),
    centred=st.booleans(),
)
def test_spans_touch_what_a_chip_touches(
    *, count: int, size: int, factor: float, centred: bool
) -> None:
    """Each coarse pixel under a chip, in part or whole, and no other."""
    inset = Ratio(y=factor, x=factor, centred=centred).inset[0]
    limit = math.ceil((count * size + inset) / factor)
    found = spans(count, size=size, ratio=factor, limit=limit, inset=inset)
    for chip, (first, last) in enumerate(found.tolist()):
        touched = [
            pixel
            for pixel in range(limit)
            if pixel * factor - inset < (chip + 1) * size - 1e-6
            and (pixel + 1) * factor - inset > chip * size + 1e-6
        ]
        assert [first, last] == [touched[0], touched[-1] + 1]


@given(position=st.integers(0, 9), size=st.integers(1, 40), whole=st.integers(1, 7))
def test_nearest_repeats_whole_pixels(position: int, size: int, whole: int) -> None:
    """At a whole ratio the pixel under the middle is the one that holds the fine pixel."""
    limit = math.ceil((position + 1) * size / whole)
    found = nearest(position, size=size, ratio=float(whole), limit=limit)
    assert found.tolist() == [(position * size + i) // whole for i in range(size)]


@given(
    shape=st.tuples(st.integers(20, 70), st.integers(20, 70)),
    size=st.integers(3, 20),
    factor=st.sampled_from([1.0, 2.0, 3.0, 1.5, 4 / 3, 25.0]),
    block=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32),
)
def test_any_blocks_count_each_pixel_under_each_chip(
    shape: tuple[int, int], size: int, factor: float, block: tuple[int, int], seed: int
) -> None:
    """Chips smaller than blocks, blocks across chips, coarse pixels under two chips: all exact."""
    coarse = (math.ceil(shape[0] / factor), math.ceil(shape[1] / factor))
    chips = ChipGrid(grid=grid(*shape), size=size)
    windows = Windows.of(chips, grid=grid(*coarse, 10 * factor), where="both")
    pixels = np.random.default_rng(seed).random(coarse) < 0.3
    tally = Tally(windows, masks=2)

    def both(bands: tuple[NDArray[Any], ...], out: NDArray[np.bool_]) -> None:
        out[0], out[1] = bands[0], ~bands[0]

    for top in range(0, coarse[0], block[0]):
        for left in range(0, coarse[1], block[1]):
            part = pixels[top : top + block[0], left : left + block[1]]
            if top < tally.reach[0] and left < tally.reach[1]:
                tally.add((part,), both, top=top, left=left)
    for row, (first, last) in enumerate(windows.down.tolist()):
        for col, (left, right) in enumerate(windows.across.tolist()):
            under = pixels[first:last, left:right]
            assert tally.chips()[:, row, col].tolist() == [under.sum(), (~under).sum()]
            assert windows.pixels[row, col] == under.size


def test_blocks_that_are_not_there_count_whole() -> None:
    """All pixels of a missing block, and no more than lie under the chips."""
    chips = ChipGrid(grid=grid(40, 40), size=16)
    tally = Tally(Windows.of(chips, grid=grid(40, 40), where="both"), masks=1)
    tally.add_whole((24, 24), top=16, left=16)
    assert tally.chips().tolist() == [[[0, 0], [0, 256]]]


def test_stray_classes_are_neither_cloud_nor_nodata() -> None:
    """Lossy compression leaves class numbers that do not exist; they must not fail or count."""
    rule = QualityRule(
        keys=("scl",),
        flags={"nothing": value(0), "cloud": value(8, 9)},
        nodata=("nothing",),
        cloud=("cloud",),
    )
    nodata, cloud = rule.masks(np.array([[0, 8, 12, 255]], np.uint8))
    assert nodata.tolist() == [[True, False, False, False]]
    assert cloud.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("nodata", [-9999.0, 1e20, 0.5, math.inf, math.nan, 256.0])
def test_a_nodata_value_that_the_type_cannot_hold(nodata: float) -> None:
    """Headers are written by hand: -9999 in a file of bytes means that nothing is nodata."""
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert not nodata_mask(values, nodata).any()
    assert nodata_mask(np.full((2, 1, 1), np.float32(0.1)), 0.1).all()


def test_a_dark_band_is_not_nodata() -> None:
    """Black in one band of a photograph is a shadow; nodata is black in all of them."""
    values = np.array([[[0, 0]], [[0, 7]]], np.uint8)
    assert nodata_mask(values, 0.0).tolist() == [[True, False]]
    assert not nodata_mask(values, None).any()


@pytest.mark.parametrize("nodata", [None, math.nan, -9999.0, 1e300])
def test_nan_is_never_data(nodata: float | None) -> None:
    """Whatever a header names; what is no number teaches a model nothing."""
    values = np.array([[[1, math.nan, -9999]], [[math.nan, math.nan, -9999]]], np.float32)
    assert nodata_mask(values, nodata).tolist() == [[False, True, nodata == -9999]]
