"""Frozen scene lists: exact, had again without the catalogue, and refreshed."""

import copy
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from pyarrow import parquet

from chipmill.errors import CatalogError, RequestError
from chipmill.formats import layout
from chipmill.formats.scene_list import (
    SceneList,
    decode_documents,
    decode_matches,
    decode_scene_list,
    encode_documents,
    encode_matches,
    pack_item,
    unpack_item,
)
from chipmill.io.catalog import Query, find_items
from chipmill.io.item_table import stac_geoparquet_file
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.search import search_scenes

Recorded = Callable[[str], Any]
Answer = Callable[..., object]
Json = dict[str, Any]
S2 = "sentinel-2-l2a"
DATA = Path(__file__).parents[1] / "data"


class Asked(Protocol):
    """A request as it came."""

    body: Json


class Server(Protocol):
    """The server of `serve`."""

    url: str
    asked: list[Asked]
    conforms: tuple[str, ...]


Serve = Callable[[Callable[[Asked], object]], Server]


def recorded_items() -> list[Json]:
    """Give every recorded item of the tests."""
    found: list[Json] = []
    for path in sorted([*DATA.glob("items/*.json"), *DATA.glob("stac/**/*.json")]):
        document = json.loads(path.read_text())
        listed = isinstance(document, list)
        several = cast("list[Json]", document if listed else document.get("features", [document]))
        found += [item for item in several if item.get("type") == "Feature"]
    return found


def ask(catalog: object, **changes: object) -> IngestRequest:
    """Ask for Sentinel-2 scenes."""
    asked: Json = {"sensor": S2, "catalog": str(catalog), **changes}
    return IngestRequest.model_validate(asked)


def the_list(archive: Store) -> SceneList:
    """Read the document of the only search."""
    (key,) = [key for key in archive.keys("searches/") if key.endswith("search.json")]
    return decode_scene_list(archive.get(key), where=key)


def names(scenes: list[Any]) -> list[str]:
    """Give the ids of scenes."""
    return [scene.item for scene in scenes]


@pytest.fixture
def items(recorded: Recorded) -> list[Json]:
    """Give ten dates of one Sentinel-2 tile."""
    return copy.deepcopy(
        recorded("stac/earth-search-v1/sentinel-2-c1-l2a-13TDE-10items.json")["features"]
    )


@pytest.fixture
def catalog(tmp_path: Path, items: list[Json]) -> Path:
    """Write them as a catalogue."""
    path = tmp_path / "items.json"
    path.write_text(json.dumps(items))
    return path


def test_documents_come_back_exactly() -> None:
    """All that was ever recorded, byte for byte as JSON: keys, nulls, numbers and times."""
    items = recorded_items()
    assert len(items) > 50
    by_name = {item["id"]: pack_item(item) for item in items}
    back = decode_documents(encode_documents(by_name))
    for item in {item["id"]: item for item in items}.values():
        assert json.dumps(unpack_item(back[item["id"]])) == json.dumps(item)


def test_stac_geoparquet_alone_would_not_do(tmp_path: Path) -> None:
    """Why the documents lie beside the table: hardly an item comes back from it as it was."""
    items = recorded_items()
    same = 0
    for number, item in enumerate(items):
        path = tmp_path / f"{number}.parquet"
        written = stac_geoparquet_file([item])
        if written is None:  # its date without a time is no time to Arrow
            continue
        path.write_bytes(written)
        (back,) = find_items(str(path), Query())
        assert back["id"] == item["id"]
        same += back == item
    assert same < len(items) / 10


def test_a_rerun_needs_no_catalogue(catalog: Path, archive: Store) -> None:
    """The same scenes after a year, when the catalogue has moved or changed."""
    first = search_scenes(ask(catalog, max_cloud=50), archive)
    assert len(first) == 6
    catalog.unlink()
    for key in list(archive.keys("provenance/")):
        archive.delete(key)
    again = search_scenes(ask(catalog, max_cloud=50, bands=("red",), chip_size=64), archive)
    assert again == first
    for scene in first:
        assert archive.size(layout.source_item_key(S2, scene.item))
    with pytest.raises(CatalogError):
        search_scenes(ask(catalog, max_cloud=60), archive)


