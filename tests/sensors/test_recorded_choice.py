"""What each sensor takes of a recorded item, and what it refuses."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chipmill.errors import RequestError, SceneError
from chipmill.formats.item_reading import read_item
from chipmill.io.store import Store
from chipmill.model.choice import Choice, choose
from chipmill.model.ingest_request import IngestRequest
from chipmill.sensors import sensor
from chipmill.steps.search import search_scenes

Recorded = Callable[[str], dict[str, Any]]
LANDSAT, MODIS, RADAR = "landsat-c2l1", "modis-09a1", "sentinel-1-rtc"
ITEMS = {
    LANDSAT: "usgs-landsat-level-1-1.0",
    MODIS: "stactools-modis-09a1-1.0",
    RADAR: "planetary-computer-sentinel-1-rtc-1.0",
}
# Platform, time, the asset of each band, the quality asset.
TAKEN = {
    LANDSAT: (
        "landsat-8",
        "2022-05-06T23:39:59.285133Z",
        ["blue", "green", "red", "nir08", "swir16", "swir22"],
        "qa_pixel",
    ),
    MODIS: (
        "terra",
        "2022-02-05T23:59:59.500Z",  # the middle of eight days
        [f"sur_refl_b0{number}" for number in range(1, 8)],
        "sur_refl_state_500m",
    ),
    RADAR: ("sentinel-1a", "2024-04-19T04:59:10.436706Z", ["vv", "vh"], None),
}


def choice(kind: str, item: dict[str, Any]) -> Choice:
    """Choose the bands of a sensor that are taken unasked."""
    return choose(read_item(item), sensor(kind))


@pytest.mark.parametrize("kind", ITEMS)
def test_each_band_is_the_file_of_its_name(kind: str, recorded: Recorded) -> None:
    """An item has angles, thermal bands and pictures beside the bands that are wanted."""
    platform, time, keys, quality = TAKEN[kind]
    scene = read_item(recorded(ITEMS[kind]))
    assert scene.collection in sensor(kind).collections
    assert scene.platform == platform
    assert scene.datetime == datetime.fromisoformat(time)
    found = choice(kind, recorded(ITEMS[kind]))
    assert [source.asset.key for source in found.bands] == keys
    assert [source.index for source in found.bands] == [1] * len(keys)
    assert (found.quality.key if found.quality else None) == quality


@pytest.mark.parametrize("kind", [LANDSAT, MODIS])
def test_a_scene_without_its_quality_file_is_refused(kind: str, recorded: Recorded) -> None:
    """No clouds counted is not the same as no clouds."""
    item = recorded(ITEMS[kind])
    del item["assets"][TAKEN[kind][3]]
    with pytest.raises(SceneError, match=r"quality (asset|band) of .*drop the scene"):
        choice(kind, item)


def test_the_quality_of_collection_1_is_not_read_as_qa_pixel(recorded: Recorded) -> None:
    """Before Collection 2 the file is BQA, with other bits: bit 4 was cloud and is shadow now."""
    item = recorded(ITEMS[LANDSAT])
    item["assets"]["BQA"] = item["assets"].pop("qa_pixel")
    with pytest.raises(SceneError, match=r"'BQA'.*its bits are those before Collection 2"):
        choice(LANDSAT, item)


def test_an_older_landsat_is_refused(recorded: Recorded) -> None:
    """The catalogues keep the scanners of 1972 in the collection: their green is another green."""
    item = recorded(ITEMS[LANDSAT])
    item["properties"]["platform"] = "LANDSAT_5"
    with pytest.raises(SceneError, match=r"platform 'landsat-5'.*landsat-8, landsat-9 only"):
        choice(LANDSAT, item)


def test_level_2_is_not_taken_for_level_1(
    tmp_path: Path, archive: Store, recorded: Recorded
) -> None:
    """Both levels have the same keys: only the collection tells surface from top of atmosphere."""
    path = tmp_path / "item.json"
    path.write_text(json.dumps(recorded("usgs-landsat-1.0")))
    with pytest.raises(RequestError, match="no landsat-c2l1 scene"):
        search_scenes(IngestRequest(sensor=LANDSAT, catalog=str(path)), archive)


def test_the_other_modis_platform_has_the_same_table(recorded: Recorded) -> None:
    """MYD09A1 of Aqua lies in the same collection; a sensor that is neither is refused."""
    item = recorded(ITEMS[MODIS])
    item["properties"]["platform"] = "aqua"
    scene, table = read_item(item), sensor(MODIS)
    assert choice(MODIS, item).quality is not None
    for band in table.bands:
        assert table.spectral(band, scene.platform) == table.spectral(band, "terra")
    item["properties"]["platform"] = "suomi-npp"
    with pytest.raises(SceneError, match=r"platform 'suomi-npp'.*terra, aqua only"):
        choice(MODIS, item)


def test_the_whole_granule_is_no_band(recorded: Recorded) -> None:
    """The item lists the HDF file that holds all bands: it is nothing that a chip is cut from."""
    item = recorded(ITEMS[MODIS])
    del item["assets"]["sur_refl_b03"]
    with pytest.raises(SceneError, match="no asset for band 'sur_refl_b03'"):
        choice(MODIS, item)


def test_the_table_corrects_the_widths_of_the_catalogue(recorded: Recorded) -> None:
    """The recorded item says 0.5 um for a band from 620 to 670 nm; its centres are right."""
    item, table = recorded(ITEMS[MODIS]), sensor(MODIS)
    for band in table.bands:
        spectral = table.spectral(band, "terra")
        (said,) = item["assets"][band.name]["eo:bands"]
        low, high = (int(edge) for edge in _edges(item["assets"][band.name]["title"]))
        assert spectral is not None
        assert spectral.wavelength == pytest.approx(said["center_wavelength"])
        assert spectral.fwhm == pytest.approx((high - low) / 1000)


def _edges(title: str) -> list[str]:
    """Read the edges in nanometres of a title as `Surface Reflectance Band 1 (620-670 nm)`."""
    return title.rpartition("(")[2].removesuffix(" nm)").split("-")


def test_another_polarisation_is_refused(recorded: Recorded) -> None:
    """Over ice Sentinel-1 sends horizontally: hh is not vv, whatever its place in the item."""
    item = recorded(ITEMS[RADAR])
    item["assets"] = {"hh": item["assets"]["vv"], "hv": item["assets"]["vh"]}
    with pytest.raises(SceneError, match="no asset for band 'vv'"):
        choice(RADAR, item)


def test_radar_has_no_wavelength() -> None:
    """A number that tells vv from vh would be invented, and a model would learn from it."""
    table = sensor(RADAR)
    for band in table.bands:
        assert band.common_name is None
        assert table.spectral(band, "sentinel-1a") is None
    assert table.quality is None
