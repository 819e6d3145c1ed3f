# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Rewritten items: valid STAC, and true of the files that they name."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from xxhash import xxh3_128_hexdigest

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.radiometry import OffsetChoice
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

Draw = Callable[..., Path]
StacErrors = Callable[[dict[str, Any]], list[str]]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
group = pytest.mark.xdist_group("ingested")

EVIDENCE: OffsetChoice = "from evidence"
S2 = "sentinel-2-l2a"
ITEMS = {
    "S2A_29RKH_20200219_0_L2A": S2,
    "S2A_33TWM_20230815_0_L2A": S2,
    "S2A_33TWM_20230818_0_L2A": S2,
    "LC08_L2SP_005009_20150710_20200908_02_T2": "landsat-c2l2-sr",
    "m_3607824_se_17_1_20160620_subset": "naip",
    "m_4709963_se_14_1_20180716": "naip",
}
# Centre and width in micrometres, as the sensors' makers print them.
SPECTRAL = {
    (S2, "red"): (0.6646, 0.031),
    (S2, "swir16"): (1.6137, 0.091),
    ("landsat-c2l2-sr", "green"): (0.56141, 0.05733),
    ("naip", "nir"): (0.845, 0.074),
}


def item_of(archive: Store, item: str) -> dict[str, Any]:
    """Read a rewritten item."""
    return json.loads(archive.get(layout.item_key(ITEMS[item], item)))


@group
@pytest.mark.parametrize("name", ITEMS)
def test_a_rewritten_item_is_valid_stac(
    name: str, ingested: Store, stac_errors: StacErrors
) -> None:
    """Other tools read the archive: the schemas of STAC 1.1.0 and of every extension named."""
    item = item_of(ingested, name)
    assert stac_errors(item) == []
    assert item["stac_version"] == "1.1.0"
    (link,) = (link for link in item["links"] if link["rel"] == "collection")
    collection = ingested.local_path(f"items/{ITEMS[name]}/{link['href']}")
    assert collection is not None
    assert pystac.Collection.from_file(str(collection.resolve())).id == item["collection"]
    parsed = pystac.Item.from_dict(item, preserve_dict=True)
    assert parsed.id == name
    again = parsed.to_dict(include_self_link=False, transform_hrefs=False)
    assert {**again, "stac_extensions": item["stac_extensions"]} == item  # nothing was migrated


@group
@pytest.mark.parametrize("name", ITEMS)
def test_it_is_true_of_its_files(name: str, ingested: Store) -> None:
    """Size, place, type and digest are the file's own, whatever the provider's item said."""
    for asset in item_of(ingested, name)["assets"].values():
        path = ingested.local_path(ingested.key_of(asset["href"]))
        assert path is not None
        data = path.read_bytes()
        assert asset["file:size"] == len(data)
        assert asset["file:checksum"] == f"1220{hashlib.sha256(data).hexdigest()}"
        assert asset["chipmill:checksum"] == f"e4e70210{xxh3_128_hexdigest(data)}"
        with rasterio.open(path) as file:
            assert asset["proj:code"] == f"EPSG:{file.crs.to_epsg()}"
            assert asset["proj:shape"] == [file.height, file.width]
            assert asset["proj:transform"] == list(file.transform)[:6]
            assert asset["data_type"] == file.dtypes[0]
            assert asset.get("nodata", 0) == (file.nodata or 0)
            assert asset["raster:spatial_resolution"] == pytest.approx(max(file.res))


