# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Snapshots: named by their content, read by other tools, with every chip where it lies."""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Barrier

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from pyarrow import parquet
from pyproj import Transformer

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.snapshot import Snapshot, snapshot_name
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.index import index_chips
from chipmill.steps.merge import load_snapshot, merge_index

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
group = pytest.mark.xdist_group("ingested")
S2 = "sentinel-2-l2a"


def drawn(
    draw: Draw, ingest: Ingest, archive: Store, folder: Path, name: str, **place: object
) -> None:
    """Bring a scene of two by three chips into an archive; its pixels follow from its name."""
    seed = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
    layers = {
        "red": (seed.integers(0, 50, (32, 48)).astype(np.uint16), 10.0, 0.0),
        "scl": (seed.integers(0, 12, (16, 24)).astype(np.uint8), 20.0, None),
    }
    path = draw(folder / "source", layers, item=name, **place)
    ingest(IngestRequest(sensor=S2, catalog=str(path), bands=("red",), chip_size=16), archive)


def fresh(folder: Path) -> Store:
    """Open an empty archive."""
    return Store.open((folder / "archive").as_uri())


def test_the_name_follows_from_the_content_alone(
    tmp_path: Path, draw: Draw, ingest: Ingest
) -> None:
    """Two teams with the same scenes train on the same snapshot, however they came to it."""
    names: set[str] = set()
    for way, order in enumerate(("abc", "cab", "bca")):
        archive = fresh(tmp_path / str(way))
        for name in order:
            drawn(draw, ingest, archive, tmp_path / str(way), name)
            if way:
                merge_index(archive, chip_size=16)
        names.add(merge_index(archive, chip_size=16).snapshot)
    assert len(names) == 1
    assert snapshot_name(16, ["a", "b"]) == snapshot_name(16, ["b", "a"])
    assert snapshot_name(16, ["a"]) != snapshot_name(32, ["a"])
    other = fresh(tmp_path / "0")
    drawn(draw, ingest, other, tmp_path, "d")
    assert merge_index(other, chip_size=16).snapshot not in names


