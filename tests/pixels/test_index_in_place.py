# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Scenes that are indexed where they lie: all forms in which a file says what it does not hold."""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import Env
from typer.testing import CliRunner

from chipmill.cli import app
from chipmill.errors import ChipmillError, MissingError, SceneError
from chipmill.formats.chip_index import read_part
from chipmill.io.store import Store
from chipmill.steps.index import index_item

RGB = Path(__file__).parents[1] / "data" / "rgb"
LOSSLESS = [{}, {"compress": "deflate", "predictor": 2}, {"compress": "lzw"}, {"compress": "zstd"}]
BY_GDAL = [{"compress": "jpeg", "photometric": "ycbcr"}, {"compress": "webp"}]


def describe(folder: Path, files: dict[str, str], collection: str = "openaerialmap") -> str:
    """Write an item of some files and give its path."""
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "lies-there",
        "collection": collection,
        "geometry": None,
        "bbox": [15, 46, 15, 46],
        "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "sentinel-2a"},
        "links": [],
        "assets": {key: {"href": href, "type": "image/tiff"} for key, href in files.items()},
    }
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return str(path)


def write(path: Path, pixels: NDArray[Any], **options: object) -> None:
    """Write pixels of shape (bands, y, x)."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "crs": "EPSG:32633",
        "transform": (1.0, 0.0, 500_000.0, 0.0, -1.0, 5_100_000.0),
        "dtype": pixels.dtype,
        **options,
    }
    profile |= zip(("count", "height", "width"), pixels.shape, strict=True)
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)


def empty_by_gdal(path: Path) -> NDArray[np.bool_]:
    """Tell nodata pixels as GDAL reads the file: by its mask, else by alpha and nodata value.

    Where a file says nothing, black is the collar of an aerial photograph.
    """
    with rasterio.open(path) as file:
        if file.mask_flag_enums[0] == [MaskFlags.per_dataset]:
            return file.read_masks(1) == 0
        alpha = ColorInterp.alpha in file.colorinterp
        bands, nodata = file.read()[:3], file.nodata
        if nodata is None:
            nodata = None if alpha else 0
        same = np.isnan(bands) if nodata is not None and math.isnan(nodata) else bands == nodata
        empty = same.all(axis=0) if nodata is not None else np.zeros(bands.shape[1:], np.bool_)
        return empty | (file.read(4) == 0) if alpha else empty


def shares(empty: NDArray[np.bool_], size: int) -> list[list[float]]:
    """Count chip by chip."""
    rows, cols = empty.shape[0] // size, empty.shape[1] // size
    cut = empty[: rows * size, : cols * size].reshape(rows, size, cols, size)
    fractions: NDArray[np.float32] = (cut.sum(axis=(1, 3)) / size**2).astype(np.float32)
    return fractions.tolist()


@dataclass(frozen=True)
class Photograph:
    """A generated photograph: how it is written, and what it does not hold."""

    shape: tuple[int, int]
    size: int
    form: str
    options: dict[str, Any]
    seed: int


@st.composite
def photographs(draw: st.DrawFn) -> Photograph:
    """Draw a file of red, green and blue in one of the forms that files come in."""
    size = draw(st.integers(16, 30))
    shape = draw(st.tuples(st.integers(size, 90), st.integers(size, 90)))
    form = draw(st.sampled_from(["none", "tag", "nan", "mask", "alpha", "alpha and tag", "sparse"]))
    compression = draw(st.sampled_from(LOSSLESS + (BY_GDAL if form in ("none", "mask") else [])))
    rows = 7 if compression in LOSSLESS else 16  # JPEG has its own blocks of 16 rows
    layout = draw(
        st.sampled_from(
            [{"blockysize": rows}, {"tiled": True, "blockxsize": 32, "blockysize": 16}, {}]
        )
    )
    order = draw(st.sampled_from(["pixel", "band"])) if compression in LOSSLESS else "pixel"
    options = {**compression, **layout, "interleave": order}
    options["bigtiff"] = draw(st.sampled_from(["yes", "no"]))
    return Photograph(shape, size, form, options, draw(st.integers(0, 2**32)))


def take(photograph: Photograph, path: Path) -> NDArray[np.bool_]:
    """Write a photograph and tell which of its pixels are nodata."""
    rng = np.random.default_rng(photograph.seed)
    kind = np.float32 if photograph.form == "nan" else np.uint8
    pixels = rng.integers(0, 3, (3, *photograph.shape)).astype(kind)
    holes = rng.random(photograph.shape) < rng.choice([0.02, 0.5])
    options = dict(photograph.options)
    match photograph.form:
        case "tag":
            options["nodata"] = 0
        case "nan":
            pixels[:, holes], options["nodata"] = np.nan, np.nan
        case "alpha" | "alpha and tag":
            pixels = np.concatenate([pixels, np.where(holes, 0, 200)[None].astype(kind)])
            options |= {"photometric": "rgb", "alpha": "yes"}
            options |= {"nodata": 0} if photograph.form.endswith("tag") else {}
        case "sparse":
            pixels[:, : photograph.shape[0] // 2] = 0
            options |= {"nodata": 0, "sparse_ok": True}
        case _:
            pass
    with Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, pixels, **options)
        if photograph.form == "mask":
            with rasterio.open(path, "r+") as file:
                file.write_mask(~holes)
    return empty_by_gdal(path)


@settings(max_examples=60)
@given(photograph=photographs())
def test_any_photograph_is_counted_as_gdal_reads_it(photograph: Photograph) -> None:
    """Tags, NaN, masks, alpha bands, missing blocks; strips and tiles, samples in either order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.tif")
        empty = take(photograph, path)
        found = index_item(describe(path.parent, {"image": "image.tif"}), chip_size=photograph.size)
        assert found.shares.nodata.tolist() == shares(empty, photograph.size)
        rows, cols = (edge // photograph.size * photograph.size for edge in photograph.shape)
        left = 1 - rows * cols / math.prod(photograph.shape)
        assert found.scene.remainder == pytest.approx(left)


@pytest.mark.parametrize("name", ["hro-colorado_mask", "hro-colorado_alpha"])
@pytest.mark.parametrize("size", [16, 100])
def test_real_photographs_are_counted_as_gdal_reads_them(
    name: str, size: int, tmp_path: Path
) -> None:
    """One orthophoto of a county, once with a mask inside and once with an alpha band."""
    path = RGB / f"{name}.tif"
    found = index_item(describe(tmp_path, {"image": str(path)}), chip_size=size)
    wanted = shares(empty_by_gdal(path), size)
    assert found.shares.nodata.tolist() == wanted
    assert 0 < np.mean(wanted) < 1


def test_an_alpha_band_of_a_sensor_that_mislabels_bands_is_data(tmp_path: Path) -> None:
    """Some NAIP files call their near infrared alpha: dark water is no hole."""
    pixels = np.full((4, 40, 40), 9, np.uint8)
    pixels[3] = 0
    write(tmp_path / "image.tif", pixels, photometric="rgb", alpha="yes")
    item = describe(tmp_path, {"image": "image.tif"}, "naip")
    assert index_item(item, chip_size=16, bands=("red",)).shares.nodata.max() == 0
    aerial = describe(tmp_path, {"image": "image.tif"})
    assert index_item(aerial, chip_size=16).shares.nodata.min() == 1


@pytest.mark.parametrize("bits", [12, 15])
def test_packed_bits_are_read(bits: int, tmp_path: Path) -> None:
    """Some providers pack 15 bits a sample: a neighbour must not leak into a pixel."""
    rng = np.random.default_rng(bits)
    red = rng.integers(0, 3, (1, 40, 48)).astype(np.uint16)
    scl = rng.integers(0, 12, (1, 20, 24)).astype(np.uint8)
    write(tmp_path / "red.tif", red, nbits=bits, nodata=0, compress="deflate")
    place = (2.0, 0.0, 500_000.0, 0.0, -2.0, 5_100_000.0)
    write(tmp_path / "scl.tif", scl, transform=place, endianness="big", compress="deflate")
    item = describe(tmp_path, {"red": "red.tif", "scl": "scl.tif"}, "sentinel-2-l2a")
    found = index_item(item, chip_size=16, bands=("red",))
    empty = np.maximum(shares(red[0] == 0, 16), shares(scl[0] == 0, 8))
    assert found.shares.nodata.tolist() == empty.tolist()
    assert found.shares.cloud.tolist() == shares(np.isin(scl[0], [1, 3, 8, 9, 10]), 8)


def test_overviews_are_not_counted(tmp_path: Path) -> None:
    """They have masks of their own, which are smaller."""
    pixels = np.ones((3, 128, 128), np.uint8)
    holes = np.zeros((128, 128), np.bool_)
    holes[5:30, 40:50] = True
    path = tmp_path / "image.tif"
    with Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, pixels, tiled=True, blockxsize=32, blockysize=32, compress="deflate")
        with rasterio.open(path, "r+") as file:
            file.write_mask(~holes)
            file.build_overviews([2, 4])
    found = index_item(describe(tmp_path, {"image": "image.tif"}), chip_size=32)
    assert found.shares.nodata.tolist() == shares(holes, 32)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@settings(max_examples=60)
