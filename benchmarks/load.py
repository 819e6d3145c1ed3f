# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch ships no types, and need not be there.
"""Reading minibatches of 256 chips of ten Sentinel-2 bands, against a copy of as many bytes.

python -m benchmarks.load
python -m benchmarks.load --peer /path/to/a/python/with/stacchip/bin/python

The scene is generated in real size. 288 packs hold 16 chips of it each, so that a minibatch takes
chips of some 170 packs: the hard case, since real packs are opened as seldom and have some 1,700
chips. All figures of a part are of one run, in turn, the best of several rounds, since others use
the machine too; what a process does once in its life, its imports and its first memory, lies before
the first round. A round is whole megabatches, with the working out of their order and the opening
of their packs. CPU seconds are those of all threads.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from benchmarks.load_data import CHIP, make_packs, make_scene_files
from benchmarks.load_gpu import measure_gpu
from benchmarks.load_plan import PLAN
from benchmarks.load_speed import ROUNDS, Speed, in_turn, on_cores, quickest, say, timed
from benchmarks.load_windows import measure_windows
from benchmarks.load_workers import measure_workers
from benchmarks.measure import say_machine
from chipmill.formats import layout
from chipmill.train import ChipDataset
from chipmill.train.folder import MegabatchFolder
from chipmill.train.memory import ReusedMemory


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, help="a Python that has stacchip")
    parser.add_argument("--packs", type=int, default=288)
    parser.add_argument("--chips", type=int, default=16, help="chips of a pack")
    parser.add_argument("--keep", type=Path, help="a folder for the data, which is used again")
    parser.add_argument("--only", default="", help="warm, workers, cold, windows or gpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as made:
        root = asked.keep or Path(made)
        files = make_scene_files(root / "scene")
        make_packs(root, files, packs=asked.packs, chips=asked.chips)
        parts: dict[str, Callable[[], None]] = {
            "warm": partial(_warm, root),
            "workers": partial(measure_workers, root),
            "cold": partial(_cold, root),
            "windows": partial(measure_windows, root, files, asked.peer),
            "gpu": partial(_gpu, root),
        }
        for name, part in parts.items():
            if asked.only in ("", name):
                part()


def _warm(root: Path) -> None:
    """Measure one core: the codecs of packs, and the copy that is the limit."""
    on_cores({0})
    _renew(root)
    works = {"memcpy of the minibatches": _copier(root)}
    for codec in _codecs(root):
        works[f"packs, {codec}"] = _epochs(open_packs(root, codec))
        if codec != "none":
            works[f"{codec}, decompression alone"] = _decompressor(root, codec)
    for work in works.values():
        work()
    found = in_turn(works)
    copied = found["memcpy of the minibatches"]
    for name, speed in found.items():
        say(name, speed, of=None if speed is copied else ("memcpy", copied))
    opening, packs = min(_opening(root) for _ in range(ROUNDS))
    print(f"{'opening the packs, none':<30} {1e6 * opening / packs:9.0f} us of CPU each")
    on_cores()


def _opening(root: Path) -> tuple[float, int]:
    """Open all packs of a megabatch; gives the seconds of CPU and their number."""
    folder = MegabatchFolder.open(root / "none" / "fast" / layout.megabatch_folder(PLAN, 0))
    packs = len(folder.manifest.packs)
    began = time.process_time()
    for index in range(packs):
        folder.pack(index)
    return time.process_time() - began, packs


def _cold(root: Path) -> None:
    """Measure reading from the disk, against threads that do nothing else."""
    plain: list[Speed] = []
    ours: list[Speed] = []
    epoch = _epochs(open_packs(root, "none"))
    epoch()
    for _ in range(ROUNDS):
        _evict(root)
        plain.append(_bare(root, in_flight=16))
        _evict(root)
        ours.append(timed(epoch))
    best = quickest(plain)
    say("cold, 16 threads of pread", best)
    say("cold, packs", quickest(ours), of=("pread", best))
    ratios = sorted(a.of_clock / b.of_clock for a, b in zip(ours, plain, strict=True))
    print(f"{'cold, ratio of pairs':<30} {' '.join(f'{ratio:.2f}' for ratio in ratios)}")
    on_cores({0})
    say("warm again, read from the disk", in_turn({"again": epoch})["again"])
    on_cores()


def _gpu(root: Path) -> None:
    """Measure minibatches into a GPU's memory, and how long a real step waits for them."""
    if find_spec("torch") is None:
        print("GPU: torch is not installed")
        return
    if not import_module("torch").cuda.is_available():
        print("GPU: there is none on this machine")
        return
    measure_gpu(open_packs(root, "none", as_torch=True, pin_memory=True, float32=True))