def test_a_list_is_a_catalogue(catalog: Path, items: list[Json], archive: Store) -> None:
    """By the path of either file; the JSON lines give the very documents."""
    search_scenes(ask(catalog), archive)
    document = the_list(archive)
    lines = archive.local_path(document.documents_file)
    table = archive.local_path(document.table_file or "")
    found = list(find_items(str(lines), Query(max_cloud=50)))
    assert {item["id"]: item for item in found} == {
        item["id"]: item for item in items if item["properties"]["eo:cloud_cover"] <= 50
    }
    assert len(list(find_items(str(table), Query()))) == len(items)
    again = Store.open(archive.url + "-again")
    assert names(search_scenes(ask(lines), again)) == names(search_scenes(ask(table), again))


def test_the_list_says_what_became_of_each_match(
    catalog: Path, items: list[Json], archive: Store
) -> None:
    """Counts add up, and a dropped version names the one that was taken."""
    older = copy.deepcopy(items[0])
    older["id"] += "_old"
    older["properties"]["s2:processing_baseline"] = "02.00"
    catalog.write_text(json.dumps([*items, older]))
    policy = {"keep": "least_cloudy", "every": "year"}
    (taken,) = search_scenes(ask(catalog, policy=policy), archive)
    document = the_list(archive)
    assert (document.matches, document.duplicates, document.scenes) == (11, 1, 1)
    assert document.left_out == {"not least cloudy": 9}
    rows = decode_matches(archive.get(document.matches_file))
    assert [row.candidate.id for row in rows if row.taken] == [taken.item]
    assert taken.item == min(items, key=lambda i: i["properties"]["eo:cloud_cover"])["id"]
    assert {r.candidate.id: r.newer_version for r in rows}[older["id"]] == items[0]["id"]
    assert decode_matches(encode_matches(rows)) == rows
    assert parquet.read_table(BytesIO(archive.get(document.matches_file))).num_rows == 11


def test_a_refresh_tells_what_changed(catalog: Path, items: list[Json], archive: Store) -> None:
    """New, reprocessed under another id, changed in place, withdrawn, no longer chosen."""
    before = copy.deepcopy(items[1:6])
    catalog.write_text(json.dumps(before))
    search_scenes(ask(catalog, max_cloud=100), archive)
    new, gone, moved, changed = items[6], items[1], items[2], items[3]
    newer = copy.deepcopy(moved)
    newer["id"] += "_again"
    newer["properties"]["s2:processing_baseline"] = "09.00"
    changed["properties"]["eo:cloud_cover"] = 3.0
    catalog.write_text(json.dumps([newer, *items[2:6], new]))
    found = search_scenes(ask(catalog, max_cloud=100, refresh=True), archive)
    told = the_list(archive).changes
    assert told is not None
    assert told.new == (new["id"],)
    assert told.reprocessed == {moved["id"]: newer["id"], changed["id"]: changed["id"]}
    assert told.withdrawn == (gone["id"],)
    assert told.left_out == ()
    assert newer["id"] in names(found)
    key = layout.source_item_key(S2, changed["id"])
    assert json.loads(archive.get(key))["properties"]["eo:cloud_cover"] == 3.0


def stac(items: list[Json], answer: Answer) -> Callable[[Asked], object]:
    """Answer searches as an API does that filters by time of change and by ids."""

    def reply(asked: Asked) -> object:
        said = json.dumps(asked.body.get("filter", ""))
        since = said.split('"timestamp": "')[1].split('"')[0] if "timestamp" in said else ""
        ids = asked.body.get("ids")
        found = [
            item
            for item in items
            if item["properties"]["updated"] >= since and (not ids or item["id"] in ids)
        ]
        return answer({"type": "FeatureCollection", "features": found, "links": []})

    return reply


