"""Small plans that are really staged: Arrow packs, manifests and a plan summary.

The archive is `root/archive`, fast storage `root/fast`; the plan is always the same id. Each pixel
tells where it comes from: see `pixel`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import ipc

from chipmill.formats import layout
from chipmill.formats.manifest import Manifest, ManifestGroup, ManifestPack
from chipmill.formats.pack import (
    Normalization,
    PackBand,
    PackHeader,
    encode_pixels,
    lay_out,
    pack_schema,
)
from chipmill.formats.plan import Plan, PlannedMegabatch
from chipmill.model.order import ORDER_VERSION
from chipmill.train.folder import MegabatchFolder

PLAN = "0123456789abcdef"
CHIP = 16  # pixels
COLLECTIONS = ("alike", "mixed")


def pixel(scene: int, chip: int, band: int, y: int, x: int) -> int:
    """Tell the value of a pixel, 0 to 250, as every data type holds it."""
    return (scene * 101 + chip * 37 + band * 59 + y * 13 + x * 7) % 251


def _bands(group: int, scene: int) -> tuple[PackBand, ...]:
    """Describe the bands of a group; platforms, told by odd and even scenes, differ a little."""
    red = 0.665 + 0.001 * (scene % 2)
    full = (CHIP, CHIP)
    if group == 0:
        alike = (("red", red), ("nir", 0.842), ("angle", None))
        return lay_out(
            [
                PackBand(
                    name=name,
                    wavelength=wave,
                    gsd=10,
                    dtype="uint16",
                    shape=full,
                    start=0,
                    mean=40.0 + scene,
                    std=20.0,
                    scale=0.01,
                    offset=-0.5,
                )
                for name, wave in alike
            ]
        )
    return lay_out(
        [
            PackBand(name="mask", gsd=10, dtype="uint8", shape=(8, 8), start=0, mean=1.5, std=0.5),
            PackBand(name="red", gsd=10, dtype="uint16", shape=full, start=0, wavelength=red),
            PackBand(name="cold", gsd=30, dtype="int16", shape=(5, 6), start=0, scale=0.5),
        ]
    )


def _records(bands: tuple[PackBand, ...], scene: int, chips: int) -> NDArray[np.uint8]:
    """Write the pixels of a scene's chips, shape (chips, bytes)."""
    rows: list[bytes] = []
    for chip in range(chips):
        parts: list[bytes] = []
        for number, band in enumerate(bands):
            values = [
                [pixel(scene, chip, number, y, x) for x in range(band.shape[1])]
                for y in range(band.shape[0])
            ]
            parts.append(np.array(values, band.dtype).tobytes())
        rows.append(b"".join(parts))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(chips, -1)


