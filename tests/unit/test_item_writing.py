"""Items of the archive over all scenes there could be: read back they say the same."""

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.errors import SceneError
from chipmill.formats.archived_item import read_archived
from chipmill.formats.copied import CopiedFile, CopiedScene
from chipmill.formats.disagreement import same
from chipmill.formats.item_reading import read_item
from chipmill.formats.item_writing import write_item
from chipmill.formats.provenance import AssetRecord
from chipmill.model.choice import FileBands, choose
from chipmill.model.grid import Grid
from chipmill.model.radiometry import OffsetEvidence
from chipmill.model.scene import BBox
from chipmill.sensors import sensor

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
SINUSOIDAL = 'PROJCRS["unnamed",BASEGEOGCRS["x"]]'
SIGNED = "https://example.org/{}.tif?X-Amz-Signature=secret"
numbers = st.floats(-1e6, 1e6, allow_nan=False)
times = st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Draw grids of codes and of WKT2, of square and other pixels, turned ones too."""
    a, e = draw(st.floats(1e-6, 1e4)), draw(st.floats(1e-6, 1e4))
    b, d = draw(st.sampled_from([(0.0, 0.0), (0.25, -0.5)]))
    return Grid(
        height=draw(st.integers(1, 40_000)),
        width=draw(st.integers(1, 40_000)),
        transform=(a, b, draw(numbers), d, -e, draw(numbers)),
        crs=draw(st.sampled_from(["EPSG:32633", "EPSG:4326", "EPSG:3031", SINUSOIDAL])),
    )


@st.composite
def boxes(draw: st.DrawFn) -> BBox:
    """Draw boxes, across the antimeridian too."""
    south = draw(st.floats(-90, 89))
    west, east = draw(st.floats(-180, 180)), draw(st.floats(-180, 180))
    return west, south, east, min(90.0, south + 1)


@dataclass(frozen=True)
class Drawn:
    """A scene and what its item is made of."""

    copied: CopiedScene
    period: tuple[datetime, datetime] | None


@st.composite
def scenes(draw: st.DrawFn) -> Drawn:
    """Draw a scene of one file a band, or of several bands in one file."""
    kind = sensor(draw(st.sampled_from(["sentinel-2-l2a", "naip", "sentinel-1-rtc"])))
    keys = {band.keys[0] for band in kind.bands} | {
        *(kind.quality.keys[:1] if kind.quality else ())
    }
    start = draw(times)
    period = (start, start + timedelta(days=8)) if draw(st.booleans()) else None
    said: dict[str, Any] = {"datetime": None if period else start.isoformat()}
    if period:
        said |= {"start_datetime": period[0].isoformat(), "end_datetime": period[1].isoformat()}
    box = draw(boxes())
    item = {
        "id": "drawn",
        "bbox": list(box),
        "geometry": None,
        "properties": said | {"platform": "sentinel-2a", "eo:cloud_cover": draw(st.floats(0, 100))},
        "links": [{"rel": "self", "href": "https://example.org/drawn?sig=secret"}],
        "assets": {key: {"href": SIGNED.format(key)} for key in sorted(keys)},
    }
    scene = read_item(item)
    choice = choose(scene, kind)
    offset = draw(st.sampled_from(["applied", "not applied"])) if kind.offset_rule else None
    copied = CopiedScene(
        item=item,
        scene=scene,
        sensor=kind,
        choice=choice,
        files={asset.key: draw(files(asset.key)) for asset in choice.assets},
        extent=box,
        offset=offset and _evidence(offset),  # pyright: ignore[reportArgumentType]
    )
    return Drawn(copied, period)


@st.composite
def files(draw: st.DrawFn, key: str) -> CopiedFile:
    """Draw what a copied file says."""
    dtype = draw(st.sampled_from(["uint8", "int16", "uint16", "float32", "float64"]))
    whole = st.none() | st.integers(0, 255).map(float)
    rest = st.floats(width=32, allow_nan=True) if dtype.startswith("float") else whole
    nodata = draw(whole | rest)
    return CopiedFile(
        href=f"s3://archive/assets/{key}.tif",
        record=AssetRecord(
            asset=key,
            source=f"https://example.org/{key}.tif",
            key=f"assets/{key}.tif",
            size=draw(st.integers(1, 2**40)),
            sha256="ab" * 32,
            md5="cd" * 16,
            source_size=1,
            source_sha256="ab" * 32,
            verified="size",
            copied=WHEN,
            version="0",
        ),
        grid=draw(grids()),
        bands=FileBands(4, None),
        dtype=dtype,
        header_nodata=nodata,
        nodata=nodata,
        resolution=draw(st.floats(0.01, 1000)),
    )


def _evidence(verdict: str) -> OffsetEvidence:
    return OffsetEvidence(
        verdict=verdict,  # pyright: ignore[reportArgumentType]
        decided_by="pixels",
        baseline="05.10",
        flag=None,
        stated=None,
        pixels="cannot tell",
        darkest={"red": 7},
    )


def written(drawn: Drawn) -> dict[str, Any]:
    """Write the item and read its bytes: what JSON cannot hold would be lost here."""
    return json.loads(json.dumps(write_item(drawn.copied, version="0"), allow_nan=False))


@given(drawn=scenes())
def test_reading_what_was_written_gives_the_same_scene(drawn: Drawn) -> None:
    """Bands, types, nodata, grids, times and boxes: later steps know of them from here alone."""
    copied, item = drawn.copied, written(drawn)
    archived = read_archived(item, key_of=lambda href: href.removeprefix("s3://archive/"))
    again = read_item(item)
    for scene in (archived, again):
        assert (scene.datetime, scene.platform) == (copied.scene.datetime, copied.scene.platform)
        assert scene.bbox == copied.scene.bbox
    assert again.cloud_cover == copied.scene.cloud_cover
    if drawn.period:
        stated = [item["properties"][name] for name in ("start_datetime", "end_datetime")]
        assert tuple(datetime.fromisoformat(time) for time in stated) == drawn.period
        assert item["properties"]["datetime"] is None
    for band, source in zip(archived.bands, copied.choice.bands, strict=True):
        file = copied.files[source.asset.key]
        assert (band.name, band.index) == (source.band.name, source.index)
        assert (band.common_name, band.gsd) == (source.band.common_name, file.resolution)
        assert (band.file.key, band.file.grid) == (file.record.key, file.grid)
        assert band.file.dtype == file.dtype
        assert same(band.file.nodata, file.nodata)
        assert (band.mean, band.std) == (source.band.mean, source.band.std)
        asset = again.asset(source.asset.key)
        assert asset is not None
        (stated_band,) = (each for each in asset.bands if each.name == band.name)
        assert (stated_band.scale, stated_band.offset) == (band.scale, band.offset)
        assert same(stated_band.nodata, file.nodata)


@given(drawn=scenes())
def test_nothing_secret_and_no_word_twice_is_written(drawn: Drawn) -> None:
    """Signed hrefs stay out of every field; what all bands share is said once, on their asset."""
    item = written(drawn)
    assert "secret" not in json.dumps(item)
    rels = {link["rel"]: link["href"] for link in item["links"]}
    assert rels["derived_from"] == rels["via"] == "https://example.org/drawn"
    for asset in item["assets"].values():
        bands: list[dict[str, Any]] = asset.get("bands", [])
        shared = {name for band in bands for name in band} - {"name", "chipmill:index"}
        for name in shared if len(bands) > 1 else ():
            values = [band.get(name) for band in bands]
            assert len({str(value) for value in values}) > 1, name


@given(drawn=scenes())
def test_the_offset_that_is_written_is_the_verdict(drawn: Drawn) -> None:
    """A reader subtracts what is written: 0.1 of reflectance, or nothing."""
    copied, item = drawn.copied, written(drawn)
    if copied.offset is None:
        assert "chipmill:offset" not in item["properties"]
        return
    assert item["properties"]["chipmill:offset"]["verdict"] == copied.offset.verdict
    for asset in item["assets"].values():
        for band in asset.get("bands", ()):
            wanted = 0.0 if copied.offset.verdict == "applied" else -0.1
            assert {**asset, **band}["raster:offset"] == pytest.approx(wanted)


def one() -> Drawn:
    """Give a scene of one NAIP file whose item is right."""
    kind = sensor("naip")
    grid = Grid(
        height=5, width=7, transform=(1.0, 0.0, 500_000.0, 0.0, -1.0, 4e6), crs="EPSG:32633"
    )
    stated = {"proj:epsg": 32633, "proj:shape": [5, 7], "proj:transform": list(grid.transform)}
    asset = {"href": "https://example.org/a.tif", "raster:bands": [{"nodata": 0}] * 4, **stated}
    corners = [[14.95, 36.0], [15.05, 36.0], [15.05, 36.1], [14.95, 36.1]]
    item: dict[str, Any] = {
        "id": "one",
        "bbox": [14.9, 36.0, 15.1, 36.2],
        "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        "properties": {"datetime": "2024-05-06T00:00:00Z"},
        "assets": {"image": asset},
    }
    scene = read_item(item)
    return Drawn(
        CopiedScene(
            item=item,
            scene=scene,
            sensor=kind,
            choice=choose(scene, kind),
            files={"image": _file(grid)},
            extent=(14.9, 36.0, 15.1, 36.2),
        ),
        None,
    )


def _file(grid: Grid) -> CopiedFile:
    return CopiedFile(
        href="s3://archive/assets/a.tif",
        record=AssetRecord(
            asset="image",
            source="https://example.org/a.tif",
            key="assets/a.tif",
            size=1,
            sha256="ab" * 32,
            md5="cd" * 16,
            source_size=1,
            source_sha256="ab" * 32,
            verified="size",
            copied=WHEN,
            version="0",
        ),
        grid=grid,
        bands=FileBands(4, None),
        dtype="uint8",
        header_nodata=0.0,
        nodata=0.0,
        resolution=1.0,
    )


def found(**stated: object) -> list[str]:
    """Give the findings where the asset of the item states other things."""
    drawn = one()
    item = json.loads(json.dumps(drawn.copied.item))
    item["assets"]["image"] |= stated
    scene = read_item(item)
    choice = choose(scene, drawn.copied.sensor)
    copied = replace(drawn.copied, item=item, scene=scene, choice=choice)
    return written(Drawn(copied, None))["properties"].get("chipmill:findings", [])


def test_each_difference_is_said_once_with_both_values() -> None:
    """Who looks for the reason of a strange number finds what the catalogue said, and the truth."""
    assert found() == []
    six = [1.0, 0.0, 500_000.0, 0.0, -1.0, 4e6]
    almost, shifted = [*six], [*six]
    almost[2] += 0.0005
    shifted[2] += 0.5
    assert found(**{"proj:transform": almost}) == []  # rounding in headers
    for fields, said in (
        ({"proj:shape": [50, 70]}, "image: the item says 50 x 70 px, the file has 5 x 7"),
        ({"proj:transform": shifted}, "the item says the transform [1.0, 0.0, 500000.5"),
        ({"proj:epsg": 32634}, "the item says the CRS EPSG:32634, the file has EPSG:32633"),
        ({"proj:epsg": None, "proj:wkt2": "NOTHING[]"}, "the item says the CRS NOTHING[], the"),
        ({"raster:bands": [{"data_type": "int16"}] * 4}, "data type int16, the file has uint8"),
        ({"raster:bands": [{"nodata": 255}] * 4}, "the item says nodata 255, the file has 0"),
        ({"raster:bands": [{"nodata": "nan"}] * 4}, "the item says nodata nan, the file has 0"),
    ):
        (finding,) = found(**fields)
        assert said in finding


def placed(bbox: BBox | None) -> dict[str, Any]:
    """Write the item where the provider's has another bbox."""
    copied = one().copied
    scene = replace(copied.scene, bbox=bbox)
    return written(Drawn(replace(copied, scene=scene), None))


