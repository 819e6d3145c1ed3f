"""Items that are not as STAC has them: each is named and left out, and the search goes on."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from chipmill.errors import RequestError
from chipmill.formats.scene_list import decode_scene_list
from chipmill.io.catalog import Query, find_items
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.search import list_scenes, search_scenes

Recorded = Callable[[str], Any]
Answer = Callable[..., object]
Json = dict[str, Any]
S2 = "sentinel-2-l2a"
EVERYWHERE = (-180, -90, 180, 90)


class Server(Protocol):
    """The server of `serve`."""

    url: str


Serve = Callable[[Callable[[object], object]], Server]


@pytest.fixture
def items(recorded: Recorded) -> list[Json]:
    """Give ten dates of one Sentinel-2 tile."""
    name = "stac/earth-search-v1/sentinel-2-c1-l2a-13TDE-10items.json"
    return copy.deepcopy(recorded(name)["features"])


def broken(item: Json) -> dict[str, Json]:
    """Break an item in many ways, by what the warning must say of it."""
    said = item["properties"]
    row = {"landsat:wrs_path": "x", "landsat:wrs_row": "1"}
    timeless = {name: value for name, value in said.items() if "datetime" not in name}
    cases: list[tuple[str, Json]] = [
        ("'yesterday' is not a time", {"properties": {**said, "datetime": "yesterday"}}),
        ("it has no time", {"properties": timeless}),
        ("'0001-01-01", {"properties": {**said, "datetime": "0001-01-01T00:00:00+12:00"}}),
        ("its properties are a list", {"properties": [1]}),
        ("its properties are a str", {"properties": "none"}),
        ("ValueError", {"bbox": ["a", "b", "c", "d"]}),
        ("TypeError", {"bbox": [None, 0, 1, 1]}),
        ("TypeError", {"bbox": 7}),
        ("ValueError", {"properties": {"datetime": said["datetime"], **row}}),
        ("UnicodeEncodeError", {"properties": {**said, "platform": "\ud800"}}),
        ("OverflowError", {"properties": {**said, "eo:cloud_cover": 10**400}}),
        ("KeyError", {"geometry": {"type": "Polygon"}}),
        ("AttributeError|TypeError", {"geometry": "here"}),
        ("GEOSException|ValueError", {"geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}}),
    ]
    return {why: {**item, "id": f"bad{n}", **change} for n, (why, change) in enumerate(cases)}


def ask(catalog: object, **changes: object) -> IngestRequest:
    """Ask for Sentinel-2 scenes."""
    asked: Json = {"sensor": S2, "catalog": str(catalog), "bbox": EVERYWHERE, **changes}
    return IngestRequest.model_validate(asked)


def left_out(archive: Store) -> dict[str, int]:
    """Read the counts of the only search."""
    (key,) = [key for key in archive.keys("searches/") if key.endswith("search.json")]
    return decode_scene_list(archive.get(key), where=key).left_out


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give what was said of items that are left out."""
    return [each.getMessage() for each in caplog.records if " is left out: " in each.getMessage()]


@pytest.mark.parametrize("kind", ["api", "file"])
def test_a_broken_item_ends_no_search(
    kind: str,
    items: list[Json],
    tmp_path: Path,
    archive: Store,
    serve: Serve,
    answer: Answer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of a thousand items one is always broken: the others are ingested, and it is named."""
    bad = broken(items[1])
    nameless = [{**items[1], "id": None}, 3, None]
    elsewhere = {**items[1], "id": "elsewhere", "collection": ["a"]}
    features = [*bad.values(), *nameless, elsewhere, items[0]]
    path = tmp_path / "items.json"
    path.write_text(json.dumps(features))
    page = {"type": "FeatureCollection", "features": features, "links": [None, 3]}
    api = serve(lambda _: answer(page))
    request = ask(api.url if kind == "api" else path)
    for listed in (list_scenes(request, archive), list_scenes(request, archive)):
        assert [scene.item for scene in listed.scenes] == [items[0]["id"]]
        assert listed.unreadable == len(bad) + len(nameless)
    said = warnings(caplog)
    for why, item in bad.items():
        (told,) = (line for line in said if line.startswith(f"item {item['id']} is left out"))
        assert any(word in told for word in why.split("|")), told
    for number in range(len(nameless)):
        place = f"item number {len(bad) + number + 1} of "
        assert sum(line.startswith(place) for line in said) == 1
    assert left_out(archive) == {"unreadable": len(bad) + len(nameless)}


def test_a_catalogue_of_broken_items_says_so(
    items: list[Json], tmp_path: Path, archive: Store
) -> None:
    """Not that nothing matches, which would send people to widen their request."""
    path = tmp_path / "items.json"
    for item in items:
        item["properties"]["datetime"] = "yesterday"
    path.write_text(json.dumps(items))
    with pytest.raises(RequestError, match=r"10 that cannot be read.*'yesterday'.*mended") as said:
        search_scenes(ask(path), archive)
    assert items[0]["id"] in str(said.value)
    assert "\n" not in str(said.value)


def test_it_is_told_once_for_all_tiles(
    items: list[Json], tmp_path: Path, archive: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests have thousands of tiles, and each asks again."""
    bad = {**items[1], "id": "bad", "bbox": "none"}
    path = tmp_path / "items.json"
    path.write_text(json.dumps([bad, items[0], items[2]]))
    ring = items[0]["geometry"]
    tiles = [
        {"type": "Feature", "properties": {"name": str(n)}, "geometry": ring} for n in range(3)
    ]
    (tmp_path / "tiles.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": tiles})
    )
    file = {"file": str(tmp_path / "tiles.geojson"), "column": "name"}
    assert len(search_scenes(ask(path, bbox=None, tiles=file), archive)) == 2
    assert len(warnings(caplog)) == 1
    assert left_out(archive)["unreadable"] == 1


def test_an_item_that_nests_without_end(
    items: list[Json], tmp_path: Path, archive: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It is made to break what reads it."""
    deep = '{"a":' * 800 + "1" + "}" * 800
    path = tmp_path / "items.json"
    text = json.dumps([{**items[1], "id": "deep", "more": "DEEP"}, items[0]])
    path.write_text(text.replace('"DEEP"', deep))
    names = [scene.item for scene in search_scenes(ask(path), archive)]
    assert items[0]["id"] in names
    # From Python 3.12 on it can be packed, and the copy quarantines it.
    told = "item deep is left out: it nests deeper than any STAC item" in warnings(caplog)
    assert told != ("deep" in names)


def test_assets_are_judged_by_the_copy(items: list[Json], tmp_path: Path) -> None:
    """Which writes a finding; an href that is none is not made into one."""
    shapes: list[object] = [{"a": None}, {"a": {"href": None}}, {"a": {"title": "x"}}, [1], "none"]
    path = tmp_path / "items.json"
    path.write_text(
        json.dumps([{**items[0], "id": str(n), "assets": s} for n, s in enumerate(shapes)])
    )
    assert [item["assets"] for item in find_items(str(path), Query())] == shapes
