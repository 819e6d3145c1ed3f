"""What becomes of every recorded document and raster: tables that people have read.

`outcomes/documents.csv` has one row for the items of a document that come to the same: what is
taken of them, or why they are refused. `outcomes/scenes.csv` has one row a scene: how many chips
it has, how many are usable, and the mean of both fractions, or why it is refused. Its sources are
`item:` a STAC item with its files beside it, `folder:` files without STAC, and `files:` files by
asset key, with the names of their bands in brackets, for which the test writes an item.

`outcomes/elsewhere.csv` is the same for files that are not kept here because they are large or of
other products: `pytest tests/sensors/test_outcomes.py --rasters FOLDER` holds it to a folder that
has them.
"""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import pytest
import stac_geoparquet.arrow
from pyarrow import parquet

from chipmill.errors import CatalogError, ChipmillError, SceneError
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item
from chipmill.io.store import Store
from chipmill.model.choice import Choice, choose
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.radiometry import OffsetChoice
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor, sensors

Row = dict[str, str]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "tests" / "data" / "stac"
RASTERS = ROOT / "tests" / "data" / "rasters"
MOST_CLOUD = 0.3


def _table(name: str) -> list[Row]:
    with (Path(__file__).parent / "outcomes" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@cache
def _items(document: Path) -> list[Any]:
    """Give what a document holds: items, or something else."""
    if document.suffix == ".parquet":
        table = parquet.read_table(document)
        return list(cast("Iterator[Any]", stac_geoparquet.arrow.stac_table_to_items(table)))
    read: Any = json.loads(document.read_text())
    if isinstance(read, list):
        return cast("list[Any]", read)
    return read["features"] if read.get("type") == "FeatureCollection" else [read]


def _documents() -> Iterator[Path]:
    yield from sorted(path for path in DOCUMENTS.rglob("*") if path.is_file())


def _words(choice: Choice) -> tuple[str, str]:
    bands = (f"{each.band.name}={each.asset.key}/{each.index}" for each in choice.bands)
    return " ".join(bands), choice.quality.key if choice.quality else ""


@pytest.mark.parametrize("row", _table("documents"), ids=lambda row: f"{row['file']} {row['of']}")
def test_a_document_comes_to_what_is_recorded(row: Row) -> None:
    """Which files are taken of real items: a key that changes or is misread shows here."""
    items = [
        item
        for item in _items(DOCUMENTS / row["file"])
        if (item.get("collection") or item.get("type") or "-") == row["of"]
    ]
    assert len(items) == int(row["items"])
    listed = [name for name, each in sensors().items() if row["of"] in each.collections]
    if row["sensor"] == "none":
        assert not listed
        return
    assert row["by"] == ("collection" if row["sensor"] in listed else "name")
    for item in items:
        if row["refused"]:
            with pytest.raises(SceneError, match=re.escape(row["refused"])):
                choose(read_item(item), sensor(row["sensor"]))
        else:
            choice = choose(read_item(item), sensor(row["sensor"]))
            assert _words(choice) == (row["bands"], row["quality"])


def test_every_document_is_in_the_table() -> None:
    """A document that nobody looked at proves nothing."""
    there = {path.relative_to(DOCUMENTS).as_posix() for path in _documents()}
    assert {row["file"] for row in _table("documents")} == there
    said = {(row["file"], row["of"]): int(row["items"]) for row in _table("documents")}
    assert sum(said.values()) == sum(len(_items(path)) for path in _documents())


@pytest.mark.parametrize("name", sorted(sensors()))
def test_no_document_raises_anything_but_a_chipmill_error(name: str) -> None:
    """Whatever a user names as a catalogue, the answer is a sentence and no traceback."""
    kind = sensor(name)
    every = tuple(band.name for band in kind.bands)
    for document in _documents():
        for item in _items(document):
            for bands in ((), every):
                with suppress(ChipmillError):
                    assert choose(read_item(item), kind, bands=bands).bands


def _from_item(row: Row, folder: Path, *, root: Path) -> Path:
    """Point the recorded item at the files beside it, where it names those of its provider."""
    path = root / row["source"].removeprefix("item:")
    item = json.loads(path.read_text())
    files = {file.name.lower(): file for file in path.parent.iterdir()}
    for asset in item["assets"].values():
        name = asset["href"].rpartition("/")[2].lower()
        if not (path.parent / asset["href"]).exists() and name in files:
            asset["href"] = files[name].as_uri()
        elif "://" not in asset["href"]:
            asset["href"] = (path.parent / asset["href"]).as_uri()
    written = folder / "item.json"
    written.write_text(json.dumps(item))
    return written


def _from_folder(row: Row, folder: Path, *, root: Path) -> Path:
    for name in row["source"].removeprefix("folder:").split(";"):
        shutil.copy(root / name, folder)
    return folder


def _from_files(row: Row, folder: Path, *, root: Path) -> Path:
    assets: dict[str, Any] = {}
    for each in row["source"].removeprefix("files:").split(";"):
        key, listed, name = re.fullmatch(r"(\w+)(?:\[(.*)\])?=(.*)", each, re.ASCII).groups()  # pyright: ignore[reportOptionalMemberAccess]
        assets[key] = {"href": (root / name).as_uri(), "type": _TYPES[Path(name).suffix.lower()]}
        if listed:
            assets[key]["bands"] = [{"name": band} for band in listed.split("+")]
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "recorded",
        "geometry": None,
        "properties": {"datetime": "2020-01-01T00:00:00Z", "platform": row["platform"]},
        "links": [],
        "assets": assets,
    }
    written = folder / "item.json"
    written.write_text(json.dumps(item))
    return written


