"""Planning: an order against NumPy's own permutation, and a plan of many chips in memory.

python -m benchmarks.plan          # 5 million chips
python -m benchmarks.plan 50       # 50 million: some minutes, some GB on the temporary disk
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.measure import say_machine
from chipmill.formats import layout
from chipmill.formats.chip_index import CHIPS, SCENES, SIDES, WRITING
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.model.order import minibatch_order
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.history import load_snapshot
from chipmill.steps.plan import make_plan

RUNS = 5
MINIBATCH = 1024
SIDE = 40
"""Chips along an edge of a scene: 1,600 a scene."""
SCENES_A_FILE = 600
NAME = "0" * 16


def main() -> None:
    """Print the ratios, and what a process that plans takes."""
    if sys.argv[1:2] == ["in"]:
        plan_in(sys.argv[2], sys.argv[3:])
        return
    say_machine()
    millions = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdigit() else 5
    chips = millions * 1_000_000
    compare_order(chips)
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        archive = Store.open(Path(folder, "archive").as_uri())
        write_snapshot(archive, scenes=chips // SIDE**2)
        for options in ([], ["filter"], ["area"], ["split"], ["mix"]):
            command = [sys.executable, "-m", "benchmarks.plan", "in", archive.url, *options]
            subprocess.run(command, check=True)


def compare_order(chips: int) -> None:
    """Time the orders of all megabatches of a plan against one permutation of as many chips."""
    counts = np.random.default_rng(0).integers(800, 1700, chips // 1250)
    megabatches = np.array_split(counts, max(1, len(counts) // (4 * MINIBATCH)))

    def order() -> None:
        for number, part in enumerate(megabatches):
            groups = np.arange(len(part)) % 2
            minibatch_order(part, groups, size=MINIBATCH, seed=0, epoch=0, megabatch=number)

    before = peak()
    order()
    most = peak()  # before NumPy makes a permutation
    permute = np.random.default_rng(0).permutation
    pairs = [(cpu(order), cpu(lambda: permute(int(counts.sum())))) for _ in range(RUNS)]
    ours, floor = np.median(pairs, axis=0)
    ratio = np.median([a / b for a, b in pairs])
    print(
        f"order {counts.sum() / 1e6:.0f} million chips in {len(megabatches)} megabatches "
        f"{ours:.2f} s of CPU, numpy.random.Generator.permutation {floor:.2f} s, "
        f"ratio {ratio:.2f}, {most:.2f} GiB at most ({before:.2f} before)",
        flush=True,
    )


def plan_in(url: str, options: list[str]) -> None:
    """Plan the snapshot, in a process of its own; print its time and its largest memory."""
    said: dict[str, Any] = {
        "filter": {"filter": "cloud < 0.2 AND datetime >= DATE('2023-07-01')"},
        "area": {"filter": "S_INTERSECTS(geometry, BBOX(-60, -20, 120, 70))"},
        "split": {"split": {"side": "train"}},
        "mix": {"mix": {"naip": 1, "sentinel-2-l2a": 2}},
    }.get("".join(options), {})
    archive = Store.open(url)
    minibatch = min(256, load_snapshot(archive, NAME).scenes // 20)
    request = PlanRequest(snapshot=NAME, minibatch=minibatch, megabatch=20 * minibatch, **said)
    before = peak()
    began, used = time.perf_counter(), time.process_time()
    plan = make_plan(request, archive)
    took, used = time.perf_counter() - began, time.process_time() - used
    print(
        f"plan {'with ' + options[0] if options else 'all':<12} {plan.usable / 1e6:5.1f} million "
        f"chips in {len(plan.megabatches)} megabatches: {took:.1f} s, {used:.1f} s of CPU, "
        f"{peak():.2f} GiB at most ({before:.2f} before)",
        flush=True,
    )


def peak() -> float:
    """Give the largest memory of this process so far, in GiB; of Linux alone."""
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0]) / 2**20


def cpu(work: Callable[[], object]) -> float:
    """Take the CPU time of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def write_snapshot(archive: Store, *, scenes: int) -> None:
    """Write a snapshot of scenes of 1,600 chips of 2.56 km, all over the world's lands' latitudes.

    Only what planning reads is as large as in a true one; ids, assets and items are short.
    """
    numbers = np.random.default_rng(1)
    files = [range(start, min(scenes, start + SCENES_A_FILE)) for start in range(0, scenes, 600)]
    keys = [
        tuple(layout.snapshot_file_key(NAME, table, str(number)) for table in ("chips", "scenes"))
        for number in range(len(files))
    ]
    for (chip_key, scene_key), part in zip(keys, files, strict=True):
        corners = numbers.uniform((-179, -60), (178, 70), (len(part), 2)).astype(np.float32)
        put(archive, scene_key, scene_table(part, corners), {"compression": "zstd"})
        put(archive, chip_key, chip_table(part, corners, numbers), WRITING)
    snapshot = Snapshot(
        snapshot=NAME,
        number=1,
        chip_size=256,
        chips=scenes * SIDE**2,
        scenes=scenes,
        chip_files=tuple(key for key, _ in keys),
        scene_files=tuple(key for _, key in keys),
        provenance_files=tuple("" for _ in keys),
        created=datetime.now(UTC),
    )
    archive.put(layout.snapshot_key(NAME, 1), snapshot.encode())


