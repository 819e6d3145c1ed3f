"""One rank of a training run, as a process: it notes the chips of every minibatch that it reads.

It knows what a trainer knows: the archive, fast storage, the receiver and its own run key. It saves
a checkpoint after each megabatch, and waits at minibatches where the test has put a gate.
"""

import json
import sys
import time
from pathlib import Path

from chipmill.formats.webhook import decode_key
from chipmill.settings import Settings
from chipmill.train import Batch, ChipDataset, Notifier


def main() -> None:
    """Train one epoch of a plan: `trainer.py PLAN RUN ATTEMPT RANK WORLD FOLDER`."""
    plan, run, attempt, rank, world, folder = sys.argv[1:]
    settings, place = Settings.load(), Path(folder)
    assert settings.webhook_key is not None
    with Notifier(
        settings.receiver,
        run=run,
        attempt=int(attempt),
        key=decode_key(settings.webhook_key.get_secret_value()),
        rank=int(rank),
        world_size=int(world),
        spool=place / "spool",
    ) as notify:
        notify.begin(plan, patience=300)
        begun = place / f"begun-{attempt}"
        if rank == "0":
            begun.touch()
        _wait(begun.exists)
        dataset = ChipDataset(
            settings.archive,
            plan=plan,
            fast=settings.fast,
            rank=int(rank),
            world_size=int(world),
            notify=notify,
            as_torch=False,
        )
        _train(dataset, place, name=f"rank-{rank}")


def _train(dataset: ChipDataset, place: Path, *, name: str) -> None:
    checkpoint, part = place / f"{name}.checkpoint", place / f"{name}.part"
    if checkpoint.exists():
        dataset.load_state_dict(json.loads(checkpoint.read_text()))
    with (place / f"{name}.seen").open("a") as seen:
        for batch in dataset:
            assert isinstance(batch, Batch)
            where = (batch.position.megabatch, batch.position.minibatch)
            gate = place / f"gate-{where[0]}-{where[1]}"
            _wait(lambda gate=gate: not gate.exists())
            seen.write(json.dumps([*where, list(batch.chip_ids)]) + "\n")
            seen.flush()
            dataset.done(batch)
            if where[1] + 1 == dataset.minibatches_of(where[0]):
                state = dataset.state_dict()
                part.write_text(json.dumps(state))
                part.replace(checkpoint)
                dataset.checkpoint_saved(state, name=checkpoint.name)


def _wait(ready: object) -> None:
    assert callable(ready)
    while not ready():
        time.sleep(0.05)


if __name__ == "__main__":
    main()