def open_packs(root: Path, codec: str, **more: object) -> ChipDataset:
    """Open the packs of a codec."""
    return ChipDataset(
        root / codec / "archive",
        plan=PLAN,
        fast=root / codec / "fast",
        **{"as_torch": False, **more},  # pyright: ignore[reportArgumentType]
    )


def _epochs(dataset: ChipDataset) -> Callable[[], int]:
    """Read the last megabatch of the plan, whenever it is called; gives the number of chips."""
    start = {**dataset.state_dict(), "megabatch": len(dataset.plan.megabatches) - 1}

    def read() -> int:
        dataset.load_state_dict(start)
        return sum(len(batch) for batch in dataset)

    return read


def _copier(root: Path) -> Callable[[], int]:
    """Copy as many bytes as a megabatch's minibatches have, from large memory into large memory."""
    plan = open_packs(root, "none").plan
    shape = (plan.minibatch, 10, CHIP, CHIP)
    memory = ReusedMemory()
    source = memory.empty((2, *shape), np.dtype("uint16"))
    target = memory.empty(shape, np.dtype("uint16"))
    source[...], target[...] = 1, 0

    def copy() -> int:
        for number in range(plan.megabatches[0].minibatches):
            np.copyto(target, source[number % 2])
        return plan.megabatches[0].minibatches * plan.minibatch

    return copy


def _decompressor(root: Path, codec: str) -> Callable[[], int]:
    """Have Arrow decompress chips, one after the other, and do nothing with them."""
    path = root / codec / "fast" / layout.megabatch_folder(PLAN, 0)
    packs = MegabatchFolder.open(path).manifest.packs[:32]

    def decompress() -> int:
        chips = 0
        for pack in packs:
            reader = ipc.open_file(pa.memory_map(str(path / pack.file)))
            for number in range(reader.num_record_batches):
                chips += reader.get_batch(number).num_rows
        return chips

    return decompress


def _bare(root: Path, *, in_flight: int) -> Speed:
    """Read the chips' bytes in the order of the plan, by threads that do nothing else."""
    path = root / "none" / "fast" / layout.megabatch_folder(PLAN, 0)
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

    with ThreadPoolExecutor(in_flight) as pool:
        found = timed(lambda: sum(got == size for got in pool.map(one, range(len(order.scene)))))
    for file in files:
        os.close(file)
    return found


def _starts(path: Path, chips: int) -> list[int]:
    """Find where the pixels of each chip begin: packs of this benchmark have one record batch."""
    with pa.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer()
        pixels = ipc.open_file(whole).get_batch(0).column("pixels")
        data = pixels.buffers()[1]
        assert data is not None  # noqa: S101 - a column without nulls has its data
        return [data.address - whole.address + n * pixels.type.byte_width for n in range(chips)]


def _renew(root: Path) -> None:
    """Write the packs again, so that the system holds them in large pieces.

    What was forgotten and read again, as it is after staging past the page cache, lies in small
    pages, which take up to twice as long to copy.
    """
    first, *others = sorted((root / "none" / "fast" / PLAN).iterdir())
    for path in first.glob("*.arrow"):
        draft = path.with_suffix(".new")
        draft.write_bytes(path.read_bytes())
        draft.replace(path)
        for folder in others:
            (folder / path.name).unlink()
            (folder / path.name).hardlink_to(path)


def _evict(root: Path) -> None:
    """Have the system forget the packs."""
    for path in (root / "none" / "fast" / layout.megabatch_folder(PLAN, 0)).glob("*.arrow"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _codecs(root: Path) -> list[str]:
    """List the codecs of which there are packs."""
    return [name for name in ("none", "lz4", "zstd") if (root / name).is_dir()]


if __name__ == "__main__":
    say_machine()
    sys.exit(main())
