"""Merging the parts of many scenes, against a plain loop of pyarrow over the same parts.

python -m benchmarks.merge                       1,500 parts of 1,700 chips
python -m benchmarks.merge --parts 30000         51 million chips; 6 GB of disk for temporary files
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from benchmarks.measure import say_machine
from chipmill.formats import layout
from chipmill.formats.chip_index import ChipColumns, IndexedScene, encode_part
from chipmill.formats.provenance import AssetRecord
from chipmill.io.records import write_record
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.footprint import boxes, lonlat_corners, polygons
from chipmill.model.grid import ChipGrid, Grid
from chipmill.model.scene import SceneRef
from chipmill.steps.compact import compact_index
from chipmill.steps.history import load_snapshot
from chipmill.steps.merge import merge_index

PARTS, INCREMENT = 1_500, 300
ROWS, COLS = 34, 50
CHIP = 256
BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16")
PLANNING = ["scene", "collection", "row", "col", "cloud_fraction", "nodata_fraction"]


def main(parts: int = PARTS) -> None:
    """Print seconds, memory and bytes."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        _index(archive.url, range(parts))
        floor = _say(root, "plain", f"loop over {parts:,} parts")
        first = _say(root, "merge", "first merge")
        print(f"ratio {first / floor:5.2f}")
        _say(root, "merge", "nothing to do")
        _index(archive.url, range(parts, parts + INCREMENT))
        _say(root, "merge", f"{INCREMENT} scenes more")
        _say(root, "open", "open for planning")
        _say(root, "compact", "compact")
        _sizes(archive)


def plain(archive: Store, root: Path) -> None:
    """Read all parts one after the other and write them as one file, as they are."""
    writer: parquet.ParquetWriter | None = None
    waiting: list[pa.Table] = []
    for key in sorted(archive.keys(layout.parts_prefix(CHIP))):
        waiting.append(_read(archive, key))
        if len(waiting) * ROWS * COLS > 64_000:  # noqa: PLR2004  as a row group of a merge
            table = pa.concat_tables(waiting).unify_dictionaries()
            writer = writer or parquet.ParquetWriter(
                root / "plain", table.schema, compression="zstd"
            )
            writer.write_table(table, row_group_size=len(table))
            waiting.clear()
    if writer:
        writer.close()
    (root / "plain").unlink()


def _read(archive: Store, key: str) -> pa.Table:
    return parquet.read_table(BytesIO(archive.get(key))).replace_schema_metadata()


def open_for_planning(archive: Store) -> None:
    """Read the columns that a plan reads of all chips."""
    read_columns(archive, load_snapshot(archive, "latest").chip_files, PLANNING)


def _index(url: str, numbers: range) -> None:
    """Write parts and records of scenes on all cores."""
    few = [numbers[start : start + 100] for start in range(0, len(numbers), 100)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_parts, url), few))


def _write_parts(url: str, numbers: range) -> None:
    """Write parts and records of scenes, each of another place, with clouds by chance."""
    archive = Store.open(url)
    for number in numbers:
        chance = np.random.default_rng(number)
        columns = _place(number)
        rows = ChipColumns(
            cloud_fraction=_shares(chance, clear=0.5),
            nodata_fraction=_shares(chance, clear=0.8),
            boxes=columns.boxes,
            polygons=columns.polygons,
        )
        scene, data = encode_part(_scene(number), rows)
        archive.put(layout.part_key(CHIP, scene.collection, scene.item), data)
        ref = SceneRef(collection=scene.collection, item=scene.item)
        for record in _records(scene):
            write_record(ref, archive, record)


def _shares(chance: np.random.Generator, *, clear: float) -> NDArray[np.float32]:
    """Draw shares of 128 x 128 pixels, of which some are 0."""
    counts = chance.integers(0, 16_385, ROWS * COLS)
    return (np.where(chance.random(ROWS * COLS) < clear, 0, counts) / 16_384).astype(np.float32)


def _place(number: int) -> ChipColumns:
    """Give the boxes and polygons of a place: a tile of UTM, moved so that no two are equal."""
    row, zone = divmod(number, 60)
    corners = _tile(row % 80) + [6.0 * zone - 180, 0.0] + 1e-3 * np.sin([row, number])
    nothing = np.empty(0, np.float32)
    return ChipColumns(
        cloud_fraction=nothing,
        nodata_fraction=nothing,
        boxes=boxes(corners),
        polygons=polygons(corners),
    )


