"""Reading items of five providers, from STAC 0.7 to 1.1, as they were recorded."""

import json
import math
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmill.errors import SceneError
from chipmill.formats.item_reading import read_item
from chipmill.formats.multihash import decode_multihash
from chipmill.formats.signature import without_signature
from chipmill.model.choice import choose
from chipmill.model.scene import Asset, Scene, StatedGrid
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
        ({"bbox": {}}, "a bbox of 0 numbers"),
        ({"bbox": [1, 95, 2, 96]}, "no place on earth"),
        ({"bbox": [1, "2", 3, 4]}, "no place on earth"),
        ({"bbox": [3, 4, 1, 2]}, "no place on earth"),
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
    assert changed(bbox=None).bbox is None
    assert changed(bbox=[179, 1, -179, 2]).bbox == (179, 1, -179, 2)
    assert changed(bbox=[179, 1, 181, 2]).bbox == (179, 1, -179, 2)
    assert changed(bbox=[-181, 1, -179, 2]).bbox == (179, 1, -179, 2)
    assert changed(bbox=[0, -90, 360, 90]).bbox == (-180, -90, 180, 90)
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


def asset_with(properties: dict[str, object] | None = None, /, **fields: object) -> Asset:
    """Parse a recorded item with one asset, `red`, of these fields."""
    item = recorded("earth-search-c1-1.0")
    kept = {name: v for name, v in item["properties"].items() if not name.startswith("proj:")}
    item["properties"] = kept | (properties or {})
    item["assets"] = {"red": {"href": "https://example.org/red.tif"} | fields}
    (asset,) = read_item(item).assets
    return asset


SIX = [10.0, 0.0, 5.0, 0.0, -10.0, 6.0]
WKT = 'PROJCRS["unknown"]'


def test_every_form_of_a_grid_is_read() -> None:
    """Codes of two extensions, WKT2 and PROJJSON; transforms of six and nine numbers."""
    for fields, crs in (
        ({"proj:epsg": 32633}, "EPSG:32633"),
        ({"proj:code": "EPSG:32633"}, "EPSG:32633"),
        ({"proj:code": "IAU_2015:30100"}, "IAU_2015:30100"),
        ({"proj:epsg": None, "proj:wkt2": WKT}, WKT),
        (
            {"proj:code": None, "proj:projjson": {"type": "ProjectedCRS"}},
            '{"type": "ProjectedCRS"}',
        ),
        ({"proj:code": 7, "proj:epsg": True, "proj:wkt2": 3, "proj:projjson": "x"}, None),
    ):
        key: dict[str, object] = dict(fields)
        said: dict[str, object] = {"proj:epsg": 4326}
        assert asset_with(**key).grid.crs == crs
        inherited = asset_with(said, **key).grid.crs
        stated = any(value is not None for value in key.values())
        assert inherited == (crs if stated else "EPSG:4326")
    assert asset_with({"proj:shape": [3, 4], "proj:transform": SIX}).grid == StatedGrid(
        shape=(3, 4), transform=(10.0, 0.0, 5.0, 0.0, -10.0, 6.0)
    )
    nine = [*SIX, 0, 0, 1]
    assert asset_with(**{"proj:transform": nine}).grid.transform == tuple(SIX)
    transforms: list[object] = [[1, 2], "x", [*SIX[:5], None], [*SIX[:5], float("nan")], {}]
    for wrong in transforms:
        assert asset_with(**{"proj:transform": wrong}).grid.transform is None
    for wrong in ([1], [0, 4], [1.5, 2], "34", None, [-1, -1]):
        assert asset_with(**{"proj:shape": wrong}).grid.shape is None


def test_an_asset_overrides_its_item_and_a_thumbnail_does_not_inherit() -> None:
    """The item's grid is that of some files; a picture and a text file have another or none."""
    above: dict[str, object] = {"proj:epsg": 32633, "proj:shape": [8, 8], "proj:transform": SIX}
    own = asset_with(above, **{"proj:shape": [4, 4]})
    assert own.grid == StatedGrid(crs="EPSG:32633", shape=(4, 4))  # a transform of 8 x 8 is not its
    for fields in ({"roles": ["thumbnail"]}, {"roles": ["overview"]}, {"type": "application/xml"}):
        assert asset_with(above, **fields).grid == StatedGrid()
    picture = asset_with(above, **{"roles": ["thumbnail"], "proj:shape": [2, 2]})
    assert picture.grid == StatedGrid(shape=(2, 2))


