# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Measure indexing, staging and loading against what the machine can do at best.

    make bench

Each line is a ratio to a floor that is measured in the same run, in turn: decoding every pixel once
by rasterio for indexing and staging, reading every byte of the packs once for loading. Medians of
several runs; the machine is named.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.scene import make_scene
from chipmill.formats import layout
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.stage import register, stage_megabatch
from chipmill.train import Batch, ChipDataset

RUNS = 5


def main() -> None:
    """Run all benchmarks and print a table."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        scene = make_scene(root / "source", archive)
        files = sorted((root / "archive" / "assets").rglob("*.tif"))
        compare(
            "index one scene",
            lambda: index(scene, archive),
            "decode its files",
            lambda: decode(files),
        )
        compare(
            "stage one scene",
            lambda: stage(root, archive),
            "decode its files",
            lambda: decode(files),
        )
        packs = sorted((root / "fast").rglob("*.arrow"))
        compare("load an epoch", lambda: load(root, archive), "read its packs", lambda: read(packs))


def compare(
    what: str, ours: Callable[[], object], floor_of: str, floor: Callable[[], object]
) -> None:
    """Time two things in turn and print the median of their ratios."""
    pairs = [(seconds(ours), seconds(floor)) for _ in range(RUNS + 1)][1:]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{what:<18} {a:6.2f} s   {floor_of:<18} {b:6.2f} s   ratio {ratio:5.2f}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def index(scene: SceneRef, archive: Store) -> None:
    """Count cloud and nodata of all chips, as if for the first time."""
    archive.delete(layout.part_key(256, scene.collection, scene.item))
    index_chips(scene, archive)


def stage(root: Path, archive: Store) -> None:
    """Cut all usable chips of the scene onto fast storage, into an empty ledger."""
    merge_index(archive)
    plan = make_plan(PlanRequest(minibatch=1, few_scenes=True, megabatch=1), archive)
    (root / "ledger.db").unlink(missing_ok=True)
    for pack in (root / "fast").rglob("*.arrow"):
        pack.unlink()
    with Ledger.open(f"sqlite:///{root / 'ledger.db'}") as ledger:
        register(plan, ledger, budget=10**12)
        stage_megabatch(
            plan,
            0,
            archive=archive,
            fast=root / "fast",
            ledger=ledger,
            budget=10**12,
            worker="bench",
        )


def load(root: Path, archive: Store) -> int:
    """Read every batch of the plan."""
    plan = make_plan(PlanRequest(minibatch=1, few_scenes=True, megabatch=1), archive)
    dataset = ChipDataset(archive.url, plan=plan.plan, fast=root / "fast", as_torch=False)
    return sum(batch.pixels.nbytes for batch in dataset if isinstance(batch, Batch))


def decode(files: list[Path]) -> None:
    """Decode every pixel of some files once."""
    for file in files:
        with rasterio.open(file) as opened:
            np.asarray(opened.read())


def read(packs: list[Path]) -> int:
    """Read every byte of some files once."""
    return sum(len(pack.read_bytes()) for pack in packs)


if __name__ == "__main__":
    main()