@group
@pytest.mark.parametrize("name", ITEMS)
def test_it_has_what_a_model_needs(name: str, ingested: Store) -> None:
    """Place, full time, resolution, wavelength, width and normalisation of every band."""
    item, collection = item_of(ingested, name), ITEMS[name]
    west, south, east, north = item["bbox"]
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    assert datetime.fromisoformat(item["properties"]["datetime"]).tzinfo is not None
    assert len(item["properties"]["datetime"]) >= len("2020-02-19T11:40:36Z")
    bands = [band for asset in item["assets"].values() for band in asset.get("bands", ())]
    assert bands
    for band in bands:
        assert 0.3 < band["eo:center_wavelength"] < 2.5
        assert 0.01 < band["eo:full_width_half_max"] < 0.3
        assert item["properties"]["normalization_average"][band["name"]] > 0
        assert item["properties"]["normalization_standard_deviation"][band["name"]] > 0
        if expected := SPECTRAL.get((collection, band["name"])):
            assert (band["eo:center_wavelength"], band["eo:full_width_half_max"]) == expected
    finest = min(asset["raster:spatial_resolution"] for asset in item["assets"].values())
    assert item["properties"]["gsd"] == finest


@group
def test_the_file_wins_over_the_item(ingested: Store) -> None:
    """These files are reduced ten times, their items still state the full size."""
    item = item_of(ingested, "S2A_29RKH_20200219_0_L2A")
    findings = " ".join(item["properties"]["chipmill:findings"])
    assert "the item says 10980 x 10980 px, the file has 1098 x 1098" in findings
    assert "chipmill:findings" not in item_of(ingested, "m_4709963_se_14_1_20180716")["properties"]


@group
def test_an_applied_offset_is_not_applied_twice(ingested: Store) -> None:
    """The item states -0.1 and a flag that the pixels have it already: then it is 0."""
    item = item_of(ingested, "S2A_33TWM_20230818_0_L2A")
    (band,) = item["assets"]["red"]["bands"]
    assert (band["raster:scale"], band["raster:offset"]) == (0.0001, 0.0)
    landsat = item_of(ingested, "LC08_L2SP_005009_20150710_20200908_02_T2")
    bands = [band for asset in landsat["assets"].values() for band in asset.get("bands", ())]
    assert {(band["raster:scale"], band["raster:offset"]) for band in bands} == {(2.75e-05, -0.2)}


@group
def test_the_evidence_of_the_offset_is_kept(ingested: Store) -> None:
    """Real scenes: a desert before baseline 04.00, where pixels tell nothing, and two after it."""
    desert = item_of(ingested, "S2A_29RKH_20200219_0_L2A")["properties"]["chipmill:offset"]
    assert (desert["verdict"], desert["decided_by"]) == ("applied", "baseline")
    assert (desert["pixels"], min(desert["darkest"].values())) == ("cannot tell", 2108)
    for name in ("S2A_33TWM_20230815_0_L2A", "S2A_33TWM_20230818_0_L2A"):
        properties = item_of(ingested, name)["properties"]
        found = properties["chipmill:offset"]
        assert (found["verdict"], found["decided_by"]) == ("applied", "pixels")
        assert (found["baseline"], found["flag"], found["item_offset"]) == ("05.09", True, -0.1)
        said = "the item states the offset -0.1, but it is applied"
        assert said in properties["chipmill:findings"]


def rewrite_drawn(
    draw: Draw, folder: Path, archive: Store, *, added: int, offset: OffsetChoice, **said: object
) -> dict[str, Any]:
    """Bring the red band of a real scene, with a number added, into an archive."""
    source = Path(__file__).parents[2] / "demo/scenes/sentinel-2-l2a/S2A_33TWM_20230818_0_L2A"
    with rasterio.open(source / "B04.tif", driver="JP2OpenJPEG") as file:
        red = file.read(1)
    red[red > 0] += added
    layers = {"red": (red, 120.0, 0.0), "scl": (np.full(red.shape, 4, np.uint8), 120.0, None)}
    path = draw(folder, layers, properties={"s2:processing_baseline": "05.09", **said})
    (scene,) = search_scenes(IngestRequest(sensor=S2, catalog=str(path)), archive)
    copy_assets(scene, archive, bands=("red",))
    return json.loads(archive.get(rewrite_item(scene, archive, bands=("red",), offset=offset)))


