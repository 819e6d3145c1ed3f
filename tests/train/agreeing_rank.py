"""One rank of two that train together, which `test_ranks.py` starts; prints what happened.

python agreeing_rank.py ROOT PLAN RANK PORT FAST WORKERS SECONDS
"""

import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from chipmill.errors import ChipmillError
from chipmill.train import ChipDataset

torch: Any = import_module("torch")
dist: Any = import_module("torch.distributed")


def main() -> None:
    """Iterate in step with the other rank: after each batch both reduce a number."""
    root, plan, rank, port, fast, workers, seconds = sys.argv[1:]
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=int(rank),
        world_size=2,
        timeout=timedelta(seconds=300),
    )
    dataset = ChipDataset(
        Path(root) / "archive",
        plan=plan,
        fast=fast,
        rank=int(rank),
        world_size=2,
        wait_seconds=float(seconds),
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=int(workers))
    try:
        for batch in dataset.steps(loader) if int(workers) else dataset:
            seen = torch.tensor(len(batch))
            dist.all_reduce(seen)
            sys.stdout.write(f"step {tuple(batch.position)} {int(seen)}\n")
            sys.stdout.flush()
    except ChipmillError as err:
        sys.stdout.write(f"{type(err).__name__} {err}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
