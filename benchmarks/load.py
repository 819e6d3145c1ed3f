# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio and torch ship no types, and torch need not be there.
"""Reading minibatches of 256 chips of ten Sentinel-2 bands, against a copy of as many bytes.

python -m benchmarks.load
python -m benchmarks.load --peer /path/to/a/python/with/stacchip/bin/python

The scene is generated in real size; 288 packs hold chips of it, so that a minibatch takes no two
chips of one pack. Every figure is of one run: in turn with the others, the best of several rounds,
since others use the machine too. CPU seconds are those of all threads.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import rasterio
from pyarrow import ipc
from rasterio.windows import Window

from benchmarks.load_data import BANDS, CHIP, make_packs, make_scene_files
from benchmarks.load_gpu import measure_gpu
from benchmarks.measure import say_machine
from chipmill.train import Batch, ChipDataset
from chipmill.train.folder import MegabatchFolder
from chipmill.train.memory import ReusedMemory

ROUNDS = 5
PEER_CHIPS = 40
"""Chips that are read by readers of windows: they are slow."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a reader did."""

    chips: int
    wall: float
    cpu: float

    @property
    def of_clock(self) -> float:
        """Chips a second by the clock."""
        return self.chips / self.wall

    @property
    def of_core(self) -> float:
        """Chips a second of CPU."""
        return self.chips / self.cpu


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="a Python that has stacchip")
    parser.add_argument("--packs", type=int, default=288)
    parser.add_argument("--chips", type=int, default=8, help="chips of a pack")
    parser.add_argument("--keep", type=Path, help="a folder for the data, which is used again")
    parser.add_argument("--only", default="", help="warm, workers, cold, windows or gpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as made:
        root = asked.keep or Path(made)
        files = make_scene_files(root / "scene")
        make_packs(root, files, packs=asked.packs, chips=asked.chips)
        parts = {
            "warm": lambda: _warm(root),
            "workers": lambda: _workers(root),
            "cold": lambda: _cold(root),
            "windows": lambda: _windows(root / "scene", files, asked.peer),
            "gpu": lambda: _gpu(root),
        }
        for name, part in parts.items():
            if asked.only in ("", name):
                part()


def _warm(root: Path) -> None:
    """Measure one core: the codecs of packs, and the copy that is the limit."""
    _on_cores(1)
    copied = _best(lambda: _copy(_minibatches(root, "none")))
    _say("memcpy of the minibatches", copied)
    for codec in _codecs(root):
        found = _best(lambda codec=codec: _read(root, codec))
        _say(f"packs, {codec}", found, of=("memcpy", copied))
    _on_cores(None)


def _workers(root: Path) -> None:
    """Measure two processes, and a DataLoader with two workers, against one process."""
    alone: list[Speed] = []
    pair: list[Speed] = []
    loaded: list[Speed] = []
    for _ in range(ROUNDS):
        _on_cores(1)
        alone.append(_timed(lambda: _read(root, "none")))
        _on_cores(None)
        pair.append(_timed(lambda: _in_processes(root, 2)))
        if find_spec("torch") is not None:
            loaded.append(_timed(lambda: _in_loader(root, 2)))
    one, two = (_quickest(some) for some in (alone, pair))
    _say("1 process", one)
    _say("2 processes", two, of=("1 process", one))
    if loaded:
        _say("DataLoader, 2 workers", _quickest(loaded), of=("2 processes", two))
    else:
        print("DataLoader: torch is not installed")


def _cold(root: Path) -> None:
    """Measure reading from the disk, against threads that do nothing else."""
    plain: list[Speed] = []
    ours: list[Speed] = []
    for _ in range(ROUNDS):
        _evict(root)
        plain.append(_timed(lambda: _bare(root, in_flight=16)))
        _evict(root)
        ours.append(_timed(lambda: _read(root, "none")))
    best = _quickest(plain)
    _say("cold, 16 threads of pread", best)
    _say("cold, packs", _quickest(ours), of=("pread", best))
    ratios = sorted(a.of_clock / b.of_clock for a, b in zip(ours, plain, strict=True))
    print(f"{'cold, ratio of pairs':<30} {' '.join(f'{ratio:.2f}' for ratio in ratios)}")


def _windows(scene: Path, files: dict[str, Path], peer: Path | None) -> None:
    """Measure readers of windows out of the scene's own files."""
    _on_cores(1)
    opened = {name: rasterio.open(path) for name, path in files.items()}
    _say("rasterio, datasets kept open", _timed(lambda: _read_windows(files, opened)))
    _say("rasterio, opened for each", _timed(lambda: _read_windows(files, {})))
    if peer is None:
        print("stacchip's Chipper: give --peer a Python that has it")
        return
    command = [str(peer), str(Path(__file__).with_name("load_peer.py")), str(scene)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _say("stacchip's Chipper", Speed(**json.loads(done.stdout)))


def _gpu(root: Path) -> None:
    """Measure minibatches into a GPU's memory, and how long a real step waits for them."""
    if find_spec("torch") is None:
        print("GPU: torch is not installed")
        return
    if not import_module("torch").cuda.is_available():
        print("GPU: there is none on this machine")
        return
    measure_gpu(_open(root, "none", as_torch=True, pin_memory=True, float32=True))


def _open(root: Path, codec: str, **more: object) -> ChipDataset:
    """Open the packs of a codec."""
    plan = next((root / codec / "archive" / "plans").iterdir()).name
    return ChipDataset(
        root / codec / "archive",
        plan=plan,
        fast=root / codec / "fast",
        **{"as_torch": False, **more},  # pyright: ignore[reportArgumentType]
    )


def _read(root: Path, codec: str, **more: object) -> int:
    """Read an epoch; gives the number of chips.

    The clock starts with the second minibatch: the first opens the packs, which have few chips
    here and more than a thousand in real use.
    """
    batches = iter(_open(root, codec, **more))
    next(batches)
    began, cpu = time.perf_counter(), time.process_time()
    chips = sum(len(batch) for batch in batches)
    _read.speed = Speed(  # pyright: ignore[reportFunctionMemberAccess]
        chips, time.perf_counter() - began, time.process_time() - cpu
    )
    return chips


def _minibatches(root: Path, codec: str) -> list[tuple[int, ...]]:
    """Give the shapes of the minibatches."""
    return [batch.pixels.shape for batch in _open(root, codec) if isinstance(batch, Batch)]


def _copy(shapes: list[tuple[int, ...]]) -> int:
    """Copy as many bytes as the minibatches have, from large memory into large memory."""
    memory = ReusedMemory()
    source = memory.empty((2, *shapes[0]), np.dtype("uint16"))
    target = memory.empty(shapes[0], np.dtype("uint16"))
    source[...], target[...] = 1, 0
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(len(shapes)):
        np.copyto(target, source[number % 2])
    chips = sum(shape[0] for shape in shapes)
    _copy.speed = Speed(  # pyright: ignore[reportFunctionMemberAccess]
        chips, time.perf_counter() - began, time.process_time() - cpu
    )
    return chips


def _in_processes(root: Path, count: int) -> int:
    """Read an epoch as so many ranks, each in a process of its own."""
    # Not by fork: a store that the parent has used answers no child.
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=_read, args=(root, "none"), kwargs={"rank": n, "world_size": count})
        for n in range(count)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return _open(root, "none").plan.usable


def _in_loader(root: Path, workers: int) -> int:
    """Read an epoch through torch's loader, into tensors of this process."""
    dataset = _open(root, "none", as_torch=True)
    loader = import_module("torch.utils.data").DataLoader(
        dataset, batch_size=None, num_workers=workers
    )
    return sum(len(batch) for batch in dataset.steps(loader))


def _bare(root: Path, *, in_flight: int) -> int:
    """Read the chips' bytes in the order of the plan, by threads that do nothing else."""
    (path,) = (root / "none" / "fast").glob("*/00000")
    folder = MegabatchFolder.open(path)
    order = folder.order()
    size = folder.pack(0).header.chip_bytes
    files = [os.open(path / pack.file, os.O_RDONLY) for pack in folder.manifest.packs]
    starts = [_starts(path / pack.file, pack.chips) for pack in folder.manifest.packs]
    _evict(root)
    out = ReusedMemory().empty((256, size), np.dtype("uint8"))
    out[...] = 0

    def one(number: int) -> int:
        scene, chip = int(order.scene[number]), int(order.chip[number])
        return os.preadv(files[scene], [out[number % 256]], int(starts[scene][chip]))

    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(in_flight) as pool:
        chips = sum(got == size for got in pool.map(one, range(len(order.scene))))
    _bare.speed = Speed(  # pyright: ignore[reportFunctionMemberAccess]
        chips, time.perf_counter() - began, time.process_time() - cpu
    )
    for file in files:
        os.close(file)
    return chips


def _starts(path: Path, chips: int) -> list[int]:
    """Find where the pixels of each chip begin: packs of this benchmark have one record batch."""
    with pa.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer()
        pixels = ipc.open_file(whole).get_batch(0).column("pixels")
        data = pixels.buffers()[1]
        assert data is not None  # noqa: S101 - a column without nulls has its data
        return [data.address - whole.address + n * pixels.type.byte_width for n in range(chips)]


def _evict(root: Path) -> None:
    """Have the system forget the packs."""
    for path in (root / "none" / "fast").rglob("*.arrow"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _read_windows(files: dict[str, Path], opened: dict[str, object]) -> int:
    """Read chips at random places, all bands of each, brought onto the finest grid."""
    rng = np.random.default_rng(0)
    for row, col in rng.integers(0, 42, (PEER_CHIPS, 2)).tolist():
        for name, path in files.items():
            ratio = BANDS[name]
            edge = CHIP // ratio
            place = Window(col * edge, row * edge, edge, edge)  # pyright: ignore[reportCallIssue]
            file = opened.get(name) or rasterio.open(path)
            file.read(1, window=place, out_shape=(CHIP, CHIP))  # pyright: ignore[reportAttributeAccessIssue]
            if name not in opened:
                file.close()  # pyright: ignore[reportAttributeAccessIssue]
    return PEER_CHIPS


def _codecs(root: Path) -> list[str]:
    """List the codecs of which there are packs."""
    return [name for name in ("none", "lz4", "zstd") if (root / name).is_dir()]


def _best(work: Callable[[], int]) -> Speed:
    """Give the best of several rounds, by CPU."""
    return min((_timed(work) for _ in range(ROUNDS)), key=lambda speed: speed.cpu)


def _quickest(speeds: list[Speed]) -> Speed:
    """Give the best of several rounds, by the clock."""
    return min(speeds, key=lambda speed: speed.wall)


def _timed(work: Callable[[], int]) -> Speed:
    """Time one call; a function that times itself says so in its `speed`."""
    began, cpu = time.perf_counter(), time.process_time()
    chips = work()
    found = Speed(chips, time.perf_counter() - began, time.process_time() - cpu)
    for timed in (_copy, _bare, _read):
        if (own := timed.__dict__.pop("speed", None)) is not None:
            return own
    return found


def _on_cores(count: int | None) -> None:
    """Use so many cores; None: all."""
    everything = sorted(range(os.cpu_count() or 1))
    os.sched_setaffinity(0, everything[:count])


def _say(what: str, speed: Speed, *, of: tuple[str, Speed] | None = None) -> None:
    """Print a line."""
    line = f"{what:<30} {speed.of_clock:9.0f} chips/s of clock {speed.of_core:9.0f} of CPU"
    if of is not None:
        name, other = of
        line += f"   of {name}: {speed.of_clock / other.of_clock:.2f} of clock"
        line += f", {speed.of_core / other.of_core:.2f} of CPU"
    print(line, flush=True)


if __name__ == "__main__":
    say_machine()
    sys.exit(main())
