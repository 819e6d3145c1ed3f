"""What real catalogues once answered, served again by a real STAC API and from a real S3 server."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from chipmill.formats.item_reading import read_item
from chipmill.io.catalog import Query, find_items
from chipmill.io.catalog_api import Api
from chipmill.io.documents import Documents, parsed
from chipmill.io.left_out import LeftOut
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import Scene
from chipmill.steps.search import search_scenes

ServeItems = Callable[[Path], str]
Item = dict[str, Any]
STAC = Path(__file__).parents[1] / "data" / "stac"
QUERIES = {
    "all": Query(),
    "an area": Query(bbox=(2, 48, 3, 49.5)),
    "an area across the antimeridian": Query(bbox=(170, -60, -170, 60)),
    "little cloud": Query(max_cloud=20),
    "little nodata": Query(max_nodata=30),
    "the clearest": Query(
        collections=("sentinel-2-l2a",), least_cloudy_first=True, max_items=5, max_cloud=60
    ),
    "a period": Query(period="2021-01-01/2022-12-31"),
    "a collection": Query(collections=("naip",)),
    "a grid": Query(grid_codes=("MGRS-31U*",)),
    "an id": Query(ids=("S2A_31UDQ_20230617_0_L2A",)),
}
pytestmark = pytest.mark.xdist_group("recorded")


def recorded_items() -> Iterator[Item]:
    """Give every recorded item once, of each catalogue and file."""
    told = set[tuple[str, str]]()
    for path in sorted(STAC.rglob("*.json")):
        document: Any = json.loads(path.read_text())
        for item in cast("list[Item]", document if isinstance(document, list) else _in(document)):
            name = str(item.get("collection")), str(item.get("id"))
            # An API gives an item without a collection one of its own making.
            if item.get("type") == "Feature" and item.get("collection") and name not in told:
                told.add(name)
                yield item


def _in(document: Item) -> list[Item]:
    return document.get("features", [document])


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write all recorded items as one ItemCollection."""
    path = tmp_path_factory.mktemp("recorded") / "items.json"
    features = list(recorded_items())
    assert len(features) > 90
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture(scope="module")
def api(items: Path, serve_items: ServeItems) -> str:
    """Serve them by a real STAC API."""
    return serve_items(items)


def ids(found: Iterator[Item]) -> list[tuple[str, str]]:
    """Name items."""
    return [(str(item["collection"]), str(item["id"])) for item in found]


@pytest.mark.parametrize("name", QUERIES)
def test_an_api_answers_as_its_content_says(
    api: str, items: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Page after page of a real server; what it cannot filter or sort is done here, and said."""
    caplog.set_level(logging.INFO, "chipmill")
    query = QUERIES[name]
    with Documents(rate=1000) as documents:
        landing = cast("Item", parsed(api, lambda: documents.read(api)))
        found = ids(Api(api, landing, documents, LeftOut()).find(query, page=10))
    wanted = ids(find_items(str(items), query))
    assert wanted
    assert (found if query.least_cloudy_first else sorted(found)) == (
        wanted if query.least_cloudy_first else sorted(wanted)
    )
    if query.max_cloud is not None:
        assert "has no filter extension: done here" in caplog.text


@pytest.mark.parametrize("sensor", ["sentinel-2-l2a", "naip", "landsat-c2l2-sr"])
def test_a_search_of_an_api_freezes_the_same_list(
    api: str, items: Path, tmp_path: Path, sensor: str
) -> None:
    """Where the items lie changes neither the choice nor what chipmill sees of a scene."""
    kept: list[dict[str, Scene]] = []
    for number, catalog in enumerate((api, str(items))):
        archive = Store.open((tmp_path / str(number)).as_uri())
        policy = {"keep": "least_cloudy", "count": 2, "every": "quarter"}
        request = {"sensor": sensor, "catalog": catalog, "policy": policy, "max_nodata": 60}
        assert search_scenes(IngestRequest.model_validate(request), archive, rate=1000)
        keys = archive.keys("provenance/items/")
        kept.append({key: seen(archive.get(key)) for key in keys})
    assert kept[0] == kept[1] != {}


def seen(document: bytes) -> Scene:
    """Parse an item; the order of assets has no meaning."""
    scene = read_item(json.loads(document))
    return replace(scene, assets=tuple(sorted(scene.assets, key=lambda asset: asset.key)))


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_the_same_items_lie_in_a_bucket(items: Path, s3_archive: Store) -> None:
    """A catalogue in S3 is read with the team's credentials, and gives the same answers."""
    s3_archive.put("items.json", items.read_bytes())
    for query in QUERIES.values():
        found = ids(find_items(s3_archive.href("items.json"), query))
        assert found == ids(find_items(str(items), query))
