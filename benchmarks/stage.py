"""Staging one scene against decoding its files once, and reading its pack against its bytes.

python -m benchmarks.stage
"""

import tempfile
from pathlib import Path

from benchmarks.measure import compare, say_machine
from benchmarks.scene import decode, make_scene
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.stage import stage_megabatch
from chipmill.train import Batch, ChipDataset


def main() -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        scene = make_scene(root / "source", archive)
        index_chips(scene, archive)
        files = sorted((root / "archive" / "assets").rglob("*.tif"))
        compare(
            "stage one scene",
            lambda: stage(root, archive),
            "decode its files",
            lambda: decode(files),
        )
        packs = sorted((root / "fast").rglob("*.arrow"))
        compare("load an epoch", lambda: load(root, archive), "read its packs", lambda: read(packs))


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


def read(packs: list[Path]) -> int:
    """Read every byte of some files once."""
    return sum(len(pack.read_bytes()) for pack in packs)


if __name__ == "__main__":
    say_machine()
    main()
