"""Bring the demo's NAIP scenes onto fast storage without a server, and print the plan's name.

    python examples/stage_demo_scenes.py .demo-examples

The steps are those of the flows `ingest`, `plan` and `stage`; the examples train on what they make.
"""

import argparse
from pathlib import Path

from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes
from chipmill.steps.stage import stage_megabatch

SCENES = Path(__file__).resolve().parents[1] / "demo" / "scenes" / "naip"
CHIP_SIZE = 32
BUDGET = 10**9


def main() -> None:
    """Stage every megabatch of one epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where archive, ledger and fast storage go")
    folder = parser.parse_args().folder.resolve()
    archive = Store.open((folder / "archive").as_uri())
    for item in sorted(SCENES.glob("*.json")):
        request = IngestRequest(sensor="naip", catalog=str(item), chip_size=CHIP_SIZE)
        for scene in search_scenes(request, archive):
            copy_assets(scene, archive)
            rewrite_item(scene, archive)
            index_chips(scene, archive, chip_size=CHIP_SIZE)
    merge_index(archive, chip_size=CHIP_SIZE)
    asked = PlanRequest(minibatch=4, chip_size=CHIP_SIZE, few_scenes=True, leftover="drop")
    plan = make_plan(asked, archive)
    with Ledger.open(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        register(plan, ledger, budget=BUDGET)
        for number in range(len(plan.megabatches)):
            stage_megabatch(
                plan,
                number,
                archive=archive,
                fast=folder / "fast",
                ledger=ledger,
                budget=BUDGET,
                worker="example",
            )
    print(plan.plan)


if __name__ == "__main__":
    main()
