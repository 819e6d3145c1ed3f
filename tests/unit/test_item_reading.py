"""Reading items of five providers, from STAC 0.7 to 1.1, as they were recorded."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.errors import SceneError
from chipmill.formats.item_reading import read_item
from chipmill.formats.multihash import decode_multihash
from chipmill.formats.signature import without_signature
from chipmill.model.choice import choose
from chipmill.model.scene import Scene
from chipmill.sensors import sensor

S2, LANDSAT = "sentinel-2-l2a", "landsat-c2l2-sr"
# Sensor, platform, time, and for three bands the asset; the quality asset; scale and offset.
RECORDED = {
    "usgs-landsat-0.7": (
        (LANDSAT, "landsat-8", "2015-07-10T00:00:00Z"),
        {"blue": "SR_B2.TIF", "nir08": "SR_B5.TIF", "swir22": "SR_B7.TIF"},
        "QA_PIXEL.TIF",
        (None, None),
    ),
    "usgs-landsat-1.0": (
        (LANDSAT, "landsat-8", "2020-01-14T17:05:46.732651Z"),
        {"blue": "blue", "nir08": "nir08", "swir22": "swir22"},
        "qa_pixel",
        (None, None),
    ),
    "planetary-computer-landsat-1.0": (
        (LANDSAT, "landsat-9", "2024-04-17T23:46:20.477296Z"),
        {"blue": "blue", "nir08": "nir08", "swir22": "swir22"},
        "qa_pixel",
        (2.75e-05, -0.2),
    ),
    "earth-search-c1-1.0": (
        (S2, "sentinel-2a", "2024-03-11T14:11:54.463Z"),
        {"blue": "blue", "nir08": "nir08", "rededge1": "rededge1"},
        "scl",
        (0.0001, -0.1),
    ),
    "cdse-sentinel-2-1.1": (
        (S2, "sentinel-2b", "2020-03-22T07:46:09.024Z"),
        {"blue": "B02_10m", "nir08": "B8A_20m", "rededge1": "B05_20m"},
        "SCL_20m",
        (0.0001, -0.1),
    ),
}


def recorded(name: str) -> dict[str, Any]:
    """Read a recorded document."""
    return json.loads((Path(__file__).parents[1] / "data" / "items" / f"{name}.json").read_text())


@pytest.fixture(params=RECORDED)
def name(request: pytest.FixtureRequest) -> str:
    """Give the name of each recorded item."""
    return request.param


def test_the_bands_of_every_provider_are_found(name: str) -> None:
    """The same band has other keys, names and forms at each provider and in each version."""
    (kind, platform, time), bands, quality, scaling = RECORDED[name]
    scene = read_item(recorded(name))
    assert scene.platform == platform
    assert scene.datetime == datetime.fromisoformat(time)
    assert scene.datetime.tzinfo is UTC
    choice = choose(scene, sensor(kind), bands=bands)
    assert {source.band.name: source.asset.key for source in choice.bands} == bands
    assert choice.quality is not None
    assert choice.quality.key == quality
    for source in choice.bands:
        assert source.index == 1
        (band,) = source.asset.bands
        assert (band.scale, band.offset) == scaling
    assert [asset.key for asset in choice.assets] == [*bands.values(), quality]


def test_checksums_are_of_a_form_that_is_checked(name: str) -> None:
    """SHA-512 of USGS, SHA-256 of Earth Search, SHA3-256 and MD5 of Copernicus: all are known."""
    stated = [asset.checksum for asset in read_item(recorded(name)).assets if asset.checksum]
    assert None not in [decode_multihash(checksum) for checksum in stated]


def changed(**changes: object) -> Scene:
    """Parse a recorded item with other fields."""
    return read_item(recorded("earth-search-c1-1.0") | changes)


def test_what_an_item_must_have() -> None:
    """Without these no chip has a place or a time; the message names the item."""
    wrong: list[tuple[dict[str, object], str]] = [
        ({"id": None}, "without an id"),
        ({"id": ""}, "without an id"),
        ({"bbox": None}, "has no bbox"),
        ({"bbox": [1, 2, 3]}, "a bbox of 3 numbers"),
        ({"properties": {}}, "neither a datetime nor a start and an end"),
        ({"properties": {"datetime": "soon"}}, "'soon', which is not RFC 3339"),
        ({"assets": {"red": {"type": "image/tiff"}}}, "asset 'red' .* has no href"),
    ]
    for changes, said in wrong:
        with pytest.raises(SceneError, match=said):
            changed(**changes)


def test_forms_that_are_read() -> None:
    """Boxes with heights, times without zones or with others, periods, bare assets."""
    assert changed(bbox=[1, 2, -5, 3, 4, 9]).bbox == (1, 2, 3, 4)
    wanted = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    for text in ("2024-05-06T07:08:09Z", "2024-05-06T09:08:09+02:00", "2024-05-06 07:08:09"):
        assert changed(properties={"datetime": text}).datetime == wanted
    period = {"start_datetime": "2024-05-01T00:00:00Z", "end_datetime": "2024-05-03T00:00:00Z"}
    middle = changed(properties={"datetime": None, **period}).datetime
    assert middle == datetime(2024, 5, 2, tzinfo=UTC)
    scene = changed(assets={"red": {"href": "https://example.org/red.tif"}})
    assert scene.assets[0].is_raster
    assert scene.assets[0].bands == ()


@given(words=st.dictionaries(st.sampled_from("abc"), st.text("xyz", min_size=1), min_size=1))
def test_signatures_are_dropped_and_other_queries_stay(words: dict[str, str]) -> None:
    """A signature is a secret; a version in a query is part of the address."""
    query = "&".join(f"{key}={value}" for key, value in words.items())
    plain = f"https://example.org/red.tif?{query}"
    assert without_signature(plain) == plain
    for mark in ("sig=abc", "X-Amz-Signature=abc", "Signature=abc", "token=abc"):
        assert without_signature(f"{plain}&{mark}") == "https://example.org/red.tif"


def test_other_hrefs_and_who_pays_are_read() -> None:
    """USGS names its public bucket as an alternate, and there the reader pays."""
    blue = read_item(recorded("usgs-landsat-1.0")).asset("blue")
    assert blue is not None
    assert not blue.requester_pays
    (alternate,) = blue.alternates
    assert alternate.href.startswith("s3://usgs-landsat/")
    assert alternate.requester_pays
