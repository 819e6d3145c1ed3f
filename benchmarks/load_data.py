# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""A generated Sentinel-2 scene of real size, and packs with chips of it."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import rasterio
from numpy.typing import NDArray
from pyarrow import ipc
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.load_plan import PLAN, write_plan
from chipmill.formats import layout
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack import (
    PackBand,
    PackHeader,
    encode_pixels,
    encoding_of,
    lay_out,
    pack_schema,
    split_bytes,
    write_options,
)
from chipmill.model.manner import Codec

EDGE = 10_980
CHIP = 256
MINIBATCH = 256
BANDS = {
    "blue": 1,
    "green": 1,
    "red": 1,
    "rededge1": 2,
    "rededge2": 2,
    "rededge3": 2,
    "nir": 1,
    "nir08": 2,
    "swir16": 2,
    "swir22": 2,
}
"""The bands, each with its pixel size as a multiple of 10 m."""
MEGABATCHES = 4
_CODECS: tuple[Codec, ...] = ("zstd", "lz4", "none")


def make_scene_files(folder: Path) -> dict[str, Path]:
    """Write ten bands, and an item that names them, as a catalogue would."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.tif" for name in BANDS}
    for number, (name, ratio) in enumerate(BANDS.items()):
        if not files[name].exists():
            _write(files[name], EDGE // ratio, 10 * ratio, seed=number)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": "generated",
        "collection": "sentinel-2-l2a",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[15, 46], [16, 46], [16, 47], [15, 47], [15, 46]]],
        },
        "bbox": [15, 46, 16, 47],
        "properties": {
            "datetime": "2024-06-01T10:00:00Z",
            "proj:epsg": 32633,
        },
        "links": [],
        "assets": {
            name: {
                "href": str(path),
                "type": "image/tiff",
                "gsd": 10 * BANDS[name],
                "proj:shape": [EDGE // BANDS[name]] * 2,
                "proj:transform": [10 * BANDS[name], 0, 500_000, 0, -10 * BANDS[name], 5_200_000],
            }
            for name, path in files.items()
        },
    }
    (folder / "item.json").write_text(json.dumps(item))
    return files


def make_packs(root: Path, files: dict[str, Path], *, packs: int, chips: int) -> None:
    """Write the chips of the scene as packs, in each codec; each megabatch has the same packs."""
    if (root / "none").is_dir():
        return
    header = make_header()
    source = _chips(files, header, count=min(chips * 8, 1024))
    for codec in _CODECS:
        first, *others = (
            root / codec / "fast" / layout.megabatch_folder(PLAN, n) for n in range(MEGABATCHES)
        )
        first.mkdir(parents=True)
        entries = [
            _write_pack(first, header, number, source, chips=chips, codec=codec)
            for number in range(packs)
        ]
        for folder in others:
            folder.mkdir()
            for entry in entries:
                (folder / entry.file).hardlink_to(first / entry.file)
        write_plan(root / codec, header, entries, minibatch=MINIBATCH, megabatches=MEGABATCHES)


def _write(path: Path, edge: int, px: int, *, seed: int) -> None:
    """Write a band: land of smooth regions with the noise of a sensor, a strip at a time."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (edge // 16 + 2, edge // 16 + 2)).cumsum(0).cumsum(1)
    coarse = (coarse - coarse.min()) / np.ptp(coarse) * 2500 + 300
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=edge,
        height=edge,
        count=1,
        dtype="uint16",
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_200_000, px, px),
        tiled=True,
        blockxsize=1024,
        blockysize=1024,
        compress="deflate",
        predictor=2,
    ) as file:
        for top in range(0, edge, 1024):
            rows = min(1024, edge - top)
            y, x = (top + np.arange(rows)) / 16, np.arange(edge) / 16
            low, left = y.astype(int), x.astype(int)
            base = coarse[low][:, left] + (y - low)[:, None] * (
                coarse[low + 1][:, left] - coarse[low][:, left]
            )
            noise = rng.integers(0, 48, (rows, edge))
            file.write((base + noise).astype(np.uint16), 1, window=Window(0, top, edge, rows))  # pyright: ignore[reportCallIssue]


def make_header() -> PackHeader:
    """Describe the packs."""
    bands = [
        PackBand(
            name=name,
            wavelength=0.5 + number / 10,
            gsd=10 * ratio,
            dtype="uint16",
            shape=(CHIP // ratio, CHIP // ratio),
            start=0,
            mean=1500.0,
            std=500.0,
        )
        for number, (name, ratio) in enumerate(BANDS.items())
    ]
    return PackHeader(
        collection="sentinel-2-l2a",
        scene="generated",
        datetime=datetime(2024, 6, 1, 10, tzinfo=UTC),
        chip_size=CHIP,
        gsd=10,
        bands=lay_out(bands),
    )


def _chips(files: dict[str, Path], header: PackHeader, *, count: int) -> NDArray[np.uint8]:
    """Cut chips along the diagonal of the scene, shape (chips, bytes)."""
    records = np.empty((count, header.chip_bytes), np.uint8)
    for band in header.bands:
        ratio = BANDS[band.name]
        edge = CHIP // ratio
        with rasterio.open(files[band.name]) as file:
            for number in range(count):
                row, col = number // 42, number % 42
                window = Window(col * edge, row * edge, edge, edge)  # pyright: ignore[reportCallIssue]
                pixels: NDArray[Any] = file.read(1, window=window)
                records[number, band.start : band.start + band.size] = pixels.reshape(-1).view("u1")
    return records


def _write_pack(
    folder: Path,
    header: PackHeader,
    number: int,
    source: NDArray[np.uint8],
    *,
    chips: int,
    codec: Codec,
) -> ManifestPack:
    """Write a pack with a chip a record batch where it is compressed, as staging does."""
    own = header.model_copy(
        update={"scene": f"s{number:04d}", "codec": codec, "encoding": encoding_of(codec)}
    )
    schema = pack_schema(own)
    path = folder / layout.pack_file(own.collection, own.scene)
    with ipc.new_file(str(path), schema, options=write_options(codec)) as writer:
        for part in _parts(chips, 1 if codec != "none" else chips):
            records = source[[(number * 13 + chip) % len(source) for chip in part]]
            if own.encoding != "plain":
                records = split_bytes(records, own.bands)
            columns: list[Any] = [
                pa.array([f"{own.collection}/{own.scene}/{chip}-0" for chip in part]),
                pa.array(part, pa.uint16()),
                pa.array([0 for _ in part], pa.uint16()),
                pa.array([46.0 for _ in part]),
                pa.array([15.0 for _ in part]),
                pa.array([0.0 for _ in part], pa.float32()),
                pa.array([0.0 for _ in part], pa.float32()),
                encode_pixels(records),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return entry_of(path, own, chips)


def entry_of(path: Path, header: PackHeader, chips: int) -> ManifestPack:
    """Describe a pack for the manifest."""
    return ManifestPack(
        file=path.name,
        collection=header.collection,
        scene=header.scene,
        group=0,
        chips=chips,
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _parts(chips: int, rows: int) -> Iterator[range]:
    """Divide the chips of a pack into record batches."""
    for start in range(0, chips, rows):
        yield range(start, min(chips, start + rows))