@given(place=st.floats(0, 1), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_read(*, place: float, change: int, cut: bool) -> None:
    """Whatever bytes come from outside: counts, or one sentence; never another error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.tif")
        pixels = np.random.default_rng(0).integers(0, 3, (3, 40, 40)).astype(np.uint8)
        write(path, pixels, nodata=0, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
        data = bytearray(path.read_bytes())
        at = int(place * (len(data) - 1))
        data[at] ^= change
        path.write_bytes(data[:at] if cut else data)
        try:
            found = index_item(describe(path.parent, {"image": "image.tif"}), chip_size=16)
        except ChipmillError as err:
            assert str(err)  # noqa: PT017
        else:
            assert ((found.shares.nodata >= 0) & (found.shares.nodata <= 1)).all()


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_a_remote_scene_is_counted_by_ranges(s3_archive: Store, tmp_path: Path) -> None:
    """The same counts from a server, with a signature-free href and nothing copied."""
    name = RGB / "hro-colorado_mask.tif"
    s3_archive.put("somewhere/image.tif", name.read_bytes())
    far = describe(tmp_path, {"image": s3_archive.href("somewhere/image.tif")})
    found = index_item(far, chip_size=50)
    assert found.shares.nodata.tolist() == shares(empty_by_gdal(name), 50)
    with pytest.raises(MissingError, match=r"nothing at .*none"):
        index_item(describe(tmp_path, {"image": s3_archive.href("none.tif")}), chip_size=50)


def test_the_command_prints_a_table_or_writes_a_part(tmp_path: Path, scenes: Path) -> None:
    """Without Prefect, an archive or any setting."""
    item = str(scenes / "naip" / "m_3607824_se_17_1_20160620_subset.json")
    run = CliRunner().invoke(app, ["index", item, "--chip-size", "64"])
    assert run.exit_code == 0, run.output
    heads, row = (line.split() for line in run.output.splitlines())
    assert heads == ["scene", "chips", "usable", "cloud", "nodata", "remainder", "km2"]
    assert row[1:3] == ["16", "16"]
    assert row[-2] == f"{1 - 256**2 / 300**2:.1%}"
    with rasterio.open(Path(item).with_suffix(".tif")) as file:
        left = (300**2 - 256**2) * file.transform.a**2
    assert float(row[-1]) == pytest.approx(left / 1e6, rel=1e-3)
    out = tmp_path / "part.parquet"
    run = CliRunner().invoke(app, ["index", item, "--chip-size", "64", "--out", str(out)])
    assert run.exit_code == 0, run.output
    scene, table = read_part(out.read_bytes(), where=str(out))
    assert (scene.item, table.num_rows) == ("m_3607824_se_17_1_20160620_subset", 16)
    assert scene.remainder_area == pytest.approx(left)
    run = CliRunner().invoke(app, ["index", item, "--chip-size", "512"])
    assert run.exit_code == 1
    assert "no chip of 512 px fits" in run.output


def test_what_is_no_item_is_refused(tmp_path: Path) -> None:
    """One sentence that names the document."""
    for text in ("[]", "{", '{"id": "x"}', '{"id": "x", "assets": {"a": 7}}'):
        path = tmp_path / "other.json"
        path.write_text(text)
        with pytest.raises(SceneError, match=r"other\.json is not a STAC item"):
            index_item(str(path))