_TYPES = {".tif": "image/tiff", ".tiff": "image/tiff", ".jp2": "image/jp2"}
_FROM = {"item": _from_item, "folder": _from_folder, "files": _from_files}


def outcome(row: Row, folder: Path, ingest: Ingest, *, root: Path | None = None) -> dict[str, str]:
    """Ingest the scene of a row and say what came of it, in the words of the table.

    Args:
        row: Of a table of scenes.
        folder: Empty, for the archive and what is written for the row.
        ingest: Brings a request into an archive.
        root: Where the row's files are; None: in this project.
    """
    source = folder / "source"
    source.mkdir()
    archive = Store.open((folder / "archive").as_uri())
    kind = row["source"].partition(":")[0]
    size = int(row["chip_size"])
    request = IngestRequest(
        sensor=row["sensor"],
        catalog=str(_FROM[kind](row, source, root=root or (ROOT if kind == "item" else RASTERS))),
        bands=tuple(row["bands"].split()),
        chip_size=size,
        offset=cast("OffsetChoice", row["offset"] or "from evidence"),
    )
    try:
        (scene,) = ingest(request, archive)
    except (CatalogError, SceneError) as err:
        return {"refused": str(err)}
    key = layout.part_key(size, scene.collection, scene.item)
    chips = parquet.read_table(BytesIO(archive.get(key)))
    cloud, nodata = chips["cloud_fraction"].to_numpy(), chips["nodata_fraction"].to_numpy()
    return {
        "chips": str(len(cloud)),
        "usable": str(int(((cloud <= MOST_CLOUD) & (nodata == 0)).sum())),
        "cloud": f"{np.float64(cloud).mean():.6f}",
        "nodata": f"{np.float64(nodata).mean():.6f}",
    }


@pytest.mark.parametrize("row", _table("scenes"), ids=lambda row: row["name"])
def test_a_scene_comes_to_what_is_recorded(row: Row, tmp_path: Path, ingest: Ingest) -> None:
    """From search to index with real pixels: no count of a release before may change unseen."""
    _expect(row, outcome(row, tmp_path, ingest))


@pytest.fixture
def rasters(request: pytest.FixtureRequest) -> Path:
    """Give the folder of files that are not kept here."""
    folder = cast("Path | None", request.config.getoption("--rasters"))
    if folder is None:
        pytest.skip("no --rasters: files that are not kept here are not read")
    return folder


@pytest.mark.parametrize("row", _table("elsewhere"), ids=lambda row: row["name"])
def test_a_scene_elsewhere_comes_to_what_is_recorded(
    row: Row, tmp_path: Path, ingest: Ingest, rasters: Path
) -> None:
    """The same for whole scenes and for products that no sensor is of."""
    _expect(row, outcome(row, tmp_path, ingest, root=rasters))


def test_every_raster_elsewhere_is_in_a_table(rasters: Path) -> None:
    """A raster that nobody looked at proves nothing."""
    rows = [row["source"] for name in ("scenes", "elsewhere") for row in _table(name)]
    items = [PurePosixPath(source).parent.name for source in rows if source.startswith("item:")]
    there = {path for path in rasters.rglob("*") if path.suffix.lower() in _TYPES}
    items += [PurePosixPath(source).stem for source in rows if source.startswith("item:")]
    assert there
    assert not [
        path
        for path in sorted(there)
        if path.parent.name not in items
        and path.stem not in items
        and not any(path.relative_to(rasters).as_posix() in source for source in rows)
    ]


def _expect(row: Row, came: dict[str, str]) -> None:
    if row["refused"]:
        assert row["refused"] in came["refused"]
    else:
        assert came == {name: row[name] for name in ("chips", "usable", "cloud", "nodata")}