@dataclass(frozen=True)
class Builder:
    """Stages plans below a root."""

    root: Path
    minibatch: int
    leftover: str
    compression: Literal["lz4", "zstd"] | None
    rows: int
    """Chips of one record batch."""
    mixed: bool = False
    decibels: bool = False

    def pack(self, folder: Path, scene: int, *, group: int, chips: int) -> ManifestPack:
        """Write one pack and describe it."""
        bands = _bands(group, scene)
        header = PackHeader(
            collection=COLLECTIONS[group],
            scene=f"s{scene:03d}",
            datetime=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=scene),
            chip_size=CHIP,
            gsd=10,
            bands=bands,
        )
        schema = pack_schema(header)
        records = _records(bands, scene, chips)
        path = folder / layout.pack_file(header.collection, header.scene)
        options = ipc.IpcWriteOptions(compression=self.compression)
        with ipc.new_file(str(path), schema, options=options) as writer:
            for start in range(0, chips, self.rows):
                part = range(start, min(chips, start + self.rows))
                columns = [
                    pa.array([f"{header.collection}/s{scene:03d}/{i}-0" for i in part]),
                    pa.array(part, pa.uint16()),
                    pa.array([0 for _ in part], pa.uint16()),
                    pa.array([scene + i / 100 for i in part], pa.float64()),
                    pa.array([-scene - i / 100 for i in part], pa.float64()),
                    pa.array([i / 128 for i in part], pa.float32()),
                    pa.array([0.0 for _ in part], pa.float32()),
                    encode_pixels(records[part.start : part.stop]),
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        return ManifestPack(
            file=path.name,
            collection=header.collection,
            scene=header.scene,
            group=group,
            chips=chips,
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )

    def megabatch(self, number: int, scenes: Sequence[tuple[int, int]]) -> PlannedMegabatch:
        """Stage a megabatch of scenes given as (group, chips)."""
        folder = self.root / "fast" / layout.megabatch_folder(PLAN, number)
        folder.mkdir(parents=True)
        packs = [
            self.pack(folder, number * 100 + index, group=group, chips=chips)
            for index, (group, chips) in enumerate(sorted(scenes, key=itemgetter(0)))
        ]
        manifest = Manifest.model_validate(
            {
                **self._shared(),
                "megabatch": number,
                "groups": tuple(
                    ManifestGroup(
                        collection=name,
                        bands=_bands(group, 0),
                        normalization=Normalization(decibels=self.decibels),
                    )
                    for group, name in enumerate(COLLECTIONS)
                ),
                "packs": tuple(packs),
            }
        )
        (folder / layout.MANIFEST).write_bytes(manifest.encode())
        order = MegabatchFolder.open(folder).order()
        return PlannedMegabatch(
            scenes=len(packs),
            chips=sum(pack.chips for pack in packs),
            minibatches=len(order),
            left_over=int(order.left_over.sum()),
            size=sum(pack.size for pack in packs),
        )

    def plan(self, megabatches: Sequence[Sequence[tuple[int, int]]]) -> None:
        """Stage all megabatches and write the plan's summary to the archive."""
        planned = [self.megabatch(number, scenes) for number, scenes in enumerate(megabatches)]
        plan = Plan.model_validate(
            {
                **self._shared(),
                "megabatch_scenes": max(item.scenes for item in planned),
                "usable": sum(item.chips for item in planned),
                "left_out": {},
                "megabatches": tuple(planned),
            }
        )
        path = self.root / "archive" / layout.plan_key(PLAN)
        path.parent.mkdir(parents=True)
        path.write_bytes(plan.encode())

    def _shared(self) -> dict[str, object]:
        return {
            "plan": PLAN,
            "snapshot": "snap",
            "seed": 7,
            "epoch": 2,
            "minibatch": self.minibatch,
            "leftover": self.leftover,
            "mixed": self.mixed,
            "order_version": ORDER_VERSION,
            "chip_size": CHIP,
        }


@pytest.fixture(scope="session")
def value() -> Callable[[int, int, int, int, int], int]:
    """Give the function that tells a pixel's value: (scene, chip, band, y, x) of the band."""
    return pixel


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """Give a function that stages a plan below a root and gives the root back."""

    def make(
        root: Path,
        megabatches: Sequence[Sequence[tuple[int, int]]],
        *,
        minibatch: int = 4,
        leftover: str = "drop",
        compression: Literal["lz4", "zstd"] | None = None,
        rows: int = 3,
        mixed: bool = False,
        decibels: bool = False,
    ) -> Path:
        builder = Builder(root, minibatch, leftover, compression, rows, mixed, decibels)
        builder.plan(megabatches)
        return root

    return make


@pytest.fixture(scope="session")
def staged(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage three megabatches of both groups that nobody changes."""
    megabatches = [
        [(0, 5), (0, 4), (0, 6), (0, 3), (0, 5), (1, 4), (1, 3), (1, 4), (1, 5), (1, 2)],
        [(0, 6), (0, 6), (0, 5), (0, 1), (0, 7), (1, 2), (1, 2), (1, 3), (1, 2)],
        [(0, 3), (0, 4), (0, 3), (0, 4), (1, 4), (1, 4), (1, 4), (1, 4), (1, 1)],
    ]
    return build(tmp_path_factory.mktemp("staged"), megabatches)
