# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio and webdataset ship no types.
"""Files of an export for other loaders, read as these loaders read them."""

import math
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio.windows import Window

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.clay import PLATFORMS, chip_pixels
from chipmill.formats.export import Export
from chipmill.formats.pack import PackBand, PackHeader, lay_out
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.model.export_request import ExportRequest, Form
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.export import begin_export, export_scenes, export_shards
from chipmill.steps.render import render, render_shards, seal_renderings
from chipmill.steps.seal import seal_export

CHIP = 16
CUBE = 4
webdataset: Any = import_module("webdataset")
# It leaves its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")
CLAY = {
    "sentinel-2-l2a": [
        *("blue", "green", "red", "rededge1", "rededge2", "rededge3"),
        *("nir", "nir08", "swir16", "swir22"),
    ],
    "naip": ["red", "green", "blue", "nir"],
}
"""Platforms and the order of their bands: Clay-foundation/model, configs/metadata.yaml."""


class Site(Protocol):
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan


def exported(request: ExportRequest, archive: Store) -> Export:
    """Export with all further forms, from begin to end."""
    begun = begin_export(request, archive)
    for shard in export_shards(begun, archive):
        export_scenes(shard, begun, archive)
    whole = seal_export(begun, archive)
    for shard in render_shards(whole.name, archive, forms=request.renderings):
        render(shard, archive)
    seal_renderings(whole.name, archive, forms=request.renderings)
    return whole


@pytest.fixture(scope="module", params=["none", "zstd"])
def rendered(request: pytest.FixtureRequest, site: Site) -> tuple[Store, Export]:
    """Export the plan in both further forms."""
    asked = ExportRequest(
        plan=site.plan.plan,
        name=f"rendered-{request.param}",
        codec=request.param,
        forms=("npz", "webdataset"),
        cube=CUBE,
        tar=50,
    )
    return site.archive, exported(asked, site.archive)


def folder(archive: Store, prefix: str) -> Path:
    """Give the folder of a prefix."""
    path = archive.local_path(prefix)
    assert path is not None
    return path


def window(archive: Store, collection: str, band: str, scene: str, place: str) -> NDArray[Any]:
    """Read a chip's band from the archive's file, at the band's own pixel size."""
    asset = "image" if collection == "naip" else band
    index = CLAY["naip"].index(band) + 1 if collection == "naip" else 1
    row, col = map(int, place.split("-"))
    path = archive.local_path(layout.asset_key(collection, scene, asset))
    with rasterio.open(path) as file:
        size = CHIP // (2 if file.transform.a == 20 else 1)
        where: Any = Window(col * size, row * size, size, size)  # pyright: ignore[reportCallIssue]
        return file.read(index, window=where)


