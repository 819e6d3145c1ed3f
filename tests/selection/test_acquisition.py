"""Versions of one acquisition, told from recorded documents."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from chipmill.formats.candidate import grid_of, read_candidate
from chipmill.model.acquisition import acquisition, newest

Recorded = Callable[[str], Any]
Json = dict[str, Any]
Items = Callable[[str], list[Json]]


def told(items: list[Json]) -> tuple[set[str], dict[str, str]]:
    """Reduce items to the newest versions; gives ids and what stands for what was dropped."""
    kept, dropped = newest(read_candidate(item, tile="") for item in items)
    return {each.id for each in kept}, dropped


def changed(item: Json, name: str, **properties: object) -> Json:
    """Copy an item under another id, with other properties."""
    other = copy.deepcopy(item)
    other["id"] = name
    other["properties"] |= properties
    return other


def test_what_catalogues_list_apart_stays_apart(items_of: Items) -> None:
    """Ten dates of a tile, a strip of tiles, four paths and rows, photographs of one moment."""
    for name in (
        "earth-search-v1/sentinel-2-c1-l2a-13TDE-10items",
        "earth-search-v1/sentinel-2-l2a-31UDQ-3items",
        "planetary-computer/sentinel-2-l2a-4items",
        "planetary-computer/landsat-c2-l2-4items",
        "planetary-computer/naip-search-2pages/page-1",
    ):
        items = items_of(f"stac/{name}.json")
        assert told(items) == ({item["id"] for item in items}, {}), name


def test_one_acquisition_in_two_collections_is_one(recorded: Recorded) -> None:
    """Earth Search lists the same datatake and tile as l2a and as c1-l2a."""
    pages = [
        recorded(f"stac/earth-search-v1/search-mixed-collections/page-{n}.json")["features"]
        for n in (1, 2)
    ]
    items = [i for page in pages for i in page if i["collection"].endswith("l2a")]
    tiles = {read_candidate(item, tile="").tile for item in items}
    kept, dropped = told(items)
    assert len(kept) == len(tiles) < len(items)
    assert len(kept) + len(dropped) == len(items)


def test_a_repeat_of_earth_search_is_dropped(recorded: Recorded) -> None:
    """`_0_` and `_1_` of one datatake: the later generation stays, whatever its cloud."""
    first = recorded("stac/earth-search-v1/sentinel-2-l2a-31UDQ-3items.json")["features"][0]
    later = "2023-06-10T01:00:00.000000Z"
    second = changed(
        first,
        first["id"].replace("_0_", "_1_"),
        **{"s2:generation_time": later, "eo:cloud_cover": 99},
    )
    for items in ([first, second], [second, first]):
        assert told(items) == ({second["id"]}, {first["id"]: second["id"]})


def test_baselines_are_compared_as_versions(recorded: Recorded) -> None:
    """05.09 is older than 05.10, and 10.00 newer than 9.99: neither text nor a number says so."""
    item = recorded("stac/planetary-computer/sentinel-2-l2a-4items.json")[0]
    names = ["02.04", "05.09", "05.10", "9.99", "10.00"]
    versions = [changed(item, f"b{n}", **{"s2:processing_baseline": n}) for n in names]
    kept, dropped = told(versions)
    assert kept == {"b10.00"}
    assert set(dropped.values()) == {"b10.00"}
    assert told(versions[:3])[0] == {"b05.10"}


def test_a_landsat_scene_that_was_processed_again_is_one(recorded: Recorded) -> None:
    """The second date of its id is that of processing; its time moves by milliseconds."""
    item = recorded("items/usgs-landsat-1.0.json")
    older = changed(
        item,
        "LC08_L2SP_028030_20200114_20200201_02_RT_SR",
        datetime="2020-01-14T17:05:46.731651Z",
    )
    assert told([older, item]) == ({item["id"]}, {older["id"]: item["id"]})


def test_two_pieces_of_a_tile_are_no_versions(recorded: Recorded) -> None:
    """A datatake that a ground station cut is listed in two halves, which share a few rows."""
    north = recorded("stac/earth-search-v1/sentinel-2-l2a-31UDQ-3items.json")["features"][0]
    west, low, east, high = north["bbox"]
    south = changed(north, north["id"].replace("_0_", "_1_"))
    north["bbox"] = [west, low + 0.5 * (high - low), east, high]
    south["bbox"] = [west, low, east, low + 0.55 * (high - low)]
    assert told([north, south]) == ({north["id"], south["id"]}, {})


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("stac/earth-search-v1/sentinel-2-l2a-31UDQ-3items.json", "MGRS-31UDQ"),
        ("stac/planetary-computer/sentinel-2-l2a-4items.json", "MGRS-47XML"),
        ("stac/planetary-computer/landsat-c2-l2-4items.json", "WRS2-089090"),
        ("items/cdse-sentinel-2-1.1.json", "MGRS-36NYH"),
        ("items/stactools-modis-09a1-1.0.json", "MSIN-1910"),
        ("stac/noaa-eri/20200307aC0853900w361030.json", None),
    ],
)
def test_the_tile_of_a_scene_is_told_from_each_form(
    name: str, code: str | None, items_of: Items
) -> None:
    """The grid extension is young; older items say the same in other fields."""
    assert grid_of(items_of(name)[0]) == code


def test_a_satellite_names_its_acquisitions_alone(recorded: Recorded) -> None:
    """Two satellites over one path and row on one day are two acquisitions."""
    item = recorded("items/usgs-landsat-1.0.json")
    other = changed(item, "other", platform="LANDSAT_9")
    one, two = (acquisition(read_candidate(each, tile="")) for each in (item, other))
    assert one != two
