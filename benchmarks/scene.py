# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""A generated scene of real structure: four bands of two resolutions, and a classification."""

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

EDGE = 5490
"""Pixels of the finest band along each axis: half a Sentinel-2 tile."""
BANDS = {"blue": 1, "green": 1, "red": 1, "swir16": 2}


def make_scene(folder: Path, archive: Store) -> SceneRef:
    """Write the scene as an item with files, and bring it into the archive."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, ratio in BANDS.items():
        edge = EDGE // ratio
        smooth = np.add.outer(np.arange(edge), np.arange(edge)) // 7 % 900
        noise = rng.integers(0, 120, (edge, edge))
        _write(folder / f"{name}.tif", (1 + smooth + noise).astype(np.uint16), 10 * ratio)
    classes = np.kron(rng.choice([4, 5, 9], (61, 61)), np.ones((45, 45))).astype(np.uint8)
    _write(folder / "scl.tif", classes, 20)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "generated",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Point", "coordinates": [15, 46]},
        "bbox": [15, 46, 15, 46],
        "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "sentinel-2a"},
        "links": [],
        "assets": {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in (*BANDS, "scl")},
    }
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    request = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=tuple(BANDS))
    (scene,) = search_scenes(request, archive)
    copy_assets(scene, archive, bands=request.bands, access=Access(files=True))
    rewrite_item(scene, archive, bands=request.bands)
    return scene


def decode(files: list[Path]) -> None:
    """Decode every pixel of some files once."""
    for file in files:
        with rasterio.open(file) as opened:
            np.asarray(opened.read())


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
