"""Four kinds of catalogue, one answer."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
import stac_geoparquet.arrow
from pystac import Extent, SpatialExtent, TemporalExtent

from chipmill.errors import CatalogError
from chipmill.formats.item_reading import read_item
from chipmill.io.catalog import Query, find_items
from chipmill.io.store import Store
from chipmill.model.scene import Scene

KINDS = ("api", "static", "collection", "geoparquet")
TATRY = (15.0, 45.0, 17.0, 48.0)
QUERIES = {
    "all": Query(),
    "one collection": Query(collections=("naip",)),
    "an area": Query(bbox=TATRY),
    "an area across the antimeridian": Query(bbox=(170.0, 20.0, -70.0, 50.0)),
    "a period": Query(period="2018-07-16/2020-02-19"),
    "one day": Query(period="2023-08-18/2023-08-18"),
    "since": Query(period="2023-08-16T00:00:00Z/.."),
    "until": Query(period="../2018-07-15"),
    "by id": Query(ids=("S2A_33TWM_20230815_0_L2A", "m_4709963_se_14_1_20180716")),
    "little cloud": Query(max_cloud=40.0),
    "all at once": Query(
        collections=("sentinel-2-l2a",), bbox=TATRY, period="2023-08-01/2023-08-31", max_cloud=40
    ),
    "nothing": Query(period="1999-01-01/1999-12-31"),
}
EXPECTED = {
    "all": 7,
    "one collection": 4,
    "an area": 2,
    "an area across the antimeridian": 4,
    "a period": 2,
    "one day": 1,
    "since": 1,
    "until": 2,
    "by id": 2,
    "little cloud": 6,
    "all at once": 1,
    "nothing": 0,
}


@pytest.fixture(scope="session")
def documents(item_collection: Path) -> list[dict[str, Any]]:
    """Give the items that all catalogues hold."""
    return json.loads(item_collection.read_text())["features"]


@pytest.fixture(scope="session")
def static(documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a self-contained static catalogue by pystac and give the path of its root."""
    root = pystac.Catalog(id="demo", description="Scenes of the demo")
    everywhere = Extent(SpatialExtent([[-180, -90, 180, 90]]), TemporalExtent([[None, None]]))
    for name in ("naip", "sentinel-2-l2a"):
        collection = pystac.Collection(id=name, description=name, extent=everywhere)
        items = (pystac.Item.from_dict(item) for item in documents if item["collection"] == name)
        collection.add_items(items)
        root.add_child(collection)
    folder = tmp_path_factory.mktemp("static")
    root.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return str(folder / "catalog.json")


