# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""A generated scene of real structure: bands of two resolutions, and a classification."""

import json
import os
from pathlib import Path
from typing import cast

import imagecodecs
import numpy as np
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import box, mapping
from tifffile import TiffFile, TiffPage

from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

EDGE = 10980
"""Pixels of the finest band along each axis of a Sentinel-2 tile."""
_FINE = ("blue", "green", "red", "nir")
_COARSE = ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")
BANDS = dict.fromkeys(_FINE, 1) | dict.fromkeys(_COARSE, 2)
"""Of each band how much coarser it is than the finest."""
_BBOX = (15.0, 45.9, 16.5, 47.0)
_NOISE = 600
"""Digital numbers; with it DEFLATE leaves about 0.6 of the bytes, as of real bands."""


def make_scene(folder: Path, archive: Store, *, edge: int = EDGE) -> SceneRef:
    """Write the scene as an item with files, and bring it into the archive."""
    finest = edge
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, ratio in BANDS.items():
        edge = finest // ratio
        smooth = np.add.outer(np.arange(edge), np.arange(edge)) // 7 % 900
        noise = rng.integers(0, _NOISE, (edge, edge), np.uint16)
        pixels = (smooth.astype(np.uint16) + noise) + np.uint16(1)
        _write(folder / f"{name}.tif", pixels, 10 * ratio)
    _write(folder / "scl.tif", np.full((finest // 2, finest // 2), 4, np.uint8), 20)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "generated",
        "collection": "sentinel-2-l2a",
        "geometry": mapping(box(*_BBOX)),
        "bbox": list(_BBOX),
        "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "sentinel-2a"},
        "links": [],
        "assets": {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in (*BANDS, "scl")},
    }
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    request = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=tuple(BANDS))
    (scene,) = search_scenes(request, archive)
    copy_assets(scene, archive, bands=request.bands, access=Access(files=True))
    rewrite_item(scene, archive, bands=request.bands, statistics=False)
    return scene


def decode(files: list[Path]) -> None:
    """Read and decode every block of some files once, by the fastest that there is: libdeflate."""
    for path in files:
        with path.open("rb") as file, TiffFile(path) as tiff:
            page = cast("TiffPage", tiff.pages[0])
            shape = (page.tilelength, page.tilewidth)
            size = shape[0] * shape[1] * 2
            for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                data = os.pread(file.fileno(), count, start)
                block = imagecodecs.deflate_decode(data, out=bytearray(size))
                pixels = np.frombuffer(block, np.uint16).reshape(shape)
                imagecodecs.delta_decode(pixels, axis=1, out=pixels)


def _write(
    path: Path, pixels: "np.ndarray[tuple[int, int], np.dtype[np.integer]]", px: float
) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_200_000, px, px),
        nodata=0,
        tiled=True,
        blockxsize=1024,
        blockysize=1024,
        compress="deflate",
        predictor=2,
    ) as file:
        file.write(pixels, 1)
