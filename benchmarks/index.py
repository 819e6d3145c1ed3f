# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Indexing whole scenes against decoding their blocks once, in CPU time of all threads.

    python -m benchmarks.index --stacchip path/to/python

Scenes are generated in their real sizes. The quality bands are ragged patches that DEFLATE makes
into 0.13 (SCL) and 0.18 (QA_PIXEL) bytes a pixel; real ones at full resolution have 0.04 to 0.21.
stacchip 0.1.38 is measured where it is installed; the option names its Python.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from tifffile import TiffFile, TiffPage

from benchmarks.measure import compare, cpu_seconds, say_machine
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

SCL = np.array([0, 2, 4, 4, 4, 5, 6, 8, 9, 10], np.uint8)
QA = np.array([1, 21824, 21824, 21824, 21952, 22280, 23888, 24216, 54596, 55052], np.uint16)
S2_EDGE, L8_EDGE = 10_980, 7_700
S2_BANDS = {"blue": 1, "green": 1, "red": 1, "nir": 1} | dict.fromkeys(
    ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22"), 2
)
L8_BANDS = dict.fromkeys(("blue", "green", "red", "nir08", "swir16", "swir22"), 1)
CHILD = """
import sys
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef
from chipmill.steps.index import index_chips
index_chips(SceneRef(collection=sys.argv[2], item="generated"), Store.open(sys.argv[1]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
PEER = """
import json, sys, time
from pystac import Item
from stacchip import indexer
item, kind = json.load(open(sys.argv[1])), getattr(indexer, sys.argv[2])
def once():
    made = kind(Item.from_dict(item, migrate=False), chip_max_nodata=1)
    began = time.process_time()
    made.create_index()
    return time.process_time() - began
took = sorted(once() for _ in range(3))[1]
most = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([took, int(most) * 1024 / 1e6]))
"""


SMALL_RUNS = 25
"""Of what takes hundredths of a second, of which others on the machine change a part."""


def main() -> None:
    """Print the ratios of a Sentinel-2 and a Landsat scene."""
    parser = argparse.ArgumentParser(description="Index whole scenes.")
    parser.add_argument("--stacchip", help="a Python with stacchip beside it")
    peer = parser.parse_known_args()[0].stacchip
    measure("sentinel-2-l2a", "Sentinel2Indexer", peer)
    measure("landsat-c2l2-sr", "LandsatIndexer", peer)


def measure(sensor: str, indexer: str, peer: str | None) -> None:
    """Generate a scene, index it, and print what that takes."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        archive = Store.open(Path(folder, "archive").as_uri())
        scene, item = make_scene(Path(folder, "source"), sensor, archive)
        files = sorted(Path(folder, "archive", "assets").rglob("*.tif"))
        quality = [file for file in files if file.stem in {"scl", "qa_pixel"}]

        def index() -> None:
            index_chips(scene, archive)

        def clock(work: Callable[[], object]) -> float:
            archive.delete(layout.part_key(256, scene.collection, scene.item))
            return cpu_seconds(work)

        short = sensor.partition("-")[0]
        compare(f"{short}, all files", index, "their blocks", lambda: decode(files), clock)
        print(f"  at most {peak(archive, scene):.0f} MB of memory in a process of its own")
        with without_nodata(archive, scene):
            blocks = partial(decode, quality)
            compare(f"{short}, quality", index, "its blocks", blocks, clock, runs=SMALL_RUNS)
            if peer:
                against(peer, item, indexer, clock(index))


def decode(files: list[Path]) -> None:
    """Decode every block of some files once, by the fastest reader that chipmill can use."""
    for path in files:
        with TiffFile(path) as tiff, path.open("rb") as file:
            page = tiff.pages[0]
            assert isinstance(page, TiffPage)  # noqa: S101
            for number, start in enumerate(page.dataoffsets):
                file.seek(start)
                page.decode(file.read(page.databytecounts[number]), number)


def peak(archive: Store, scene: SceneRef) -> float:
    """Index a scene in a process of its own: the most memory that it holds, in MB.

    It tells so itself (proc(5)): what `wait4` says begins with the memory of the parent, which has
    made the scene. The second time counts: the first one compiles what it imports.
    """
    said = ""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        compiled = ["env", "-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={folder}"]
        command = [*compiled, sys.executable, "-c", CHILD, archive.url, scene.collection]
        for _ in range(2):
            archive.delete(layout.part_key(256, scene.collection, scene.item))
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            said = done.stdout
    return int(said) * 1024 / 1e6


