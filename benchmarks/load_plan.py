"""A plan of megabatches that all have the same packs, each in an order of its own."""

from pathlib import Path

import numpy as np

from chipmill.formats import layout
from chipmill.formats.manifest import Manifest, ManifestGroup, ManifestPack
from chipmill.formats.pack import PackHeader
from chipmill.formats.plan import Plan, PlannedMegabatch
from chipmill.model.order import ORDER_VERSION, minibatch_order

PLAN = "b" * 16


def write_plan(
    root: Path, header: PackHeader, entries: list[ManifestPack], *, minibatch: int, megabatches: int
) -> None:
    """Write the manifests below `root/fast`, and the summary of the plan into `root/archive`."""
    shared: dict[str, object] = {
        "plan": PLAN,
        "snapshot": "generated",
        "seed": 0,
        "epoch": 0,
        "minibatch": minibatch,
        "leftover": "drop",
        "order_version": ORDER_VERSION,
        "chip_size": header.chip_size,
    }
    group = ManifestGroup(collection=header.collection, bands=header.bands)
    counts = np.array([entry.chips for entry in entries])
    planned: list[PlannedMegabatch] = []
    for number in range(megabatches):
        folder = root / "fast" / layout.megabatch_folder(PLAN, number)
        manifest = Manifest.model_validate(
            {**shared, "megabatch": number, "groups": (group,), "packs": tuple(entries)}
        )
        (folder / layout.MANIFEST).write_bytes(manifest.encode())
        order = minibatch_order(
            counts, np.zeros_like(counts), size=minibatch, seed=0, epoch=0, megabatch=number
        )
        planned.append(
            PlannedMegabatch(
                scenes=len(entries),
                chips=int(counts.sum()),
                minibatches=len(order),
                left_over=int(order.left_over.sum()),
                size=sum(entry.size for entry in entries),
            )
        )
    plan = Plan.model_validate(
        {
            **shared,
            "megabatch_scenes": len(entries),
            "usable": sum(one.minibatches for one in planned) * minibatch,
            "left_out": {},
            "megabatches": tuple(planned),
        }
    )
    path = root / "archive" / layout.plan_key(PLAN)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plan.encode())
