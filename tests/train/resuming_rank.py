"""One rank of a toy training that dies at a place, which `toy_training.py` starts.

python resuming_rank.py ROOT ARCHIVE FAST PLAN RANK WORLD PLACE TURN

Below ROOT it writes down each batch that it trained on, then a checkpoint every second batch. At
PLACE of batch TURN it kills itself; the names of the places are those of `toy_training.py`.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from chipmill.train import Batch, ChipDataset


def main() -> None:
    """Train from the last checkpoint on."""
    root, archive, fast, plan, rank, world, place, turn = sys.argv[1:]
    here = Path(root)
    dataset = ChipDataset(
        archive,
        plan=plan,
        fast=fast,
        rank=int(rank),
        world_size=int(world),
        wait_seconds=120,
        as_torch=False,
    )

    def at(name: str, number: int) -> None:
        if (name, str(number)) == (place, turn):
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint = here / "checkpoint.json"
    if checkpoint.exists():
        dataset.load_state_dict(json.loads(checkpoint.read_text()))
    with (here / f"rank-{rank}.jsonl").open("a") as log:
        for number, batch in enumerate(dataset):
            assert isinstance(batch, Batch)
            at("before a step", number)
            pixels = hashlib.sha256(np.ascontiguousarray(batch.pixels).tobytes()).hexdigest()
            line = json.dumps([list(batch.position), list(batch.chip_ids), pixels])
            log.write(line + "\n")
            log.flush()
            at("after a step", number)
            _meet(here, batch.position, rank=rank, world=int(world))
            if number % 2 and rank == "0":
                state = dataset.state_after(batch)
                draft = here / "checkpoint.tmp"
                draft.write_text(json.dumps(state))
                at("before a checkpoint", number)
                draft.replace(checkpoint)
                at("after a checkpoint", number)
                dataset.checkpoint_saved(state)


def _meet(here: Path, position: tuple[int, ...], *, rank: str, world: int) -> None:
    """Wait until all ranks have done the step, as the exchange of gradients makes them."""
    step = here / ("step-" + "-".join(map(str, position)))
    step.mkdir(exist_ok=True)
    (step / rank).touch()
    while len(list(step.iterdir())) < world:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