def against(peer: str, item: Path, indexer: str, ours: float) -> None:
    """Print what stacchip takes for the same quality band."""
    command = [peer, "-c", PEER, str(item), indexer]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs, memory = json.loads(said.splitlines()[-1])
    print(f"  stacchip {theirs:.2f} s and {memory:.0f} MB: {theirs / ours:.1f} times as much CPU")


@contextmanager
def without_nodata(archive: Store, scene: SceneRef) -> Generator[None]:
    """Have an item whose data files name no nodata value, so that no pixel of them is read."""
    key = layout.item_key(scene.collection, scene.item)
    kept = archive.get(key)
    item = json.loads(kept)
    for asset in item["assets"].values():
        asset.pop("nodata", None)
    archive.put(key, json.dumps(item).encode())
    yield
    archive.put(key, kept)


def make_scene(folder: Path, sensor: str, archive: Store) -> tuple[SceneRef, Path]:
    """Write a scene as an item with files, and bring it into the archive."""
    folder.mkdir()
    landsat = sensor.startswith("landsat")
    bands, quality = (L8_BANDS, "qa_pixel") if landsat else (S2_BANDS, "scl")
    edge, size = (L8_EDGE, 30.0) if landsat else (S2_EDGE, 10.0)
    rng = np.random.default_rng(0)
    for coarser in sorted(set(bands.values())):
        dull = 3000 * patches(edge // coarser, rng) + rng.integers(1, 200, (edge // coarser,) * 2)
        names = [name for name, ratio in bands.items() if ratio == coarser]
        write(folder / f"{names[0]}.tif", dull.astype(np.uint16), size * coarser)
        for name in names[1:]:
            os.link(folder / f"{names[0]}.tif", folder / f"{name}.tif")
    values, coarser = (QA, 1) if landsat else (SCL, 2)
    places = (patches(edge // coarser, rng) * len(values)).astype(np.int8)
    write(folder / f"{quality}.tif", values[places], size * coarser)
    item = folder / "item.json"
    item.write_text(json.dumps(describe(folder, sensor, bands | {quality: coarser}, (edge, size))))
    request = IngestRequest(sensor=sensor, catalog=str(item), bands=tuple(bands))
    (scene,) = search_scenes(request, archive)
    copy_assets(scene, archive, bands=request.bands, access=Access(files=True))
    rewrite_item(scene, archive, bands=request.bands)
    return scene, item


def patches(edge: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Give a field of ragged patches of several sizes, in [0, 1)."""
    total = np.zeros((edge, edge), np.float32)
    for cell, weight in ((61, 0.7), (9, 0.25), (1, 0.0499)):
        coarse = rng.random((-(-edge // cell),) * 2, dtype=np.float32)
        total += weight * coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:edge, :edge]
    return total


def write(path: Path, pixels: NDArray[Any], size: float) -> None:
    """Write a band as a GeoTIFF in 1,024 px blocks with DEFLATE."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "count": 1,
        "dtype": pixels.dtype,
        "crs": "EPSG:32633",
        "transform": from_origin(500_000, 5_200_000, size, size),
        "tiled": True,
        "blockxsize": 1024,
        "blockysize": 1024,
        "compress": "deflate",
        "predictor": 2,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels, 1)


def describe(
    folder: Path, sensor: str, ratios: dict[str, int], grid: tuple[int, float]
) -> dict[str, Any]:
    """Write the item of a scene, as both chipmill and stacchip read it.

    Args:
        folder: Where its files are.
        sensor: Its collection.
        ratios: By key of a file how much coarser its pixels are than the finest.
        grid: Pixels along each edge of the finest file, and their size in metres.
    """
    edge, size = grid
    projection = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
    assets: dict[str, Any] = {}
    for name, coarser in ratios.items():
        href = str(folder / f"{name}.tif")
        assets[name] = {
            "href": href,
            "type": "image/tiff",
            "alternate": {"s3": {"href": href}},
            "proj:shape": [edge // coarser, edge // coarser],
            "proj:transform": [size * coarser, 0, 500_000, 0, -size * coarser, 5_200_000],
        }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [projection],
        "id": "generated",
        "collection": sensor,
        "geometry": {"type": "Point", "coordinates": [15, 46]},
        "bbox": [15, 46, 15, 46],
        "properties": {
            "datetime": "2024-06-01T10:00:00Z",
            "platform": "landsat-8" if sensor.startswith("landsat") else "sentinel-2a",
            "proj:epsg": 32633,
            "proj:shape": [edge, edge],
            "proj:transform": [size, 0, 500_000, 0, -size, 5_200_000],
        },
        "links": [],
        "assets": assets,
    }


if __name__ == "__main__":
    say_machine()
    main()