@cache
def _tile(row: int) -> NDArray[np.float64]:
    """Project the corners of a tile of zone 31, from the equator to the far north."""
    grid = Grid(
        crs="EPSG:32631",
        transform=(10.0, 0.0, 300_000.0, 0.0, -10.0, 600_000.0 + 100_000.0 * row),
        width=COLS * CHIP,
        height=ROWS * CHIP,
    )
    return lonlat_corners(ChipGrid(grid=grid, size=CHIP))


def _scene(number: int) -> IndexedScene:
    place, zone = divmod(number, 60)
    taken = datetime(2024, 1, 1, 10, tzinfo=UTC) + timedelta(seconds=997 * number)
    item = f"S2{'AB'[place % 2]}_{1 + zone:02d}T{place:03d}_{taken:%Y%m%d}_0_L2A"
    chance = np.random.default_rng(number)
    assets: dict[str, dict[str, Any]] = {
        band: {
            "href": f"s3://team-archive/assets/sentinel-2-l2a/{item}/{band}.tif",
            "type": "image/tiff; application=geotiff",
            "roles": ["data"],
            "proj:code": f"EPSG:{32601 + zone}",
            "proj:shape": [10980, 10980],
            "proj:transform": [10.0, 0.0, 300000.0, 0.0, -10.0, 600000.0],
            "file:size": int(chance.integers(10**8)),
            "file:checksum": f"1220{chance.bytes(32).hex()}",
            "bands": [{"name": band, "eo:center_wavelength": 0.5, "raster:scale": 0.0001}],
        }
        for band in BANDS
    }
    return IndexedScene(
        collection="sentinel-2-l2a",
        item=item,
        item_key=layout.item_key("sentinel-2-l2a", item),
        datetime=taken,
        platform=f"sentinel-2{'ab'[place % 2]}",
        gsd=10.0,
        bands=BANDS,
        chip_size=CHIP,
        rows=ROWS,
        cols=COLS,
        chip_bytes=720_896,
        remainder=0.01,
        assets=json.dumps(assets),
        checksums=tuple(sorted(asset["file:checksum"] for asset in assets.values())),
        inputs=chance.bytes(32).hex(),
    )


def _records(scene: IndexedScene) -> list[AssetRecord]:
    assets = json.loads(scene.assets)
    return [
        AssetRecord(
            asset=band,
            source=f"https://example.com/{scene.item}/{band}.tif",
            key=layout.asset_key(scene.collection, scene.item, band),
            size=assets[band]["file:size"],
            sha256=assets[band]["file:checksum"][4:],
            md5=assets[band]["file:checksum"][4:36],
            source_size=assets[band]["file:size"],
            source_sha256=assets[band]["file:checksum"][4:],
            verified="checksum",
            copied=scene.datetime,
            version="0",
        )
        for band in BANDS
    ]


def _say(root: Path, phase: str, what: str) -> float:
    """Do one thing in a process of its own, print what it took, and give the seconds."""
    command = [sys.executable, "-m", "benchmarks.merge", "--phase", phase, "--folder", str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, cpu, peak = (float(word) for word in done.stdout.split())
    print(f"{what:<24} {seconds:7.1f} s  {cpu:7.1f} s of CPU  {peak:7.0f} MB at most", flush=True)
    return seconds


def _phase(phase: str, root: Path) -> None:
    archive = Store.open((root / "archive").as_uri())
    before = time.process_time()
    began = time.perf_counter()
    work = {
        "plain": lambda: plain(archive, root),
        "merge": lambda: merge_index(archive),
        "open": lambda: open_for_planning(archive),
        "compact": lambda: compact_index(archive),
    }
    work[phase]()
    # What getrusage says begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    peak = int(status.split()[0]) * 1024 / 1e6
    print(time.perf_counter() - began, time.process_time() - before, peak)


def _sizes(archive: Store) -> None:
    snapshot = load_snapshot(archive, "latest")
    parts = sum(entry.size for entry in archive.listing(layout.parts_prefix(CHIP)))
    print(f"parts {parts / snapshot.chips:.1f} bytes a chip")
    for name in ("chip_files", "scene_files", "provenance_files"):
        keys: tuple[str, ...] = getattr(snapshot, name)
        size = sum(archive.size(key) or 0 for key in keys)
        print(f"{name:<18} {len(keys):>4} of {size / snapshot.chips:6.2f} bytes a chip")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=PARTS)
    parser.add_argument("--phase", help="one step, in a process of its own")
    parser.add_argument("--folder", type=Path)
    said = parser.parse_args()
    if said.phase:
        _phase(said.phase, said.folder)
    else:
        say_machine()
        main(said.parts)
