"""Scenes across the antimeridian, as catalogues really outline them: divided, or not."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import shapely

from chipmill.formats.item_outline import read_outline
from chipmill.io.catalog import Query, open_catalog
from chipmill.io.documents import Documents

Recorded = Callable[[str], Any]
Answer = Callable[..., object]
Json = dict[str, Any]
SOUTH, NORTH = -18.0, -17.0
SCENE = "stac/antimeridian/T01LAC-L1C.json"


class Server(Protocol):
    """The server of `serve`."""

    url: str


Serve = Callable[[Callable[[object], object]], Server]


def ring(west: float, east: float) -> list[list[float]]:
    """Outline what lies between two longitudes."""
    return [[west, SOUTH], [east, SOUTH], [east, NORTH], [west, NORTH], [west, SOUTH]]


def outlined(west: float, east: float, *rings: list[list[float]]) -> Json:
    """Write an item of one ring, or of the polygons of several."""
    polygons = [[each] for each in rings or (ring(west, east),)]
    several = {"type": "MultiPolygon", "coordinates": polygons}
    single = {"type": "Polygon", "coordinates": polygons[0]}
    return {
        "type": "Feature",
        "id": "scene",
        "bbox": [west, SOUTH, east, NORTH],
        "geometry": several if len(polygons) > 1 else single,
        "properties": {"datetime": "2024-05-06T07:08:09Z"},
        "assets": {},
        "links": [],
    }


CASES = {
    "it jumps": outlined(178.9, -179.0),
    "it jumps clockwise": outlined(178.9, -179.0, ring(178.9, -179.0)[::-1]),
    "it goes on past 180": outlined(178.9, 181.0),
    "it goes on past -180": outlined(-181.1, -179.0),
    "it is divided": outlined(178.9, -179.0, ring(178.9, 180.0), ring(-180.0, -179.0)),
    "its box goes on, its outline jumps": outlined(178.9, 181.0, ring(178.9, -179.0)),
}
TWO_SIDES = shapely.union(
    shapely.box(178.9, SOUTH, 180, NORTH), shapely.box(-180, SOUTH, -179, NORTH)
)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["api", "file"])
def test_a_scene_is_found_where_it_lies(
    kind: str, name: str, tmp_path: Path, serve: Serve, answer: Answer
) -> None:
    """On both sides of the antimeridian, and nowhere between them the other way round."""
    item = CASES[name]
    path = tmp_path / "items.json"
    path.write_text(json.dumps([item]))
    page = {"type": "FeatureCollection", "features": [item], "links": []}
    api = serve(lambda _: answer(page))
    places = (
        ((179.5, -17.9, 179.9, -17.1), 1),
        ((-179.9, -17.9, -179.5, -17.1), 1),
        ((179.9, -17.9, -179.9, -17.1), 1),
        ((-178.9, -17.9, 178.8, -17.1), 0),
        ((0.0, -17.9, 10.0, -17.1), 0),
    )
    with Documents(rate=1000) as documents:
        catalog = open_catalog(api.url if kind == "api" else str(path), documents)
        for bbox, count in places:
            assert len(list(catalog.find(Query(bbox=bbox)))) == count, bbox


@pytest.mark.parametrize("name", CASES)
def test_an_outline_is_divided(name: str) -> None:
    """As GeoJSON asks for it (RFC 7946, 3.1.9)."""
    found = read_outline(CASES[name])
    assert found is not None
    assert found.geom_type == "MultiPolygon"
    assert shapely.hausdorff_distance(found, TWO_SIDES) < 1e-9
    assert found.area == pytest.approx(TWO_SIDES.area)


def test_a_hole_stays_one() -> None:
    """Outlines of valid pixels have holes."""
    item = outlined(178.9, -179.0)
    item["geometry"]["coordinates"].append(
        [[179.5, -17.6], [179.5, -17.4], [-179.5, -17.4], [-179.5, -17.6], [179.5, -17.6]]
    )
    found = read_outline(item)
    assert found is not None
    assert found.area == pytest.approx(TWO_SIDES.area - 0.2)
    assert not found.intersects(shapely.Point(179.9, -17.5))


def test_what_needs_no_division_stays_as_it_is(recorded: Recorded) -> None:
    """Of a scene that is divided already, of the whole world, of a point."""
    divided = recorded(SCENE)
    world = outlined(-180.0, 180.0)
    point = {**outlined(180, 180), "geometry": {"type": "Point", "coordinates": [180, -17]}}
    for item in (divided, world, point):
        before = copy.deepcopy(item)
        found = read_outline(item)
        assert item == before
        assert found == shapely.from_geojson(json.dumps(item["geometry"]))
    assert read_outline({**world, "geometry": None}) is None
