"""Where chips lie on earth."""

import math
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from shapely import MultiPolygon, Polygon

from chipmill.errors import SceneError
from chipmill.model.footprint import (
    boxes,
    crosses,
    lonlat_centres,
    lonlat_corners,
    pixel_metres,
    polygons,
    remainder_area,
)
from chipmill.model.grid import Affine, ChipGrid, Grid

EARTH = Geod(ellps="WGS84")


@pytest.mark.parametrize("start", [0.0, 100.0, 178.0, -182.0])
def test_a_grid_in_degrees_may_reach_past_180(start: float) -> None:
    """Mosaics have longitudes from 0 to 360: the places are those of the rest of the world."""
    grid = Grid(height=16, width=160, transform=(0.05, 0, start, 0, -0.05, 10), crs="EPSG:4326")
    chips = ChipGrid(grid=grid, size=16)
    corners = lonlat_corners(chips)
    assert np.abs(corners[..., 0]).max() <= 180
    for chip, (box, shape) in enumerate(zip(boxes(corners), outlines(corners), strict=True)):
        west, east = start + 0.8 * chip, start + 0.8 * (chip + 1)
        assert (box[0] - west) % 360 == pytest.approx(0, abs=1e-9) or box[0] == 180
        assert (box[2] - east) % 360 == pytest.approx(0, abs=1e-9)
        middle = (west + 0.3 + 180) % 360 - 180
        assert shape.contains(shapely.Point(middle, 9.6))
        assert shape.area == pytest.approx(0.64, rel=1e-3)
    assert np.abs(lonlat_centres(chips)[..., 0]).max() <= 180


def chips_at(x: float, y: float, *, crs: str, size: float = 10.0, down: float = -1) -> ChipGrid:
    """Make 2 x 3 chips of 16 px from a corner; down=1 makes rows go north."""
    transform = (size, 0.0, x, 0.0, down * size, y)
    return ChipGrid(grid=Grid(height=32, width=48, transform=transform, crs=crs), size=16)


def outlines(corners: NDArray[np.float64]) -> list[Polygon | MultiPolygon]:
    """Read what was written of each chip."""
    found = polygons(corners)
    each = (found.data[start:end].tobytes() for start, end in pairwise(found.ends))
    return [cast("Polygon | MultiPolygon", shapely.from_wkb(one)) for one in each]


@given(
    zone=st.integers(1, 60),
    east=st.floats(200_000, 800_000),
    north=st.floats(100_000, 9_000_000),
    down=st.sampled_from([-1, 1]),
)
def test_a_chip_lies_where_its_pixels_do(zone: int, east: float, north: float, down: int) -> None:
    """On every UTM zone: valid, counter-clockwise, of its size on the ellipsoid, in its box."""
    chips = chips_at(east, north, crs=f"EPSG:{32600 + zone}", down=down)
    corners = lonlat_corners(chips)
    shapes, bounds, over = outlines(corners), boxes(corners), crosses(corners)
    centres = lonlat_centres(chips).reshape(-1, 2)
    assert len(shapes) == len(bounds) == 6
    for shape, (west, south, right, top), crossing, (lon, lat) in zip(
        shapes, bounds.tolist(), over.tolist(), centres.tolist(), strict=True
    ):
        assert shape.is_valid
        assert -180 <= west <= 180
        assert -180 <= right <= 180
        assert (west > right) == crossing
        assert shapely.Point(lon, lat).within(shape)
        area, _ = EARTH.geometry_area_perimeter(shape)
        assert area == pytest.approx(160**2, rel=0.01)  # positive: counter-clockwise
        if not crossing:
            assert shape.bounds == (west, south, right, top)


@pytest.mark.parametrize("east", [165_861.0, 165_941.0, 166_021.4])
def test_a_chip_across_the_antimeridian_has_two_sides(east: float) -> None:
    """UTM zone 1 begins there; a polygon that spans the earth would match every query."""
    corners = lonlat_corners(chips_at(east, 100_000, crs="EPSG:32601"))
    for shape, crossing in zip(outlines(corners), crosses(corners).tolist(), strict=True):
        assert shape.geom_type == ("MultiPolygon" if crossing else "Polygon")
        assert shape.is_valid
        assert shape.area < 1e-5


def test_a_pixel_is_measured_in_metres() -> None:
    """Projected CRS in metres or feet, and degrees at a latitude: the larger edge."""

    def grid(x: float, y: float, crs: str) -> Grid:
        return Grid(height=1, width=1, transform=(x, 0, 0, 0, -y, 0), crs=crs)

    assert pixel_metres(grid(10, 20, "EPSG:32633"), latitude=46) == 20
    feet = pixel_metres(grid(10, 10, "EPSG:2225"), latitude=40)  # US survey feet
    assert feet == pytest.approx(10 * 1200 / 3937)
    _, _, metres = EARTH.inv(15, 60, 15.001, 60)
    assert pixel_metres(grid(0.001, 0.0001, "EPSG:4326"), latitude=60) == pytest.approx(
        metres, rel=0.005
    )


def test_the_corners_are_those_of_pyproj() -> None:
    """One transform for all corners, x before y."""
    corners = lonlat_corners(chips_at(500_000, 5_100_000, crs="EPSG:32633"))
    project = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    wanted = project.transform(500_000 + 160, 5_100_000 - 320)
    np.testing.assert_allclose(corners[2, 1], wanted, rtol=0, atol=1e-12)
    assert math.isclose(corners[0, 0, 0], 15.0)


def test_a_place_that_is_not_on_earth_is_refused() -> None:
    """A header with a wrong CRS: the scene is quarantined, not put at infinity."""
    with pytest.raises(SceneError, match="outside of what EPSG:32633"):
        lonlat_corners(chips_at(1e9, 1e9, crs="EPSG:32633"))


def test_the_area_of_the_remainder_is_in_square_metres() -> None:
    """Of all that is right of the chips or below: in metres, in feet, in degrees as on earth."""

    def left(crs: str, transform: Affine) -> float:
        grid = Grid(height=40, width=50, transform=transform, crs=crs)
        return remainder_area(ChipGrid(grid=grid, size=16))

    pixels = 40 * 50 - 32 * 48
    assert left("EPSG:32633", (10, 0, 5e5, 0, -20, 5e6)) == pytest.approx(200 * pixels)
    feet = left("EPSG:2225", (10, 0, 6e6, 0, -10, 2e6))
    assert feet == pytest.approx((10 * 1200 / 3937) ** 2 * pixels)
    right = EARTH.geometry_area_perimeter(shapely.box(15.48, 59.6, 15.5, 60))[0]
    below = EARTH.geometry_area_perimeter(shapely.box(15, 59.6, 15.48, 59.68))[0]
    degrees = left("EPSG:4326", (0.01, 0, 15, 0, -0.01, 60))
    assert degrees == pytest.approx(right + below, rel=0.01)
    with pytest.raises(SceneError, match="no CRS that is known"):
        left("EPSG:1", (1, 0, 0, 0, -1, 0))
