"""Staging a Sentinel-2 scene of ten bands against decoding its blocks once.

python -m benchmarks.stage          # a whole scene, 10,980 x 10,980 px
python -m benchmarks.stage 5490     # a quarter of one
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import get_args

from benchmarks.measure import compare, cpu_seconds, say_machine
from benchmarks.scene import EDGE, decode, make_scene
from chipmill.io.fast import Folder
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.manner import Codec, Manner
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.pack import write_pack
from chipmill.steps.plan import load_plan, load_scenes, make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.stage import stage_megabatch
from chipmill.train import Batch, ChipDataset

RUNS = 3
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
        stage(root, archive, plan)
        packs = sorted((root / "fast").rglob("*.arrow"))
        compare(
            "load an epoch",
            lambda: load(root, archive, plan),
            "read its packs",
            lambda: read(packs),
            cpu_seconds,
        )


def cost(root: Path, archive: Store, plan: str, files: list[Path], codec: Codec) -> None:
    """Print what a pack costs and weighs."""
    (scene,) = load_scenes(archive, plan, 0)
    folder = Folder(root / codec)
    sizes = list[int]()

    def cut() -> None:
        folder.prepare(1)
        for pack in folder.path.glob("*.arrow"):
            pack.unlink()
        pack, _ = write_pack(
            scene,
            chip_size=256,
            archive=archive,
            folder=folder,
            fence=1,
            manner=Manner(codec=codec),
        )
        sizes.append(pack.size)

    pairs = [(cpu_seconds(cut), cpu_seconds(lambda: decode(files))) for _ in range(RUNS)]
    ours, floor = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    source = sum(file.stat().st_size for file in files)
    pixels = scene.chip_bytes * len(scene.row)
    print(
        f"stage {codec:<5} {ours:6.2f} s of CPU   decode its blocks {floor:6.2f} s   "
        f"ratio {ratio:4.2f}   {pixels / _MB / ours:5.0f} MB/s, {len(scene.row) / ours:5.0f} "
        f"chips/s a core   {sizes[-1] / source:4.2f} of the source, "
        f"{sizes[-1] / pixels:4.2f} of the pixels",
        flush=True,
    )


def scaling(root: Path, archive: Store, plan: str) -> None:
    """Print how much more two processes stage in a second than one."""
    rates = list[float]()
    for processes in (1, 2):
        began = time.perf_counter()
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.stage", archive.url, plan, str(root / f"p{n}")]
            )
            for n in range(processes)
        ]
        if any(process.wait() for process in running):
            raise SystemExit("a process that stages failed")
        rates.append(processes / (time.perf_counter() - began))
    print(f"two processes stage {rates[1] / rates[0]:.2f} times as much as one", flush=True)


def stage_once(archive: str, plan: str, root: Path) -> None:
    """Stage the plan in this process."""
    stage(root, Store.open(archive), plan)


def stage(root: Path, archive: Store, name: str) -> None:
    """Stage the one megabatch of a plan, into an empty ledger."""
    root.mkdir(exist_ok=True)
    plan = load_plan(archive, name)
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


def load(root: Path, archive: Store, plan: str) -> int:
    """Read every batch of the plan."""
    dataset = ChipDataset(archive.url, plan=plan, fast=root / "fast", as_torch=False)
    return sum(batch.pixels.nbytes for batch in dataset if isinstance(batch, Batch))


def read(packs: list[Path]) -> int:
    """Read every byte of some files once."""
    return sum(len(pack.read_bytes()) for pack in packs)


if __name__ == "__main__":
    if len(sys.argv) > 2:  # noqa: PLR2004  # the form in which `scaling` starts it
        stage_once(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        say_machine()
        main(*map(int, sys.argv[1:]))
