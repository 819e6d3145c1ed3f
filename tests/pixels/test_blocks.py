# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Blocks as they are decoded, against rasterio."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from chipmill.io.store import Store
from chipmill.io.tiff import open_tiff
from chipmill.model.scratch import Scratch

FORMS = [
    {"dtype": dtype, "endianness": endianness, "interleave": interleave, **layout}
    for dtype, endianness, interleave, layout in product(
        ("uint8", "uint16", "int16", "uint32"),
        ("LITTLE", "BIG"),
        ("pixel", "band"),
        ({"tiled": True, "blockxsize": 32, "blockysize": 16}, {"blockysize": 7}),
    )
]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_blocks_are_the_pixels_that_rasterio_reads(
    form: dict[str, Any], bands: int, tmp_path: Path
) -> None:
    """Differences of DEFLATE are added up in memory that is used again, where they are wanted."""
    rng = np.random.default_rng(5)
    limits = np.iinfo(form["dtype"])
    pixels = rng.integers(limits.min, limits.max, (bands, 50, 75), form["dtype"], endpoint=True)
    path = tmp_path / "band.tif"
    about: dict[str, Any] = {"height": 50, "width": 75, "count": bands, "crs": "EPSG:32633"}
    about["transform"] = rasterio.Affine(10, 0, 0, 0, -10, 0)
    options: dict[str, Any] = {
        **form,
        **about,
        "driver": "GTiff",
        "compress": "deflate",
        "predictor": 2,
    }
    with rasterio.open(path, "w", **options) as file:
        file.write(pixels)
    tiff = open_tiff(Store.open(tmp_path.as_uri()), "band.tif")
    positions = tuple(range(1, bands + 1))
    reach = (45, 70)
    seen = np.zeros(reach, np.int64)
    for batch in tiff.image.batches(tiff.image.spots(positions, reach=reach), positions):
        for spot, found in tiff.read(tiff.image, batch, positions, Scratch()):
            down = slice(spot.top, spot.top + spot.shape[0])
            across = slice(spot.left, spot.left + spot.shape[1])
            wanted = pixels[:, down, across]
            assert np.array_equal(np.stack([part for part in found if part is not None]), wanted)
            seen[down, across] += 1
    assert (seen == 1).all()
