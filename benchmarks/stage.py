"""Staging a Sentinel-2 scene of ten bands against decoding its blocks once.

python -m benchmarks.stage          # a whole scene, 10,980 x 10,980 px
python -m benchmarks.stage 5490     # a quarter of one
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import get_args

from benchmarks.measure import compare, cpu_seconds, say_machine
from benchmarks.scene import EDGE, decode, make_scene
from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.manner import Codec, Manner
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.cut import Workbench, workbench
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import load_plan, load_scenes, make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.stage import Staged, stage_megabatch
from chipmill.train import Batch, ChipDataset

RUNS = 3
BUDGET = 10**12
_MB = 1e6


def main(edge: int = EDGE) -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        index_chips(make_scene(root / "source", archive, edge=edge), archive)
        merge_index(archive)
        asked = PlanRequest(minibatch=1, few_scenes=True, megabatch=1)
        plan = make_plan(asked, archive).plan
        files = sorted(set((root / "archive" / "assets").rglob("*.tif")))
        files = [file for file in files if file.stem != "scl"]
        for codec in get_args(Codec):
            cost(root, archive, plan, files, codec)
        scaling(root, archive, plan)
        stage(root / "load", archive, plan)
        packs = sorted((root / "load").rglob("*.arrow"))
        compare(
            "load an epoch",
            lambda: load(root / "load", archive, plan),
            "read its packs",
            lambda: read(packs),
            cpu_seconds,
        )


def cost(root: Path, archive: Store, name: str, files: list[Path], codec: Codec) -> None:
    """Print what a megabatch of one scene costs and weighs, in memory that others have used.

    All is counted that staging does: the leases and states of the ledger, the proof of the files,
    cutting, hashing, writing and syncing of pack and manifest.
    """
    plan = load_plan(archive, name)
    (scene,) = load_scenes(archive, name, 0)
    sizes = list[int]()
    pairs = list[tuple[float, float]]()
    with workbench() as bench:
        for number in range(RUNS + 1):
            place = root / f"{codec}-{number}"
            with opened(place, plan) as ledger:
                work = partial(stage_once, place, archive, plan, ledger, codec=codec, bench=bench)
                staging = cpu_seconds(lambda work=work: sizes.append(work().size))
            shutil.rmtree(place)
            pairs.append((staging, cpu_seconds(lambda: decode(files))))
    first, *pairs = pairs
    ours, floor = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    source = sum(file.stat().st_size for file in files)
    pixels = scene.chip_bytes * len(scene.row)
    print(
        f"stage {codec:<5} {ours:6.2f} s of CPU   decode its blocks {floor:6.2f} s   "
        f"ratio {ratio:4.2f} (first {first[0] / first[1]:4.2f})   {pixels / _MB / ours:5.0f} MB/s, "
        f"{len(scene.row) / ours:5.0f} chips/s a core   {sizes[-1] / source:4.2f} of the source, "
        f"{sizes[-1] / pixels:4.2f} of the pixels",
        flush=True,
    )


def scaling(root: Path, archive: Store, name: str) -> None:
    """Print how much more two processes stage in a second than one, each on a core of its own."""
    words = [sys.executable, "-m", "benchmarks.stage", "once", archive.url, name]
    rates = list[float]()
    for processes in (1, 2):
        places = [root / f"{processes}-{number}" for number in range(processes)]
        began = time.perf_counter()
        running = [
            subprocess.Popen([*words, str(place), str(core)]) for core, place in enumerate(places)
        ]
        ended = [process.wait() for process in running]
        rates.append(processes / (time.perf_counter() - began))
        if any(ended):
            raise SystemExit(f"a process that stages failed: {ended}")
        for place in places:
            shutil.rmtree(place)
    print(
        f"two processes, a core each, stage {rates[1] / rates[0]:.2f} times as much as one",
        flush=True,
    )


@contextmanager
def opened(place: Path, plan: Plan) -> Generator[Ledger]:
    """Open a ledger of a place's own, in which the plan is registered."""
    place.mkdir()
    with Ledger.open(f"sqlite:///{place / 'ledger.db'}") as ledger:
        register(plan, ledger, budget=BUDGET)
        yield ledger


def stage_once(
    place: Path,
    archive: Store,
    plan: Plan,
    ledger: Ledger,
    *,
    codec: Codec = "none",
    bench: Workbench | None = None,
) -> Staged:
    """Stage the one megabatch of a plan."""
    return stage_megabatch(
        plan,
        0,
        archive=archive,
        fast=place / "fast",
        ledger=ledger,
        budget=BUDGET,
        worker="bench",
        manner=Manner(codec=codec),
        bench=bench,
    )


def stage(place: Path, archive: Store, name: str) -> None:
    """Stage the one megabatch of a plan, into an empty ledger."""
    plan = load_plan(archive, name)
    with opened(place, plan) as ledger:
        stage_once(place, archive, plan, ledger)


def load(root: Path, archive: Store, plan: str) -> int:
    """Read every batch of the plan."""
    dataset = ChipDataset(archive.url, plan=plan, fast=root / "fast", as_torch=False)
    return sum(batch.pixels.nbytes for batch in dataset if isinstance(batch, Batch))


def read(packs: list[Path]) -> int:
    """Read every byte of some files once."""
    return sum(len(pack.read_bytes()) for pack in packs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["once"]:  # the form in which `scaling` starts it
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(sys.argv[5])]})
        stage(Path(sys.argv[4]), Store.open(sys.argv[2]), sys.argv[3])
    else:
        say_machine()
        main(*map(int, sys.argv[1:]))