def test_a_sloppy_box_is_replaced_and_said() -> None:
    """Searches use the box; chips are placed by the files, and the two must agree."""
    good = placed((14.95, 36.0, 15.05, 36.1))
    assert good["bbox"] == [14.95, 36.0, 15.05, 36.1]
    assert good["geometry"] == one().copied.item["geometry"]
    assert "chipmill:findings" not in good["properties"]
    for bbox, said in (
        (None, "the item has no bbox; the files' is [14.9, 36.0, 15.1, 36.2]"),
        ((10.0, 30.0, 20.0, 40.0), "100% of it outside of its files"),
        ((15.0, 36.0, 15.3, 36.2), "67% of it outside of its files"),
    ):
        item = placed(bbox)
        assert item["bbox"] == [14.9, 36.0, 15.1, 36.2]
        assert item["geometry"]["type"] == "Polygon"
        (finding,) = item["properties"]["chipmill:findings"]
        assert said in finding


def test_files_of_another_place_are_refused() -> None:
    """A swapped file has good pixels of somewhere else: nothing later would notice."""
    for bbox in ((-15.1, 36.0, -14.9, 36.2), (14.9, -36.2, 15.1, -36.0), (179.0, 36, -179.0, 37)):
        with pytest.raises(SceneError, match=r"one has the bbox .* elsewhere.*drop the scene"):
            placed(bbox)


def test_wrong_fields_of_the_provider_do_not_stop_the_writer_unsaid() -> None:
    """What reading passes over, writing may meet: links and extensions of no use are left out."""
    copied = one().copied
    for changes in (
        {"links": 7},
        {"links": [7, {"rel": "self"}, {"rel": "license", "href": 3}]},
        {"stac_extensions": [7, None, "https://x/y"]},
        {"geometry": "here"},
    ):
        item = written(Drawn(replace(copied, item={**copied.item, **changes}), None))
        assert [link["rel"] for link in item["links"]] == ["collection"]
        assert item["geometry"]["type"] == "Polygon"
    properties = {"datetime": "2024-05-06T00:00:00Z", "a": math.nan, "b": [math.inf], "eo:gsd": 3}
    item = written(Drawn(replace(copied, item={**copied.item, "properties": properties}), None))
    assert (item["properties"]["a"], item["properties"]["b"]) == (None, [None])
    assert "eo:gsd" not in item["properties"]
    with pytest.raises(SceneError, match="one has a field that STAC has otherwise"):
        written(Drawn(replace(copied, item={**copied.item, "stac_extensions": 7}), None))