def test_the_pixels_of_a_real_scene_tell_their_offset(
    tmp_path: Path, archive: Store, draw: Draw
) -> None:
    """The same scene as two catalogues deliver it: without the offset and with it."""
    for added, verdict, offset in ((0, "applied", 0.0), (1000, "not applied", -0.1)):
        item = rewrite_drawn(draw, tmp_path / str(added), archive, added=added, offset=EVIDENCE)
        found = item["properties"]["chipmill:offset"]
        assert (found["verdict"], found["decided_by"]) == (verdict, "pixels")
        assert item["assets"]["red"]["bands"][0]["raster:offset"] == pytest.approx(offset)
        assert item["properties"]["processing:version"] == "05.09"


def test_a_contradiction_is_refused_unless_the_user_decides(
    tmp_path: Path, archive: Store, draw: Draw
) -> None:
    """The flag says subtracted, the pixels lie just above 1000: one of them is wrong."""
    flag = {"earthsearch:boa_offset_applied": True}
    with pytest.raises(
        SceneError, match=r"cannot be told .* baseline 05.09, flag True.*red 11\d\d"
    ):
        rewrite_drawn(draw, tmp_path / "a", archive, added=1000, offset=EVIDENCE, **flag)
    item = rewrite_drawn(draw, tmp_path / "b", archive, added=1000, offset="not applied", **flag)
    assert item["properties"]["chipmill:offset"]["decided_by"] == "request"
    assert item["assets"]["red"]["bands"][0]["raster:offset"] == pytest.approx(-0.1)
    said = "the item's flag of an applied offset is True, but it is not applied"
    assert said in item["properties"]["chipmill:findings"]


def test_an_outline_is_written_as_geojson_has_it(
    tmp_path: Path, archive: Store, draw: Draw
) -> None:
    """Divided at the antimeridian; and where it is none, as the files lie."""
    pixels = np.ones((48, 48), np.uint16)
    corner = (165_781.0, 100_000.0)  # of zone 1, 240 m west of 180 degrees
    jumps = [[179.9979, 0.9], [-179.9979, 0.9], [-179.9979, 0.904], [179.9979, 0.904]]
    ring = {"type": "Polygon", "coordinates": [[*jumps, jumps[0]]]}
    for name, geometry in (("jumps", ring), ("broken", {"type": "Polygon"})):
        layers = {"red": (pixels, 10.0, 0.0), "scl": (pixels, 10.0, None)}
        path = draw(tmp_path / name, layers, crs="EPSG:32601", corner=corner, item=name)
        document = json.loads(path.read_text())
        document |= {"geometry": geometry, "bbox": [179.9979, 0.9, -179.9979, 0.904]}
        path.write_text(json.dumps(document))
        (scene,) = search_scenes(IngestRequest(sensor=S2, catalog=str(path)), archive)
        copy_assets(scene, archive, bands=("red",))
        item = json.loads(archive.get(rewrite_item(scene, archive, bands=("red",))))
        outline = shapely.from_geojson(json.dumps(item["geometry"]))
        assert outline.geom_type == "MultiPolygon"
        assert outline.area == pytest.approx(0.0042 * 0.004, rel=0.2)
        assert outline.intersects(shapely.Point(179.999, 0.902))
        assert outline.intersects(shapely.Point(-179.999, 0.902))
        assert not outline.intersects(shapely.Point(0, 0.902))


def test_a_file_of_another_place_is_refused(tmp_path: Path, archive: Store, draw: Draw) -> None:
    """An item that names the files of another tile: its pixels are good, and of elsewhere."""
    pixels = np.ones((40, 40), np.uint16)
    path = draw(tmp_path, {"red": (pixels, 10.0, 0.0), "scl": (pixels, 10.0, None)})
    document = json.loads(path.read_text())
    document["bbox"] = [-15.1, 46.0, -15.0, 46.1]
    path.write_text(json.dumps(document))
    (scene,) = search_scenes(IngestRequest(sensor=S2, catalog=str(path)), archive)
    copy_assets(scene, archive, bands=("red",))
    with pytest.raises(SceneError, match=r"drawn has the bbox .* elsewhere.*drop the scene"):
        rewrite_item(scene, archive, bands=("red",))