def scene_table(part: range, corners: "np.ndarray[Any, Any]") -> pa.Table:
    """Describe the scenes of a file."""
    far = corners + np.float32(SIDE * 0.023)
    rows = [
        {
            "scene": f"{collection(n)}/s{n:06d}",
            "collection": collection(n),
            "item": f"s{n:06d}",
            "item_key": f"items/{n}",
            "datetime": when(n),
            "platform": f"p{n % 2}",
            "gsd": 10.0,
            "bands": ["red", "green", "blue"],
            "rows": SIDE,
            "cols": SIDE,
            "chip_bytes": 393216,
            "remainder": 0.0,
            "digest": "",
            "assets": "{}",
            "bbox": dict(zip(SIDES, [*corners[i].tolist(), *far[i].tolist()], strict=True)),
            "part": "",
        }
        for i, n in enumerate(part)
    ]
    return pa.Table.from_pylist(rows, schema=SCENES)


def chip_table(
    part: range, corners: "np.ndarray[Any, Any]", numbers: np.random.Generator
) -> pa.Table:
    """Make the chips of a file, all columns at once."""
    each, count = SIDE**2, len(part) * SIDE**2
    owner = np.repeat(np.arange(len(part), dtype=np.int32), each)
    row, col = (np.tile(axis.reshape(-1), len(part)) for axis in np.indices((SIDE, SIDE)))
    step = np.float32(0.023)
    west = corners[owner, 0] + col.astype(np.float32) * step
    south = corners[owner, 1] + row.astype(np.float32) * step
    sides: list[Any] = [pa.array(side) for side in (west, south, west + step, south + step)]
    cloud = np.clip(numbers.normal(0.1, 0.2, count), 0, 1).astype(np.float32)
    nodata = np.repeat(numbers.choice([0, 0.5], len(part), p=[0.9, 0.1]), each).astype(np.float32)

    def words(values: list[str]) -> Any:  # noqa: ANN401
        return cast("Any", pa.DictionaryArray).from_arrays(owner, pa.array(values))

    columns: list[Any] = [
        pa.array(np.char.mod("%d", np.arange(count))),
        words([f"{collection(n)}/s{n:06d}" for n in part]),
        words([collection(n) for n in part]),
        pa.array(row.astype(np.uint16)),
        pa.array(col.astype(np.uint16)),
        pa.array(cloud),
        pa.array(nodata),
        pa.array(np.array([when(n) for n in part], "datetime64[us]")[owner]).cast(
            pa.timestamp("us", tz="UTC")
        ),
        pa.array(np.full(count, 10, np.float32)),
        words([f"p{n % 2}" for n in part]),
        words(["red,green,blue"] * len(part)),
        words([f"items/{n}" for n in part]),
        words(["{}"] * len(part)),
        pa.StructArray.from_arrays(sides, names=list(SIDES)),
        polygons(west, south, step),
    ]
    return pa.Table.from_arrays(columns, schema=CHIPS)


def polygons(west: "np.ndarray[Any, Any]", south: "np.ndarray[Any, Any]", step: np.float32) -> Any:  # noqa: ANN401
    """Write squares as WKB, 93 bytes each, all at once."""
    ring = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], np.float64) * float(step)
    squares = np.zeros(len(west), [("head", "u1", 13), ("ring", "<f8", (5, 2))])
    squares["head"] = np.frombuffer(bytes.fromhex("01030000000100000005000000"), np.uint8)
    squares["ring"] = np.stack([west, south], axis=1)[:, None, :] + ring
    kind: Any = pa.binary(squares.itemsize)
    fixed = pa.Array.from_buffers(kind, len(squares), [None, pa.py_buffer(squares.tobytes())])
    return cast("Any", fixed).cast(pa.binary())


def collection(number: int) -> str:
    """Give two thirds of the scenes to one collection."""
    return "sentinel-2-l2a" if number % 3 else "naip"


def when(number: int) -> datetime:
    """Give scenes times of one year."""
    return datetime.fromtimestamp(1_672_531_200 + number * 99_991 % 31_000_000, UTC).replace(
        tzinfo=None
    )


def put(archive: Store, key: str, table: pa.Table, how: dict[str, Any]) -> None:
    """Write a table."""
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, row_group_size=64_000, **how)
    archive.put(key, sink.getvalue().to_pybytes())


if __name__ == "__main__":
    main()