def windows(archive: Store, collection: str, scene: str, place: str) -> NDArray[np.float32]:
    """Read a chip as Clay has it, coarser bands repeated."""
    bands: list[NDArray[Any]] = []
    for band in CLAY[collection]:
        pixels = window(archive, collection, band, scene, place)
        bands.append(np.kron(pixels, np.ones((CHIP // len(pixels),) * 2, pixels.dtype)))
    return np.stack(bands).astype(np.float32)


def test_cubes_have_the_layout_that_clay_publishes(rendered: tuple[Store, Export]) -> None:
    """Keys, shapes, data types and folders, read as Clay's EODataset reads them.

    It takes every `**/*.npz` below the data folder, without pickles, and the name of the file's
    folder as its platform; stacks week with hour and latitude with longitude.
    """
    archive, whole = rendered
    root = folder(archive, layout.rendering_prefix(whole.name, "npz", CUBE))
    cubes = sorted(root.glob("**/*.npz"))
    assert {path.parent.name for path in cubes} == {"naip", "sentinel-2-l2a"}
    for path in cubes:
        bands = len(CLAY[path.parent.name])
        with np.load(path, allow_pickle=False) as cube:
            assert set(cube.keys()) == {"pixels", "lat_norm", "lon_norm", "week_norm", "hour_norm"}
            assert cube["pixels"].dtype == np.float32
            assert cube["pixels"].shape == (CUBE, bands, CHIP, CHIP)
            time = np.hstack((cube["week_norm"], cube["hour_norm"]), dtype=np.float32)
            latlon = np.hstack((cube["lat_norm"], cube["lon_norm"]), dtype=np.float32)
            assert time.shape == latlon.shape == (CUBE, 4)
            np.testing.assert_allclose(np.hypot(time[:, 0::2], time[:, 1::2]), 1, rtol=1e-6)
            np.testing.assert_allclose(np.hypot(latlon[:, 0::2], latlon[:, 1::2]), 1, rtol=1e-6)


def test_the_bands_of_clay_are_those_that_it_publishes() -> None:
    """Another order would be read without an error, and train on the wrong wavelengths."""
    for name, bands in CLAY.items():
        assert list(PLATFORMS[name].bands) == bands


def test_cubes_hold_the_pixels_places_and_times_of_the_plan(
    rendered: tuple[Store, Export],
) -> None:
    """The tar files name their chips, in the same order: every cube is windows of these files."""
    archive, whole = rendered
    for platform in CLAY:
        named = list(samples(archive, whole, platform))
        root = folder(archive, layout.rendering_prefix(whole.name, "npz", CUBE)) / platform
        cubes = sorted(root.glob("*.npz"))
        assert len(cubes) == len(named) // CUBE > 3
        for number, path in enumerate(cubes):
            with np.load(path, allow_pickle=False) as cube:
                arrays = {name: cube[name] for name in cube.files}
            for row, sample in enumerate(named[number * CUBE : (number + 1) * CUBE]):
                about = sample["json"]
                place = f"{about['row']}-{about['col']}"
                pixels = windows(archive, platform, about["scene"], place)
                np.testing.assert_array_equal(arrays["pixels"][row], pixels)
                moment = datetime.fromisoformat(about["datetime"]).astimezone(UTC)
                angles = {
                    "lat_norm": about["lat"] * math.pi / 180,
                    "lon_norm": about["lon"] * math.pi / 180,
                    "week_norm": moment.isocalendar()[1] * 2 * math.pi / 52,
                    "hour_norm": moment.hour * 2 * math.pi / 24,
                }
                for name, angle in angles.items():
                    expected = (math.sin(angle), math.cos(angle))
                    np.testing.assert_allclose(arrays[name][row], expected, atol=1e-6)


def samples(archive: Store, whole: Export, collection: str) -> Iterator[dict[str, Any]]:
    """Read the samples of a collection by the webdataset package."""
    root = folder(archive, layout.rendering_prefix(whole.name, "webdataset", 50))
    shards = sorted(str(path) for path in (root / collection).glob("*.tar"))
    return iter(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode())


def test_webdataset_gives_each_chip_of_the_plan_once(rendered: tuple[Store, Export]) -> None:
    """Samples of all tar files are the chips of the plan's minibatches, each once, exact."""
    archive, whole = rendered
    seen: list[str] = []
    for collection in CLAY:
        for sample in samples(archive, whole, collection):
            about = sample["json"]
            seen.append(about["chip_id"])
            place = f"{about['row']}-{about['col']}"
            assert about["chip_id"] == f"{collection}/{about['scene']}/{place}"
            assert sample["__key__"].endswith(place)
            assert "." not in place
            for name, bands in about["bands"].items():
                stacked = [
                    window(archive, collection, band["name"], about["scene"], place)
                    for band in bands
                ]
                np.testing.assert_array_equal(sample[name], np.stack(stacked))
    planned = sum(part.chips - part.left_over for part in whole.plan.megabatches)
    assert len(seen) == len(set(seen)) == planned


def test_a_cube_as_large_as_a_minibatch_has_no_scene_twice(site: Site) -> None:
    """Clay trains on one cube a step: chips of one scene would make it a poor step."""
    request = PlanRequest(minibatch=CUBE, megabatch=7, chip_size=CHIP, few_scenes=True)
    asked = ExportRequest(chips=request, name="steps", forms=("webdataset",), tar=CUBE)
    whole = exported(asked, site.archive)
    root = folder(site.archive, layout.rendering_prefix(whole.name, "webdataset", CUBE))
    for path in root.glob("**/*.tar"):
        parts = list(webdataset.WebDataset([str(path)], shardshuffle=False).decode())
        assert len({sample["json"]["scene"] for sample in parts}) == len(parts) == CUBE


def test_rendering_again_changes_nothing(rendered: tuple[Store, Export]) -> None:
    """A whole rendering is found; one whose files are lost in part is made the same again."""
    archive, whole = rendered
    prefix = layout.export_prefix(whole.name)
    before = {key: archive.get(key) for key in archive.keys(prefix)}
    asked: dict[Form, int] = {"npz": CUBE, "webdataset": 50}
    assert render_shards(whole.name, archive, forms=asked) == []
    for form, chips in asked.items():
        archive.delete(layout.rendering_key(whole.name, form, chips))
        for shard in render_shards(whole.name, archive, forms={form: chips}):
            assert render(shard, archive) == len(shard.pieces)
            assert render(shard, archive) == 0
    seal_renderings(whole.name, archive, forms=asked)
    assert {key: archive.get(key) for key in archive.keys(prefix)} == before


def test_a_cube_has_no_time_of_its_own(rendered: tuple[Store, Export]) -> None:
    """The bytes of a file are a function of its chips: a copy made next year is the same."""
    archive, whole = rendered
    key = f"{layout.rendering_prefix(whole.name, 'npz', CUBE)}naip/cube_000000.npz"
    with zipfile.ZipFile(BytesIO(archive.get(key))) as cube:
        assert {info.date_time for info in cube.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_metadata_is_in_the_form_of_clays_own(rendered: tuple[Store, Export]) -> None:
    """`metadata_path` may name it: mean and deviation in the order of the bands of the cubes."""
    archive, whole = rendered
    prefix = layout.rendering_prefix(whole.name, "npz", CUBE)
    said = yaml.safe_load(archive.get(prefix + layout.CLAY_METADATA))
    assert said.keys() == CLAY.keys()
    for platform, bands in CLAY.items():
        entry = said[platform]
        assert entry["band_order"] == bands
        for figure in ("mean", "std", "wavelength"):
            assert list(entry["bands"][figure]) == bands
    assert said["naip"]["bands"]["mean"]["red"] == 110.16
    assert said["sentinel-2-l2a"]["rgb_indices"] == [2, 1, 0]


def header(offset: float, *, bands: tuple[str, ...] = tuple(CLAY["sentinel-2-l2a"])) -> PackHeader:
    """Describe packs of Sentinel-2 at one pixel size."""
    shape = (CHIP, CHIP)
    said = {"gsd": 10.0, "dtype": "uint16", "shape": shape, "start": 0, "nodata": 0.0}
    return PackHeader(
        collection="sentinel-2-l2a",
        scene="scene",
        datetime=datetime(2024, 1, 1, tzinfo=UTC),
        chip_size=CHIP,
        gsd=10,
        bands=lay_out(
            [
                PackBand.model_validate({"name": b, "scale": 1e-4, "offset": offset, **said})
                for b in bands
            ]
        ),
    )


@pytest.mark.parametrize("offset", [0.0, -0.1])
def test_an_offset_in_the_pixels_is_taken_out_for_clay(offset: float) -> None:
    """Clay was trained on Sentinel-2 without the 1000 that newer baselines add; nodata stays 0."""
    record = np.full(10 * CHIP * CHIP, 1500, np.uint16)
    record[7] = 0
    platform = PLATFORMS["sentinel-2-l2a"]
    pixels = chip_pixels(record.view(np.uint8), header(offset), platform)
    assert pixels[0, 0, 7] == 0
    assert (np.delete(pixels.reshape(-1), 7) == 1500 + offset * 10_000).all()


def test_a_platform_without_all_bands_of_clay_is_refused() -> None:
    """Cubes of other bands would be read as if they were Clay's; the message says what to do."""
    lacking = header(0.0, bands=("blue", "red"))
    with pytest.raises(RequestError, match=r"no green, rededge1, .* there are blue, red: ingest"):
        chip_pixels(np.zeros(4 * CHIP * CHIP, np.uint8), lacking, PLATFORMS["sentinel-2-l2a"])
