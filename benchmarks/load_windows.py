# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Readers of windows out of the scene's own files, on one core, against packs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import rasterio
from pyarrow import ipc
from rasterio.windows import Window

from benchmarks.load_data import BANDS, CHIP, EDGE, entry_of, make_header
from benchmarks.load_plan import PLAN, write_plan
from benchmarks.load_speed import Speed, on_cores, say, timed
from chipmill.formats import layout
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack import BandPlace, SceneFile, pack_schema
from chipmill.train import ChipDataset

CHIPS = 40
"""Chips that are read by readers of windows: they are slow."""
SCENES, SHARE = 32, 8
"""Scenes that are staged as they are, and the chips of each."""


def measure_windows(root: Path, files: dict[str, Path], peer: Path | None) -> None:
    """Measure each reader once; the packs are read first, as the measure of all others."""
    on_cores({0})
    packs = _packs(root)
    say("packs, none", packs)
    opened = {name: rasterio.open(path) for name, path in files.items()}
    of = ("packs", packs)
    make_scenes(root / "scenes", files)
    say("form scenes", _whole(_open(root / "scenes")), of=of)
    say("rasterio, datasets kept open", timed(lambda: _read_windows(files, opened)), of=of)
    say("rasterio, opened for each", timed(lambda: _read_windows(files, {})), of=of)
    if peer is None:
        print("stacchip's Chipper: give --peer a Python that has it")
        on_cores()
        return
    command = [str(peer), "-I", str(Path(__file__).with_name("load_peer.py")), str(root / "scene")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    chipper = Speed(**json.loads(done.stdout))
    say("stacchip's Chipper", chipper, of=of)
    times = packs.of_core / chipper.of_core
    print(f"{'packs, of stacchip':<30} {times:9.0f} times as many chips a second of CPU")
    on_cores()


def _packs(root: Path) -> Speed:
    """Read a megabatch of packs, of which another was read before."""
    dataset = _open(root / "none")
    start = {**dataset.state_dict(), "megabatch": len(dataset.plan.megabatches) - 1}
    found: list[Speed] = []
    for _ in range(3):
        dataset.load_state_dict(start)
        found.append(_whole(dataset))
    return max(found, key=lambda speed: speed.of_core)


def _open(root: Path) -> ChipDataset:
    return ChipDataset(root / "archive", plan=PLAN, fast=root / "fast", as_torch=False)


def _whole(dataset: ChipDataset) -> Speed:
    """Read to the end of the plan."""
    return timed(lambda: sum(len(batch) for batch in dataset))


def make_scenes(root: Path, files: dict[str, Path]) -> None:
    """Stage scenes as they are, all of the same files; minibatches have as many chips as scenes."""
    folder = root / "fast" / layout.megabatch_folder(PLAN, 0)
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    for path in files.values():
        (folder / path.name).hardlink_to(path)
    header = make_header().model_copy(
        update={
            "files": tuple(
                SceneFile(file=path.name, size=path.stat().st_size, sha256="0" * 64)
                for path in files.values()
            ),
            "places": tuple(
                BandPlace(
                    file=number,
                    index=1,
                    edge=CHIP // ratio,
                    ratio=(ratio, ratio),
                    inset=(0, 0),
                    size=(EDGE // ratio, EDGE // ratio),
                    fill=0,
                )
                for number, ratio in enumerate(BANDS.values())
            ),
        }
    )
    rng = np.random.default_rng(0)
    entries: list[ManifestPack] = []
    for number in range(SCENES):
        own = header.model_copy(update={"scene": f"s{number:04d}"})
        path = folder / layout.pack_file(own.collection, own.scene)
        schema = pack_schema(own)
        places = rng.integers(0, EDGE // CHIP, (2, SHARE))
        columns: list[Any] = [
            pa.array([f"{own.collection}/{own.scene}/{row}-{col}" for row, col in places.T]),
            pa.array(places[0], pa.uint16()),
            pa.array(places[1], pa.uint16()),
            *(pa.array(np.full(SHARE, value)) for value in (46.0, 15.0)),
            *(pa.array(np.zeros(SHARE, np.float32)) for _ in range(2)),
        ]
        with ipc.new_file(str(path), schema) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        entries.append(entry_of(path, own, SHARE))
    write_plan(root, header, entries, minibatch=SCENES, megabatches=1)


def _read_windows(files: dict[str, Path], opened: dict[str, object]) -> int:
    """Read chips at random places, all bands of each, brought onto the finest grid."""
    rng = np.random.default_rng(0)
    for row, col in rng.integers(0, 42, (CHIPS, 2)).tolist():
        for name, path in files.items():
            ratio = BANDS[name]
            edge = CHIP // ratio
            place = Window(col * edge, row * edge, edge, edge)  # pyright: ignore[reportCallIssue]
            file = opened.get(name) or rasterio.open(path)
            file.read(1, window=place, out_shape=(CHIP, CHIP))  # pyright: ignore[reportAttributeAccessIssue]
            if name not in opened:
                file.close()  # pyright: ignore[reportAttributeAccessIssue]
    return CHIPS