def test_merging_again_changes_nothing(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """A snapshot is immutable: the same document, the same files, to the time of change."""
    archive = fresh(tmp_path)
    drawn(draw, ingest, archive, tmp_path, "a")
    first = merge_index(archive, chip_size=16)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*.*")}
    assert merge_index(archive, chip_size=16) == first
    assert load_snapshot(archive, first.snapshot) == load_snapshot(archive, "latest", chip_size=16)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    drawn(draw, ingest, archive, tmp_path, "b")
    second = merge_index(archive, chip_size=16)
    assert second.scenes == 2
    assert load_snapshot(archive, first.snapshot) == first
    assert load_snapshot(archive, "latest", chip_size=16) == second


@pytest.mark.parametrize(
    "kind",
    ["archive", pytest.param("s3_archive", marks=[pytest.mark.s3, pytest.mark.xdist_group("s3")])],
)
def test_merges_at_once_agree(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, draw: Draw, ingest: Ingest
) -> None:
    """Two flows end at the same moment: one document wins, and both say the same."""
    archive: Store = request.getfixturevalue(kind)
    for name in "ab":
        drawn(draw, ingest, archive, tmp_path, name)
    start = Barrier(4)

    def merge(_: int) -> Snapshot:
        start.wait()
        return merge_index(archive, chip_size=16)

    with ThreadPoolExecutor(4) as pool:
        snapshots = list(pool.map(merge, range(4)))
    assert all(snapshot == snapshots[0] for snapshot in snapshots)
    table = parquet.read_table(BytesIO(archive.get(snapshots[0].chip_files[0])))
    assert len(table) == snapshots[0].chips == 12


def test_an_archive_without_chips_says_so(archive: Store) -> None:
    """What is missing and what to do, for the merge and for those who ask for a snapshot."""
    with pytest.raises(RequestError, match="no scene is indexed with chips of 16 px"):
        merge_index(archive, chip_size=16)
    with pytest.raises(RequestError, match="no snapshot with chips of 16 px"):
        load_snapshot(archive, "latest", chip_size=16)
    with pytest.raises(RequestError, match=r"there is no .* '0123456789abcdef'"):
        load_snapshot(archive, "0123456789abcdef")


def test_a_changed_file_changes_the_name(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """Not only counts make the content: other pixels with equal counts are another snapshot."""
    names: set[str] = set()
    for value in (7, 8):
        archive = fresh(tmp_path / str(value))
        ones = np.ones((16, 16))
        layers = {
            "red": ((ones * value).astype(np.uint16), 10.0, 0.0),
            "scl": ((ones * 4).astype(np.uint8), 10.0, None),
        }
        path = draw(tmp_path / str(value) / "source", layers)
        request = IngestRequest(sensor=S2, catalog=str(path), bands=("red",), chip_size=16)
        (scene,) = ingest(request, archive)
        assert not index_chips(scene, archive, chip_size=16).fresh
        names.add(merge_index(archive, chip_size=16).snapshot)
    assert len(names) == 2


@group
def test_other_tools_read_it_as_geoparquet(ingested: Store) -> None:
    """A chip is where its pixels are: corners projected by rasterio's and pyproj's own means."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    path = ingested.local_path(snapshot.chip_files[0])
    assert path is not None
    frame = geopandas.read_parquet(path)
    assert frame.crs == "OGC:CRS84"
    assert len(frame) == snapshot.chips
    assert frame.geometry.is_valid.all()
    assert frame.geometry.exterior.is_ccw.all()
    for _, chips in frame.groupby("scene", observed=True):
        assets = json.loads(str(chips["assets"].iloc[0]))
        asset = min(assets.values(), key=lambda asset: asset["proj:transform"][0])
        with rasterio.open(ingested.local_path(ingested.key_of(asset["href"]))) as file:
            project = Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True)
            for chip in chips.iloc[[0, -1]].itertuples():
                spots = [(0, 0), (1, 0), (1, 1), (0, 1)]
                corners = [
                    project.transform(
                        *(file.transform @ ((chip.col + x) * 64, (chip.row + y) * 64))
                    )
                    for y, x in spots
                ]
                assert shapely.Polygon(corners).equals_exact(chip.geometry, 1e-9, normalize=True)


@group
def test_the_covering_is_true(ingested: Store) -> None:
    """Readers skip rows by the box column: it holds the geometry and hardly more."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    table = parquet.read_table(BytesIO(ingested.get(snapshot.chip_files[0])))
    boxes = table["bbox"].to_pylist()
    names = ("xmin", "ymin", "xmax", "ymax")
    found = np.array([[box[name] for name in names] for box in boxes if box])
    bounds = shapely.bounds(shapely.from_wkb(table["geometry"].to_numpy()))
    assert (found[:, :2] <= bounds[:, :2]).all()
    assert (found[:, 2:] >= bounds[:, 2:]).all()
    # Rounded outward to single precision, by less than two metres.
    np.testing.assert_allclose(found, bounds, rtol=0, atol=180 * 2.0**-23)
    metadata = table.schema.metadata or {}
    geo = json.loads(metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]


@group
def test_the_provenance_of_a_snapshot_is_complete(ingested: Store) -> None:
    """One row for every asset, with the digest of the bytes that lie in the archive."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    rows = parquet.read_table(BytesIO(ingested.get(snapshot.provenance_files[0]))).to_pylist()
    assert {row["key"] for row in rows} == set(ingested.keys("assets"))
    for row in rows:
        assert hashlib.sha256(ingested.get(row["key"])).hexdigest() == row["sha256"]


def test_a_scene_across_the_antimeridian(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """Chips of UTM zone 1 west of 180 degrees: two sides, west > east, no band around the earth."""
    archive = fresh(tmp_path)
    # 166,021 m is where zone 1 meets the antimeridian at the equator.
    drawn(draw, ingest, archive, tmp_path, "a", crs="EPSG:32601", corner=(165_781.0, 100_000.0))
    snapshot = merge_index(archive, chip_size=16)
    path = archive.local_path(snapshot.chip_files[0])
    assert path is not None
    frame = geopandas.read_parquet(path)
    kinds = dict(zip(frame["col"], frame.geometry.geom_type, strict=True))
    assert kinds == {0: "Polygon", 1: "MultiPolygon", 2: "Polygon"}
    assert frame.geometry.is_valid.all()
    degrees = 160 / 111_320
    np.testing.assert_allclose(shapely.area(frame.geometry.to_numpy()), degrees**2, rtol=0.02)
    for chip in parquet.read_table(path, columns=["col", "bbox"]).to_pylist():
        west, east = chip["bbox"]["xmin"], chip["bbox"]["xmax"]
        assert -180 <= west <= 180
        assert -180 <= east <= 180
        assert (west > east) == (chip["col"] == 1)
        assert (east - west) % 360 == pytest.approx(degrees, rel=0.01)


def test_a_part_that_is_damaged_is_named(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """Of ten thousand parts one is broken: the message says which, and what to do."""
    archive = fresh(tmp_path)
    drawn(draw, ingest, archive, tmp_path, "a")
    key = layout.part_key(16, S2, "a")
    shutil.copy(tmp_path / "archive" / layout.item_key(S2, "a"), tmp_path / "archive" / key)
    with pytest.raises(Exception, match="index the scene again") as raised:
        merge_index(archive, chip_size=16)
    assert key in str(raised.value)
    index_chips(SceneRef(collection=S2, item="a"), archive, chip_size=16)
    assert merge_index(archive, chip_size=16).scenes == 1