def test_a_refresh_asks_for_what_is_new_only(
    items: list[Json], archive: Store, serve: Serve, answer: Answer
) -> None:
    """Where a catalogue says when documents changed, years of them are not read again."""
    listed = items[:4]
    api = serve(stac(listed, answer))
    api.conforms = ("filter",)
    policy = {"keep": "least_cloudy", "every": "month", "count": 2}
    search_scenes(ask(api.url, policy=policy), archive)
    # The clearest of all is new, and one that was taken is withdrawn.
    clearest, taken = items[7], names(search_scenes(ask(api.url, policy=policy), archive))
    clearest["properties"] |= {"updated": "2999-01-01T00:00:00Z", "eo:cloud_cover": 0.0}
    listed.append(clearest)
    gone = next(item for item in listed if item["id"] == taken[0])
    listed.remove(gone)
    api.asked.clear()
    found = search_scenes(ask(api.url, policy=policy, refresh=True), archive)
    whole = Store.open(archive.url + "-whole")
    assert found == search_scenes(ask(api.url, policy=policy), whole)
    told = the_list(archive).changes
    assert told is not None
    assert told.withdrawn == (gone["id"],)
    assert clearest["id"] in told.new
    first = api.asked[0].body
    assert "timestamp" in json.dumps(first["filter"])
    assert all("ids" in asked.body or "filter" in asked.body for asked in api.asked[:3])


def test_a_tile_that_fails_fails_alone(
    recorded: Recorded, archive: Store, serve: Serve, answer: Answer
) -> None:
    """The others are kept; run again, only it is searched."""
    features = recorded("stac/earth-search-v1/sentinel-2-c1-l2a-13TDE-10items.json")["features"]
    features += recorded("stac/earth-search-v1/sentinel-2-l2a-31UDQ-3items.json")["features"]
    broken = [True]

    def reply(asked: Asked) -> object:
        first = asked.body["intersects"]["coordinates"][0][0][0]
        if first > 0 and broken:
            return answer({"description": "no"}, status=400)
        return answer({"type": "FeatureCollection", "features": features, "links": []})

    api = serve(reply)
    asked = ask(api.url, mgrs=("13TDE", "31UDQ"))
    scenes = search_scenes(asked, archive)
    assert {scene.item.split("_")[1] for scene in scenes} == {"T13TDE"}
    assert list(the_list(archive).failed) == ["31UDQ"]
    broken.clear()
    api.asked.clear()
    again = search_scenes(asked, archive)
    assert len(api.asked) == 1
    assert len(again) == len(features)
    assert the_list(archive).failed == {}
    api.asked.clear()
    assert search_scenes(asked, archive) == again
    assert api.asked == []


def test_tiles_of_a_file_and_names_give_their_own_scenes(
    recorded: Recorded, tmp_path: Path, archive: Store
) -> None:
    """A neighbour that overlaps a tile is not of it, unless only its outline counts."""
    tiles = DATA / "grids" / "s2-tiles-sample.geojson"
    features = recorded("stac/earth-search-v1/sentinel-2-l2a-31UDQ-3items.json")["features"]
    neighbour = copy.deepcopy(features[0])
    neighbour["id"] = "neighbour"
    neighbour["properties"]["grid:code"] = "MGRS-31UCQ"
    catalog = tmp_path / "c.json"
    catalog.write_text(json.dumps([*features, neighbour]))
    own = sorted(item["id"] for item in features)
    assert names(search_scenes(ask(catalog, mgrs=["31UDQ"]), archive)) == own
    assert len(search_scenes(ask(catalog, grid_codes=["MGRS-31U*"]), archive)) == 4
    assert "31UDQ" in tiles.read_text()
    by_outline = ask(catalog, tiles={"file": str(tiles), "column": "name"})
    assert "neighbour" in names(search_scenes(by_outline, archive))
    by_code = {"file": str(tiles), "column": "name", "names_are_grid_codes": True}
    assert names(search_scenes(ask(catalog, tiles=by_code), archive)) == own


