# pyright: reportUnknownVariableType=false
# rasterio ships no types.
"""A folder of GeoTIFFs without STAC: what its files say becomes items, and goes the whole way."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.warp import transform_bounds

from chipmill.errors import CatalogError, RequestError
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item
from chipmill.io.folder import folder_items
from chipmill.io.source import open_source
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.choice import choose
from chipmill.model.grid import Grid
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.outline import outline
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor
from chipmill.settings import Settings
from chipmill.steps.estimate import estimate
from chipmill.steps.merge import merge_index
from chipmill.steps.search import search_scenes

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
UTM = "EPSG:32633"


def write(path: Path, bands: int = 1, **more: object) -> Path:
    """Write a small file: 40 x 56 pixels of 10 m; more options are rasterio's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {
        "crs": UTM,
        "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_100_000.0),
        "dtype": "uint16",
        **more,
    }
    pixels: NDArray[np.generic] = np.arange(bands * 40 * 56, dtype=profile["dtype"])
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=40, width=56, **profile
    ) as file:
        file.write(pixels.reshape(bands, 40, 56))
    return path


def only(folder: Path) -> dict[str, Any]:
    """Give the item of a folder of one file."""
    (item,) = folder_items(folder.as_uri())
    return item


def test_an_item_says_what_the_header_says(tmp_path: Path) -> None:
    """Names, colours, scale and wavelength stand in some headers, and nowhere else."""
    path = write(tmp_path / "field.tif", bands=4)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("Green, leaf", None, None, None)
        file.colorinterp = [
            ColorInterp.green,
            ColorInterp.red,
            ColorInterp.undefined,
            ColorInterp.alpha,
        ]
        file.scales, file.offsets = (0.5, 1, 1, 1), (2.0, 0, 0, 0)
        file.update_tags(1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.56", FWHM_UM="0.04")
    item = only(tmp_path)
    assert item["id"] == "field"
    image = item["assets"]["image"]
    assert image["file:size"] == path.stat().st_size
    assert (image["proj:shape"], image["data_type"]) == ([40, 56], "uint16")
    assert [band["name"] for band in image["bands"]] == ["Green, leaf", "red", "b3", "alpha"]
    scene = read_item(item)
    choice = choose(scene, sensor("files"))
    assert [(each.band.name, each.index) for each in choice.bands] == [
        ("Green-leaf", 1),
        ("red", 2),
        ("b3", 3),
    ]
    spectral = choice.bands[0].band.spectral[""]
    assert (spectral.wavelength, spectral.fwhm) == (0.56, 0.04)
    assert choice.bands[1].band.spectral == {}
    assert (scene.assets[0].bands[0].scale, scene.assets[0].bands[0].offset) == (0.5, 2.0)


def test_a_dry_run_knows_the_chips(tmp_path: Path, archive: Store) -> None:
    """What an ingest will need is told by the headers, which have been read anyway."""
    path = write(tmp_path / "in" / "field.tif", bands=2)
    request = IngestRequest(sensor="files", catalog=str(path.parent), chip_size=16)
    scenes = search_scenes(request, archive)
    access = Access.of(Settings(local_sources=True), local=True)
    need = estimate(request, scenes, archive, access=access, throughput=1e6).need
    assert (need.chips, need.bytes) == (2 * 3, path.stat().st_size)
    assert need.fast == 6 * 2 * 16 * 16 * 2


def test_bands_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """A band that is lost in silence is worse than one with an odd name."""
    with rasterio.open(write(tmp_path / "a.tif", bands=3), "r+") as file:
        file.descriptions = ("ndvi", "ndvi", "dsm")
    choice = choose(read_item(only(tmp_path)), sensor("files"))
    assert [each.band.name for each in choice.bands] == ["ndvi-1", "ndvi-2", "dsm"]


@pytest.mark.parametrize(
    ("name", "tag", "time", "source"),
    [
        ("m_20160620", "2018:07:16 10:20:30", "2018-07-16T10:20:30Z", "tag"),
        ("m_3607824_se_17_1_20160620_subset", None, "2016-06-20T00:00:00Z", "name"),
        ("survey-2023-08-15T102030_rgb", None, "2023-08-15T10:20:30Z", "name"),
        ("20230230_20230301", None, "2023-03-01T00:00:00Z", "name"),
        ("tile_120230815", "no time", "2001-09-09T01:46:40Z", "modified"),
    ],
)
def test_a_time_is_found_and_says_where_from(
    tmp_path: Path, name: str, tag: str | None, time: str, source: str
) -> None:
    """A model learns from the time: that it is only the file's must be seen."""
    path = write(tmp_path / f"{name}.tif")
    if tag:
        with rasterio.open(path, "r+") as file:
            file.update_tags(TIFFTAG_DATETIME=tag)
    os.utime(path, (1e9, 1e9))
    said = only(tmp_path)["properties"]
    assert (said["datetime"], said["chipmill:datetime_from"]) == (time, source)


def test_files_that_cannot_be_used_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One strange file must not stop a folder of thousands; it is named in the log."""
    write(tmp_path / "good.tif")
    write(tmp_path / "nowhere.tif", crs=None)
    write(tmp_path / "masked.tif")
    (tmp_path / "masked.tif.msk").write_bytes(b"II*\0")
    (tmp_path / "broken.TIFF").write_bytes(b"II*\0 and no more")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.tif").write_bytes(b"")
    assert [item["id"] for item in folder_items(tmp_path.as_uri())] == ["good"]
    for name in ("nowhere.tif", "masked.tif", "broken.TIFF"):
        assert f"{name} is left out: " in caplog.text
    (tmp_path / "good.tif").unlink()
    with pytest.raises(CatalogError, match=r"no GeoTIFF below .* can be used: "):
        list(folder_items(tmp_path.as_uri()))


def test_a_folder_without_geotiffs_is_no_catalogue(tmp_path: Path, archive: Store) -> None:
    """A wrong path is the user's most likely mistake."""
    with pytest.raises(CatalogError, match="there is no GeoTIFF"):
        search_scenes(IngestRequest(sensor="files", catalog=str(tmp_path)), archive)


def test_two_files_of_one_stem_are_two_scenes(tmp_path: Path) -> None:
    """Else the second would take the first one's place in the archive."""
    for name in ("a.tif", "a.tiff", "b.tif"):
        write(tmp_path / name)
    assert [item["id"] for item in folder_items(tmp_path.as_uri())] == ["a.tif", "a.tiff", "b"]


def test_a_folder_goes_the_whole_way(tmp_path: Path, archive: Store, ingest: Ingest) -> None:
    """From search to snapshot, with names that URLs and keys have other meanings for."""
    folder = tmp_path / "our photographs"
    write(folder / "2023" / "ä b#1%20.tif", bands=3, nodata=7)
    write(folder / "plain-20240102.tif", bands=2)
    request = IngestRequest(sensor="files", catalog=str(folder), chip_size=16)
    scenes = ingest(request, archive)
    assert [scene.item for scene in scenes] == ["2023/ä b#1%20", "plain-20240102"]
    snapshot = merge_index(archive, chip_size=16)
    assert (snapshot.scenes, snapshot.chips) == (2, 12)
    one = request.model_copy(update={"period": "2024-01-02/2024-01-02", "bands": ("b2",)})
    (scene,) = ingest(one, archive)
    item = json.loads(archive.get(f"items/files/{scene.item}.json"))
    assert [band["name"] for band in item["assets"]["image"]["bands"]] == ["b2"]
    with pytest.raises(RequestError, match="no files scene"):
        search_scenes(one.model_copy(update={"bbox": (0, 0, 1, 1)}), archive)


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_a_folder_may_be_a_prefix_of_a_bucket(
    tmp_path: Path, s3_archive: Store, archive: Store
) -> None:
    """Teams keep their photographs in buckets; a slash at the end says that it is a folder."""
    path = write(tmp_path / "ü x.tif", bands=2)
    s3_archive.put("photographs/2023/ü x.tif", path.read_bytes())
    catalog = f"{s3_archive.url}/photographs/"
    (scene,) = search_scenes(IngestRequest(sensor="files", catalog=catalog), archive)
    assert scene.item == "2023/ü x"
    found = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    (image,) = read_item(found).assets
    with open_source(image.href) as source:
        assert b"".join(source.pieces) == path.read_bytes()


def grids() -> st.SearchStrategy[Grid]:
    """Draw grids of some projections, some of them across the antimeridian."""
    places: Mapping[str, tuple[float, float, float]] = {
        "EPSG:32633": (300_000, 5_000_000, 10),
        "EPSG:32601": (200_000, 1_000_000, 10),  # zone 1 begins at the antimeridian
        "EPSG:32760": (700_000, 8_000_000, 10),  # zone 60 ends there
        "EPSG:3031": (-2_000_000, 1_500_000, 100),
        "EPSG:3857": (1_000_000, 6_000_000, 5),
        "EPSG:4326": (14.0, 50.0, 0.001),
        "EPSG:2193": (1_600_000, 5_400_000, 1),
    }

    def grid(crs: str, height: int, width: int, right: float) -> Grid:
        left, top, pixel = places[crs]
        return Grid(
            height=height,
            width=width,
            transform=(pixel, 0.0, left + right * width * pixel, 0.0, -pixel, top),
            crs=crs,
        )

    edges = st.integers(100, 8000)
    return st.builds(
        grid, st.sampled_from(sorted(places)), edges, edges, st.sampled_from([0.0, 0.5])
    )


@given(grid=grids())
def test_an_outline_holds_all_of_a_scene(grid: Grid) -> None:
    """GDAL's bounds, with many points on each edge, are the independent answer."""
    shape, (west, south, east, north) = outline(grid)
    assert shapely.is_valid(shape)
    a, _, left, _, e, top = grid.transform
    right, bottom = left + a * grid.width, top + e * grid.height
    expected = cast(
        "tuple[float, ...]",
        transform_bounds(grid.crs, "OGC:CRS84", left, bottom, right, top, densify_pts=101),
    )
    if west <= east and grid.crs != "EPSG:3031":  # GDAL adds the pole
        assert np.allclose((west, south, east, north), expected, atol=0.01)
    to_lonlat = Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True)
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
        lon, lat = to_lonlat.transform(x, y)
        assert shapely.distance(shape, shapely.Point(lon, lat)) < 1e-9
        assert south - 1e-9 <= lat <= north + 1e-9
        inside = west - 1e-9 <= lon, lon <= east + 1e-9
        assert any(inside) if west > east else all(inside)


def test_an_outline_across_the_antimeridian_has_two_sides() -> None:
    """A box around the whole earth would match every search."""
    over, (west, _, east, _) = outline(
        Grid(
            height=1000,
            width=1000,
            transform=(100.0, 0.0, 100_000.0, 0.0, -100.0, 1_000_000.0),
            crs="EPSG:32601",
        )
    )
    assert isinstance(over, shapely.MultiPolygon)
    assert 179 < west < 180
    assert -180 < east < -179


def test_a_map_of_the_whole_world_is_not_a_line() -> None:
    """Its edges are the antimeridian twice."""
    _, box = outline(
        Grid(height=180, width=360, transform=(1.0, 0.0, -180.0, 0.0, -1.0, 90.0), crs="EPSG:4326")
    )
    assert box == (-180, -90, 180, 90)


def test_times_are_utc(tmp_path: Path) -> None:
    """A plan compares times of many catalogues."""
    write(tmp_path / "x_20230815.tif")
    assert read_item(only(tmp_path)).datetime == datetime(2023, 8, 15, tzinfo=UTC)