def test_values_of_bands_in_each_version() -> None:
    """Type, nodata, resolution: on the band, on the asset for all bands, NaN as text."""
    old = asset_with(
        **{"raster:bands": [{"nodata": "nan", "data_type": "float32", "offset": -0.1}]}
    )
    new = asset_with(
        bands=[{"name": "a"}, {"name": "b", "nodata": "-inf", "raster:scale": 3}],
        **{"data_type": "int16", "nodata": -1, "raster:scale": 2, "raster:spatial_resolution": 10},
    )
    (band,) = old.bands
    assert band.nodata is not None
    assert math.isnan(band.nodata)
    assert (band.dtype, band.offset) == ("float32", -0.1)
    assert [each.nodata for each in new.bands] == [-1, -math.inf]
    assert [each.scale for each in new.bands] == [2, 3]
    assert {(each.dtype, each.resolution) for each in new.bands} == {("int16", 10)}
    (nanometres,) = asset_with(
        **{"eo:bands": [{"center_wavelength": 665, "full_width_half_max": 0.03}]}
    ).bands
    assert (nanometres.wavelength, nanometres.fwhm) == (0.665, 0.03)
    (neither,) = asset_with(
        **{"raster:bands": [{"nodata": "none", "scale": True, "offset": 10**400}]}
    ).bands
    assert (neither.nodata, neither.scale, neither.offset) == (None, None, None)


def test_what_values_mean_is_found_on_the_band_too() -> None:
    """STAC 1.0 has classes in `raster:bands`, 1.1 in `bands`, most catalogues on the asset."""
    classes = [{"value": 3, "name": "cloud"}]
    name = "classification:classes"
    for fields in (
        {name: classes},
        {"bands": [{name: classes}]},
        {"raster:bands": [{name: classes}]},
    ):
        assert asset_with(**fields).quality == {name: classes}
    assert asset_with(bands=[{"name": "a"}]).quality == {}


def test_no_secret_is_kept() -> None:
    """Signatures of each store, and a password before the host; a mail address is no secret."""
    for signed in (
        "https://a.blob.core.windows.net/b/c.tif?se=2024&SIG=x",
        "https://b.s3.amazonaws.com/c.tif?AWSAccessKeyId=a&Expires=1",
        "https://storage.googleapis.com/b/c.tif?X-Goog-Credential=a",
        "https://d.cloudfront.net/c.tif?Policy=a&Key-Pair-Id=b",
        "https://hub.example.org/c.tif?v=1&api_key=a",
        "https://hub.example.org/c.tif?apiKey=a",
        "https://hub.example.org/c.tif?X-API-Key=a",
        "https://maps.example.org/c.tif?subscription-key=a",
        "https://maps.example.org/c.tif?Ocp-Apim-Subscription-Key=a",
        "https://hub.example.org/c.tif?auth_token=a",
        "https://hub.example.org/c.tif?password=a",
    ):
        assert without_signature(signed) == signed.partition("?")[0]
    assert without_signature("https://user:word@example.org/a.tif") == "https://example.org/a.tif"
    assert without_signature("https://[broken/a.tif?sig=x") == "https://[broken/a.tif"
    assert without_signature("mailto:someone@example.org") == "mailto:someone@example.org"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = (
    ["id", "bbox", "geometry", "properties", "assets", "links", "collection", "stac_extensions"],
    [
        "datetime",
        "start_datetime",
        "platform",
        "eo:bands",
        "eo:cloud_cover",
        "proj:epsg",
        "proj:transform",
        "proj:shape",
        "proj:projjson",
        "storage:schemes",
    ],
    [
        "href",
        "type",
        "roles",
        "bands",
        "eo:bands",
        "raster:bands",
        "file:size",
        "file:checksum",
        "alternate",
        "storage:refs",
        "proj:wkt2",
        "classification:bitfields",
        "nodata",
    ],
)


@settings(max_examples=400)
@given(place=st.integers(0, 2), which=st.integers(0, 20), value=JSON)
def test_whatever_comes_only_our_error_leaves(place: int, which: int, value: object) -> None:
    """One strange field of one item in a catalogue of millions must not stop an ingest."""
    item = recorded("earth-search-c1-1.0")
    part = (item, item["properties"], item["assets"]["red"])[place]
    part[FIELDS[place][which % len(FIELDS[place])]] = value
    with suppress(SceneError):
        assert read_item(item).id


def test_no_depth_breaks_the_reader() -> None:
    """Python's own stack ends at a thousand levels; a document of a few kilobytes goes deeper."""
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    for name in ("properties", "assets", "links", "geometry"):
        with pytest.raises(SceneError, match="deeper"):
            changed(**{name: deep})
    others: list[object] = [7, None, [], "item", {"id": {"a": 1}}]
    for strange in others:
        with pytest.raises(SceneError):
            read_item(strange)  # pyright: ignore[reportArgumentType]  # what JSON may hold
