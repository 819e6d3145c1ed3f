# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""The short look at a header never says more than the long one."""

from itertools import product
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import HealthCheck, given, settings

from chipmill.errors import SceneError
from chipmill.io.store import Store
from chipmill.io.tiff import open_tiff
from chipmill.io.tiff_full import is_full

SHAPE = (50, 75)
PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0)}
FORMS = [
    {"dtype": dtype, "ENDIANNESS": order, "interleave": interleave, "BIGTIFF": big, **layout}
    for dtype, order, interleave, big, layout in product(
        ("uint8", "float32"),
        ("LITTLE", "BIG"),
        ("pixel", "band"),
        ("YES", "NO"),
        ({"tiled": True, "blockxsize": 32, "blockysize": 16}, {"blockysize": 7}),
    )
]


def write(path: Path, form: dict[str, Any], bands: int = 2, *, overview: bool = True) -> None:
    """Write a picture that holds all of its blocks."""
    about: dict[str, Any] = {"height": SHAPE[0], "width": SHAPE[1], "count": bands, **PLACE}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **form, **about) as file:
        file.write(np.ones((bands, *SHAPE), form["dtype"]))
        if overview:
            file.build_overviews([2, 4])


def looks_full(path: Path, *, shape: tuple[int, int] = SHAPE, bands: int = 2) -> bool:
    """Look at a file."""
    with path.open("rb") as file:
        return is_full(file, shape=shape, bands=bands)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_full_files_are_known_in_all_forms(form: dict[str, Any], tmp_path: Path) -> None:
    """Both orders of bytes, both TIFFs, tiles and strips, overviews; not of another shape."""
    path = tmp_path / "band.tif"
    write(path, form)
    assert looks_full(path)
    assert not looks_full(path, bands=3)
    assert not looks_full(path, shape=(SHAPE[0], SHAPE[1] + 1))


def test_what_lacks_a_block_or_has_a_mask_is_not_full(tmp_path: Path) -> None:
    """GDAL leaves out blocks of zeros, and writes masks into the file."""
    sparse, masked, own = tmp_path / "sparse.tif", tmp_path / "masked.tif", tmp_path / "own.tif"
    about: dict[str, Any] = {"height": SHAPE[0], "width": SHAPE[1], "count": 1, **PLACE}
    about |= {"dtype": "uint8", "blockysize": 7}
    with rasterio.open(sparse, "w", driver="GTiff", SPARSE_OK="TRUE", **about) as file:
        file.write(np.ones((1, 10, SHAPE[1]), np.uint8), window=((0, 10), (0, SHAPE[1])))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(masked, "w", driver="GTiff", **about) as file,
    ):
        file.write(np.ones((1, *SHAPE), np.uint8))
        file.write_mask(np.ones(SHAPE, np.uint8))
    tifffile.imwrite(own, np.ones(SHAPE, np.uint8), compression="lzma")
    assert not any(looks_full(path, bands=1) for path in (sparse, masked, own))


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("int16", 32767),
        ("int16", -32768),
        ("int8", 127),
        ("int32", 2**31 - 1),
        ("uint16", 65535),
        ("uint8", 255),
        ("float32", -3.4028234663852886e38),
        ("float32", -9999.5),
        ("float64", float("nan")),
    ],
)
def test_a_block_that_is_not_there_reads_as_gdal_has_it(
    dtype: str, nodata: float, tmp_path: Path
) -> None:
    """As the nodata value, whatever the type; 0 would be data."""
    path = tmp_path / "sparse.tif"
    about: dict[str, Any] = {"height": SHAPE[0], "width": SHAPE[1], "count": 1, **PLACE}
    about |= {"dtype": dtype, "nodata": nodata, "SPARSE_OK": "TRUE"}
    with rasterio.open(path, "w", driver="GTiff", **about):
        pass
    with rasterio.open(path) as file:
        said = float(file.read(1)[0, 0])
    fill = open_tiff(Store.open(tmp_path.as_uri()), path.name).fill
    np.testing.assert_equal(float(np.array(fill).astype(dtype)), said)


@given(data=st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_both_looks_agree_on_damaged_headers(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of the header are changed, or the end is cut off: what seems full is full to both.

    tifffile also refuses files for tags that say nothing of blocks or masks.
    """
    form = data.draw(st.sampled_from(FORMS))
    path, hurt = tmp_path / "whole.tif", tmp_path / "hurt.tif"
    write(path, form, overview=data.draw(st.booleans()))
    whole = bytearray(path.read_bytes())
    end = min(len(whole), 700)
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    hurt.write_bytes(whole[: data.draw(st.just(len(whole)) | st.integers(0, len(whole)))])
    if not looks_full(hurt):
        return
    try:
        tiff = open_tiff(Store.open(tmp_path.as_uri()), "hurt.tif")
    except SceneError:
        return
    assert tiff.image.shape == SHAPE
    assert tiff.image.bands >= 2
    assert tiff.image.is_whole((1, 2))
    assert tiff.mask is None