@pytest.fixture(scope="session")
def geoparquet(documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a stac-geoparquet file by its reference library and give its path."""
    path = tmp_path_factory.mktemp("geoparquet") / "items.parquet"
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(documents)
    stac_geoparquet.arrow.to_parquet(table, path)
    return str(path)


@pytest.fixture(scope="session")
def catalogues(
    stac_api: str, static: str, item_collection: Path, geoparquet: str
) -> dict[str, str]:
    """Give the address of each kind of catalogue."""
    return dict(zip(KINDS, (stac_api, static, str(item_collection), geoparquet), strict=True))


def found(catalog: str, query: Query) -> dict[str, Scene]:
    """Find items and parse them: what chipmill sees of them."""
    return {str(item["id"]): parsed(item) for item in find_items(catalog, query)}


def parsed(item: dict[str, Any]) -> Scene:
    """Parse an item; the order of assets has no meaning, and stac-geoparquet loses it."""
    scene = read_item(item)
    return replace(scene, assets=tuple(sorted(scene.assets, key=lambda asset: asset.key)))


@pytest.mark.xdist_group("ingested")
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_give_the_same_scenes(
    kind: str, name: str, catalogues: dict[str, str], documents: list[dict[str, Any]]
) -> None:
    """Where the items lie must not decide what is trained on, nor what is known of it."""
    scenes = found(catalogues[kind], QUERIES[name])
    given = {str(item["id"]): parsed(item) for item in documents}
    assert len(scenes) == EXPECTED[name]
    assert scenes == {name: given[name] for name in scenes}


def test_a_single_item_and_a_plain_list_are_catalogues_too(
    tmp_path: Path, documents: list[dict[str, Any]]
) -> None:
    """Both forms lie about in people's folders; hrefs are relative to the document."""
    item = documents[0] | {"assets": {"red": {"href": "files/red.tif"}, "up": {"href": "../a.tif"}}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    (tmp_path / "list.json").write_text(json.dumps(documents[1:]))
    (single,) = find_items(str(tmp_path / "item.json"), Query())
    assert single["assets"]["red"]["href"] == (tmp_path / "files" / "red.tif").as_uri()
    assert single["assets"]["up"]["href"] == (tmp_path.parent / "a.tif").as_uri()
    assert len(found((tmp_path / "list.json").as_uri(), Query())) == len(documents) - 1


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_a_catalogue_may_lie_in_an_object_store(
    s3_archive: Store, documents: list[dict[str, Any]]
) -> None:
    """A team that keeps items beside its files in a bucket writes relative hrefs."""
    item = documents[0] | {
        "assets": {"red": {"href": "./red.tif"}, "far": {"href": "s3://b/c.tif"}}
    }
    s3_archive.put("items/items.json", json.dumps([item]).encode())
    (single,) = find_items(s3_archive.href("items/items.json"), Query())
    assert single["assets"]["red"]["href"] == s3_archive.href("items/red.tif")
    assert single["assets"]["far"]["href"] == "s3://b/c.tif"


def test_an_item_without_a_place_is_in_no_area(
    tmp_path: Path, documents: list[dict[str, Any]]
) -> None:
    """STAC allows a null geometry; such an item is found by other words only."""
    item = {**documents[0], "geometry": None}
    (tmp_path / "item.json").write_text(json.dumps(item))
    assert list(find_items(str(tmp_path / "item.json"), Query(bbox=TATRY))) == []
    assert len(list(find_items(str(tmp_path / "item.json"), Query()))) == 1


def test_an_item_of_a_period_is_found_by_any_part_of_it(
    tmp_path: Path, documents: list[dict[str, Any]]
) -> None:
    """A composite has no moment; it lies in a query that shares a day with it."""
    times = {"datetime": None, "start_datetime": "2024-01-01T00:00:00Z"}
    times["end_datetime"] = "2024-01-08T23:59:59Z"
    (tmp_path / "item.json").write_text(json.dumps({**documents[0], "properties": times}))
    for period, count in (("2024-01-08/2024-02-01", 1), ("2024-01-09/..", 0), ("../2023-12-31", 0)):
        assert len(list(find_items(str(tmp_path / "item.json"), Query(period=period)))) == count


def _broken(folder: Path, unused: int) -> Iterator[tuple[str, str]]:
    """Give addresses that are no catalogues, and what the message must say."""
    yield f"http://127.0.0.1:{unused}/stac", "cannot be reached"
    yield str(folder / "missing.json"), "cannot be reached"
    for name, content, said in (
        ("page.html", "<html></html>", "is not JSON"),
        ("other.json", '{"name": "not STAC"}', "neither a STAC API"),
        ("text.json", '"words"', "neither a STAC API"),
        ("items.parquet", "PAR1 and no more", "cannot be read as stac-geoparquet"),
        ("broken.json", '{"type": "Catalog"}', "cannot be read"),
    ):
        (folder / name).write_text(content)
        yield str(folder / name), said


def test_what_is_no_catalogue_says_so(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """The address is the first thing that people get wrong; the message repeats it."""
    for address, said in _broken(tmp_path, free_port()):
        with pytest.raises(CatalogError, match=said) as raised:
            list(find_items(address, Query()))
        assert address.rsplit("/", 1)[-1] in str(raised.value)


def test_an_unreadable_time_says_which(
    tmp_path: Path, documents: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a query nor an item with a broken time passes for one that matches nothing."""
    path = tmp_path / "item.json"
    path.write_text(json.dumps(documents[0]))
    with pytest.raises(CatalogError, match="2023-02-30"):
        list(find_items(str(path), Query(period="2023-02-30/..")))
    path.write_text(json.dumps({**documents[0], "properties": {"datetime": "yesterday"}}))
    assert list(find_items(str(path), Query(period="2023-02-03/.."))) == []
    assert f"item {documents[0]['id']} is left out: 'yesterday' is not a time" in caplog.text


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """Write a survey of LINZ as its bucket holds it: the collection and two of its items."""
    recorded = Path(__file__).parents[1] / "data/stac/linz"
    for name in ("BD31.json", "BD32.json"):
        (tmp_path / name).write_bytes((recorded / name).read_bytes())
    collection = json.loads(next(recorded.glob("*-collection.json")).read_text())
    kept = [link for link in collection["links"] if link["rel"] in ("root", "self")]
    items = [{"rel": "item", "href": f"./{name}.json"} for name in ("BD31", "BD32")]
    path = tmp_path / "collection.json"
    path.write_text(json.dumps({**collection, "links": [*kept, *items]}))
    return path


def test_a_static_collection_is_a_catalogue(survey: Path) -> None:
    """As people are told to name the surveys of LINZ; its root, which is far away, is not read."""
    found = list(find_items(str(survey), Query()))
    assert [item["id"] for item in found] == ["BD31", "BD32"]
    assert found[0]["assets"]["visual"]["href"] == (survey.parent / "BD31.tiff").as_uri()
    assert found[0] == {**json.loads((survey.parent / "BD31.json").read_text()), **_assets(found)}


def _assets(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"assets": found[0]["assets"]}


def test_broken_items_of_a_static_catalogue_are_left_out(
    survey: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A document that is no item is named by its place, and the walk goes on."""
    for name, content in (("cut", '{"type":'), ("nameless", "{}")):
        (survey.parent / f"{name}.json").write_text(content)
    collection = json.loads(survey.read_text())
    broken = [{"rel": "item", "href": f"./{name}.json"} for name in ("cut", "nameless")]
    odd = [3, {"rel": "item"}, {"rel": ["item"], "href": None}]
    survey.write_text(json.dumps({**collection, "links": [*broken, *odd, *collection["links"]]}))
    assert [item["id"] for item in find_items(str(survey), Query())] == ["BD31", "BD32"]
    assert "cut.json is left out: it is not JSON" in caplog.text
    assert "nameless.json is left out: it has no usable id" in caplog.text


def test_catalogues_that_lead_back_end(survey: Path) -> None:
    """A link to what lies above, under the name of a child, is not followed for ever."""
    root = {"type": "Catalog", "id": "root", "links": [{"rel": "child", "href": survey.name}]}
    (survey.parent / "catalog.json").write_text(json.dumps(root))
    collection = json.loads(survey.read_text())
    back = {"rel": "child", "href": "./catalog.json"}
    survey.write_text(json.dumps({**collection, "links": [*collection["links"], back]}))
    found = find_items(str(survey.parent / "catalog.json"), Query())
    assert [item["id"] for item in found] == ["BD31", "BD32"]


def test_a_collection_of_an_api_names_its_root(stac_api: str) -> None:
    """People paste what the browser shows; the API itself is what can be searched."""
    with pytest.raises(CatalogError, match=r"is a collection of a STAC API; name the API's root"):
        list(find_items(f"{stac_api}/collections/naip", Query()))