def test_strata_are_drawn_by_the_seed(tmp_path: Path, archive: Store, recorded: Recorded) -> None:
    """One tile of each cover; another seed draws another; the searches have names of their own."""
    items = recorded("stac/earth-search-v1/sentinel-2-c1-l2a-13TDE-10items.json")["features"]
    (west, south, east, north) = items[1]["bbox"]
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    features = [
        {
            "type": "Feature",
            "properties": {"name": f"t{n}", "cover": "wood" if n % 2 else "field"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for n in range(10)
    ]
    file = tmp_path / "tiles.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    catalog = tmp_path / "c.json"
    catalog.write_text(json.dumps(items))
    drawn: set[frozenset[str]] = set()
    for seed in (1, 2, 3):
        tiles = {"file": str(file), "column": "name", "stratum": "cover", "per_stratum": 1}
        each = Store.open(f"{archive.url}-{seed}")
        search_scenes(ask(catalog, tiles=tiles, policy={"seed": seed}), each)
        rows = decode_matches(each.get(the_list(each).matches_file))
        found = frozenset(row.candidate.tile for row in rows)
        assert {int(name[1:]) % 2 for name in found} == {0, 1}
        assert len(found) == 2
        drawn.add(found)
    assert len(drawn) > 1


def test_files_of_tiles_that_cannot_be_used(tmp_path: Path, archive: Store) -> None:
    """Each is refused by one sentence that names the file, before the catalogue is asked."""
    (tmp_path / "words.geojson").write_text("words")
    (tmp_path / "table.csv").write_text("name,cover\na,b\n")
    point = {"type": "Point", "coordinates": [1, 2]}
    feature = {"type": "Feature", "properties": {"name": "a"}, "geometry": point}
    collection = {"type": "FeatureCollection", "features": [feature]}
    (tmp_path / "points.geojson").write_text(json.dumps(collection))
    (tmp_path / "empty.geojson").write_text(json.dumps({**collection, "features": []}))
    sample = DATA / "grids" / "s2-tiles-sample.geojson"
    for tiles, said in (
        ({"file": str(tmp_path / "words.geojson")}, "is no file of tiles that can be read"),
        ({"file": str(tmp_path / "table.csv")}, "has no geometries"),
        ({"file": str(tmp_path / "points.geojson")}, "is a Point; an area has polygons"),
        ({"file": str(sample), "column": "nam"}, "has no column 'nam'; its columns are .*name"),
        ({"file": str(sample), "stratum": "x", "per_stratum": 1}, "has no column 'x'"),
        ({"file": str(sample), "column": "epsg"}, "has several tiles"),
    ):
        with pytest.raises(RequestError, match=said):
            search_scenes(ask("http://127.0.0.1:9/never-asked", tiles=tiles), archive)
    with pytest.raises(RequestError, match=r"there is no file .*missing\.gpkg"):
        search_scenes(ask("never", tiles={"file": str(tmp_path / "missing.gpkg")}), archive)
    for geometry in ('{"type": "Point", "coordinates": [1, 2]}', '{"type": "Polygon"}', "{"):
        with pytest.raises(RequestError, match="the area is"):
            search_scenes(ask("never", geometry=geometry), archive)


def test_a_limit_is_kept_and_said(
    catalog: Path, archive: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand scenes out of three thousand must not pass for all."""
    assert len(search_scenes(ask(catalog, limit=4), archive)) == 4
    assert "has more in this area than the 4 items" in caplog.text
    policy = {"keep": "least_cloudy", "count": 9}
    scenes = search_scenes(ask(catalog, limit=2, policy=policy), archive)
    assert len(scenes) == 2
    assert "7 scenes are left out by the limit of 2" in caplog.text
