"""Names of Sentinel-2 tiles: against the bounds that ESA gives."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from shapely.geometry import box, shape

from chipmill.errors import RequestError
from chipmill.model.mgrs import grid_code, tile_area

NEAR = 0.001
"""Degrees, about 100 m: the bounds were taken from outlines of four corners."""


def test_tiles_lie_where_esa_has_them(recorded: Callable[[str], Any]) -> None:
    """In all bands, beyond 80 degrees south, in the odd zones of Norway and Svalbard."""
    for name, _, west, south, east, north in recorded("grids/s2-tiles.json")["rows"]:
        found = tile_area(name).bounds
        narrow = math.cos(math.radians(max(abs(south), abs(north))))
        off = [a - b for a, b in zip(found, (west, south, east, north), strict=True)]
        assert max(abs(off[0]) * narrow, abs(off[2]) * narrow, abs(off[1]), abs(off[3])) < NEAR, (
            name
        )


def test_a_tile_across_the_antimeridian_has_both_sides(recorded: Callable[[str], Any]) -> None:
    """Its box spans the world; its outline must not."""
    crossing = 0
    for feature in recorded("grids/s2-tiles-sample.geojson")["features"]:
        outline = shape(feature["geometry"]).buffer(0)
        found = tile_area(feature["id"])
        assert found.symmetric_difference(outline).area < 0.02 * outline.area
        crossing += found.geom_type == "MultiPolygon"
        assert not found.intersects(box(-170, -90, 170, 90)) or found.geom_type == "Polygon"
    assert crossing >= 3


@pytest.mark.parametrize("name", ["33TWM", "33twm", "T33TWM", "MGRS-33TWM", " 33TWM "])
def test_people_write_names_in_several_ways(name: str) -> None:
    """All of them mean one tile."""
    assert grid_code(name) == "MGRS-33TWM"
    assert tile_area(name).equals(tile_area("33TWM"))


@pytest.mark.parametrize("name", ["", "33T", "61TWM", "33IWM", "33TWMX", "33TAM", "ABC", "33TWW"])
def test_what_is_no_tile_is_refused(name: str) -> None:
    """The sentence says what a name looks like, or which columns a zone has."""
    with pytest.raises(RequestError, match="is no MGRS tile"):
        tile_area(name)
