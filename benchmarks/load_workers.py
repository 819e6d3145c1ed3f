"""Two processes, and a DataLoader with two workers, against one process.

Every process reads once before the clock starts; in each round all begin at the same time. The
loader's workers live for one epoch, so its clock starts and stops in the middle of it: with the
first batch behind those that are fetched ahead, and before the last that are.
"""

import multiprocessing
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.load_plan import PLAN
from benchmarks.load_speed import ROUNDS, Speed, on_cores, quickest, say
from chipmill.train import ChipDataset

EDGE = 8
"""Batches at either end of a loader's epoch that are not timed: two workers fetch four ahead."""


def measure_workers(root: Path) -> None:
    """Print the speeds and what two are to one."""
    alone, pair = (_together(root, count) for count in (1, 2))
    threads = quickest([_middle(_plain(root)) for _ in range(ROUNDS)])
    say("1 process, 1 core", alone)
    say("2 processes, 2 cores", pair, of=("1 process", alone))
    say("1 process, 2 cores", threads, of=("1 process, 1 core", alone))
    if find_spec("torch") is None:
        print("DataLoader: torch is not installed")
        return
    loaded = quickest([_middle(_loader(root, 2)) for _ in range(ROUNDS)])
    say("DataLoader, 2 workers", loaded, of=("2 processes", pair))
    say("DataLoader, 2 workers", loaded, of=("1 process, 2 cores", threads))


def _open(root: Path, **more: Any) -> ChipDataset:  # noqa: ANN401 - keywords of ChipDataset
    folder = root / "none"
    return ChipDataset(folder / "archive", plan=PLAN, fast=folder / "fast", **more)


def _together(root: Path, count: int) -> Speed:
    """Read the plan as so many ranks, each in a process and on a core of its own."""
    # Not by fork: each begins with nothing, as the processes of a training run do.
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    ends: list[Connection] = []
    ranks: list[Any] = []
    for rank in range(count):
        here, there = context.Pipe(duplex=False)
        ranks.append(context.Process(target=_rank, args=(root, rank, count, barrier, there)))
        ends.append(here)
        ranks[-1].start()
    rounds = [[end.recv() for end in ends] for _ in range(ROUNDS)]
    for rank in ranks:
        rank.join()
    return quickest(
        [
            Speed(
                sum(chips for chips, *_ in said),
                max(ended for *_, ended, _ in said) - min(began for _, began, *_ in said),
                sum(cpu for *_, cpu in said),
            )
            for said in rounds
        ]
    )


def _rank(root: Path, rank: int, count: int, barrier: Barrier, end: Connection) -> None:
    """Read the last megabatches of the plan again and again, each time with all ranks."""
    on_cores({rank})
    dataset = _open(root, rank=rank, world_size=count, as_torch=False)
    start = {**dataset.state_dict(), "megabatch": len(dataset.plan.megabatches) - 2}
    for number in range(ROUNDS + 1):
        dataset.load_state_dict(start)
        barrier.wait()
        began, cpu = time.perf_counter(), time.process_time()
        chips = sum(len(batch) for batch in dataset)
        if number:
            end.send((chips, began, time.perf_counter(), time.process_time() - cpu))


def _plain(root: Path) -> Callable[[], Any]:
    """Iterate in this process, on all cores."""
    return lambda: iter(_open(root, as_torch=False))


def _loader(root: Path, workers: int) -> Callable[[], Any]:
    """Iterate through torch's loader, into tensors of this process."""

    def start() -> Any:  # noqa: ANN401 - torch has no types here
        dataset = _open(root, as_torch=True)
        loader = import_module("torch.utils.data").DataLoader(
            dataset, batch_size=None, num_workers=workers
        )
        return dataset.steps(loader)

    return start


def _middle(start: Callable[[], Any]) -> Speed:
    """Time an epoch but for its ends."""
    moments: list[float] = []
    chips = 0
    for batch in start():
        chips = len(batch)
        moments.append(time.perf_counter())
        del batch
    some = moments[EDGE:-EDGE]
    return Speed(chips * (len(some) - 1), some[-1] - some[0], 0.0)