@pytest.mark.parametrize("kind", ["archive", "s3_archive"])
@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_rewriting_again_changes_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, draw: Draw
) -> None:
    """The same inputs give the same bytes, in a directory and in a bucket."""
    store: Store = request.getfixturevalue(kind)
    pixels = np.ones((32, 32), np.uint16)
    path = draw(tmp_path / "source", {"red": (pixels, 10.0, 0.0), "scl": (pixels, 10.0, None)})
    (scene,) = search_scenes(IngestRequest(sensor=S2, catalog=str(path)), store)
    copy_assets(scene, store, bands=("red",))
    key = rewrite_item(scene, store, bands=("red",))
    first = store.get(key)
    assert rewrite_item(scene, store, bands=("red",)) == key
    assert store.get(key) == first
    archived = read_archived(json.loads(first), key_of=store.key_of)
    assert archived.finest.file.key == layout.asset_key(S2, "drawn", "red")


def test_nan_as_nodata_survives_every_format(
    archive: Store, tmp_path: Path, draw: Draw, ingest: Ingest
) -> None:
    """JSON has no NaN; it goes as text, and comes back as a number."""
    pixels = np.ones((32, 32), np.float32)
    layers = {"red": (pixels, 10.0, np.nan), "scl": (pixels.astype(np.uint8), 10.0, None)}
    request = IngestRequest(
        sensor=S2, catalog=str(draw(tmp_path / "s", layers)), bands=("red",), chip_size=16
    )
    ingest(request, archive)
    raw = json.loads(archive.get(layout.item_key(S2, "drawn")))
    assert raw["assets"]["red"]["nodata"] == "nan"
    nodata = read_archived(raw, key_of=archive.key_of).finest.file.nodata
    assert nodata is not None
    assert np.isnan(nodata)


def test_a_composite_keeps_its_period(archive: Store, tmp_path: Path, draw: Draw) -> None:
    """An item without a moment has a start and an end; chips get the middle of them."""
    pixels = np.ones((32, 32), np.uint16)
    times = {"datetime": None, "start_datetime": "2024-01-01T00:00:00Z"}
    times["end_datetime"] = "2024-01-03 00:00:00+00:00"  # as Planetary Computer writes it
    layers = {"red": (pixels, 10.0, 0.0), "scl": (pixels, 10.0, None)}
    path = draw(tmp_path / "source", layers, properties=times)
    (scene,) = search_scenes(IngestRequest(sensor=S2, catalog=str(path)), archive)
    copy_assets(scene, archive, bands=("red",))
    item = json.loads(archive.get(rewrite_item(scene, archive, bands=("red",))))
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "2024-01-01T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2024-01-03T00:00:00Z"
    archived = read_archived(item, key_of=archive.key_of)
    assert archived.datetime == datetime.fromisoformat("2024-01-02T00:00:00Z")


def test_a_band_that_the_file_lacks_is_said(archive: Store, tmp_path: Path, draw: Draw) -> None:
    """Old NAIP files have three bands: who asks for the fourth hears it, who does not goes on."""
    rgb = np.ones((3, 32, 32), np.uint8)
    path = draw(tmp_path / "source", {"image": (rgb, 1.0, None)}, collection="naip")
    (scene,) = search_scenes(IngestRequest(sensor="naip", catalog=str(path)), archive)
    copy_assets(scene, archive)
    with pytest.raises(SceneError, match=r"'nir'.*3 bands"):
        rewrite_item(scene, archive, bands=("red", "nir"))
    item = json.loads(archive.get(rewrite_item(scene, archive)))
    assert [band["name"] for band in item["assets"]["image"]["bands"]] == ["red", "green", "blue"]
