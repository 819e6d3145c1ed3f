"""A stand-in training loop: reads every minibatch, and reports each megabatch by webhook.

It knows what a trainer knows: the archive, fast storage, the receiver and its own run key; no
Prefect, no ledger. A real one does its optimiser step where this one adds up means.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np

from chipmill.formats.webhook import decode_key
from chipmill.settings import Settings
from chipmill.train import Batch, ChipDataset, Notifier


def main() -> None:
    """Train one epoch of a plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("plan", "run", "attempt", "folder"):
        parser.add_argument(f"--{name}", required=True)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="    %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings, folder = Settings.load(), Path(asked.folder)
    assert settings.webhook_key is not None, "the demo sets CHIPMILL_WEBHOOK_KEY"  # noqa: S101
    with Notifier(
        settings.receiver,
        run=asked.run,
        attempt=int(asked.attempt),
        key=decode_key(settings.webhook_key.get_secret_value()),
        rank=0,
        world_size=1,
        spool=folder / "spool",
        wait_for_checkpoint=True,
    ) as notify:
        notify.begin(asked.plan)
        dataset = ChipDataset(
            settings.archive, plan=asked.plan, fast=settings.fast, notify=notify, as_torch=False
        )
        _train(dataset, folder / f"{asked.run}.checkpoint.json")


def _train(dataset: ChipDataset, checkpoint: Path) -> None:
    """Read all minibatches, and save a checkpoint at the end of each megabatch."""
    if checkpoint.exists():
        dataset.load_state_dict(json.loads(checkpoint.read_text()))
    chips, minibatches, means = 0, 0, list[float]()
    for batch in dataset:
        if not isinstance(batch, Batch):
            raise TypeError("the demo reads arrays")
        mean, std = (values[..., None, None] for values in (batch.mean, batch.std))
        means.append(float(np.mean((batch.pixels.astype(np.float32) - mean) / std)))
        chips, minibatches = chips + len(batch.chip_ids), minibatches + 1
        if batch.position.minibatch + 1 == dataset.minibatches_of(batch.position.megabatch):
            print(
                f"    megabatch {batch.position.megabatch}: {minibatches} minibatches, {chips} "
                f"chips read, mean of the normalised pixels {np.mean(means):+.3f}",
                flush=True,
            )
            state = dataset.state_after(batch)
            checkpoint.write_text(json.dumps(state))
            dataset.checkpoint_saved(state, name=checkpoint.name)
            chips, minibatches, means = 0, 0, []


if __name__ == "__main__":
    main()
