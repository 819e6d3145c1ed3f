"""The stream of a rank's batches: the plan's order, read ahead, shared among loader workers."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from chipmill.errors import PackError
from chipmill.formats.plan import Plan
from chipmill.train.agree import Agreement, alone
from chipmill.train.batch import Batch, Position
from chipmill.train.folder import MegabatchFolder
from chipmill.train.gather import Gatherer, Job
from chipmill.train.memory import Memory
from chipmill.train.mixed import MixedBatch
from chipmill.train.ready import Patience, wait_for_megabatch
from chipmill.train.source import Source
from chipmill.train.view import View

AHEAD = 2
"""Minibatches that are gathered while one is consumed; each costs its size in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads which plan from where."""

    source: Source
    rank: int
    world_size: int
    patience: Patience
    view: View
    memory: Memory

    @property
    def plan(self) -> Plan:
        """The plan's summary."""
        return self.source.plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What one megabatch has for this reader."""

    batches: Iterator[Batch | MixedBatch]
    after: Position
    """Where the rank stands once all of them are consumed, be they none."""


def stretches(
    reader: Reader,
    first: Position,
    *,
    manifest: str | None,
    worker: tuple[int, int] | None,
    agree: Agreement = alone,
) -> Iterator[Stretch]:
    """Open one megabatch after the other, each when the one before is consumed.

    Worker w of n gets batches w, w + n, … of the rank, counted on over all megabatches: a loader
    that asks its workers in turn gets the rank's order. Minibatches without a chip for the rank do
    not count.

    Args:
        reader: Whose batches.
        first: Where to begin.
        manifest: Digest that the manifest at `first` must have; None where any will do.
        worker: This process among the loader's workers; None outside of them.
        agree: Asks the other ranks before each megabatch.

    Raises:
        PackError: A megabatch is damaged, or `first` counts in another manifest.
        TransientError: A megabatch was not ready in time.
    """
    number, workers = worker or (0, 1)
    turn = 0
    patience = replace(reader.patience, quiet=reader.patience.quiet or number > 0)
    for megabatch in range(first.megabatch, len(reader.plan.megabatches)):
        folder, stalled = wait_for_megabatch(
            reader.source, megabatch, patience=patience, rank=reader.rank, agree=agree
        )
        start = first.minibatch if megabatch == first.megabatch else 0
        if start and manifest not in (None, folder.digest):
            raise PackError(
                f"{folder.path} was staged with other content since minibatch {start} of it was "
                "consumed, so its order is another; load a state from before this megabatch"
            )
        after = Position(reader.plan.epoch, megabatch + 1, 0)
        jobs = _jobs(reader, folder, start=start, after=after)
        mine = jobs[(number - turn) % workers :: workers]
        turn += len(jobs)
        if mine:
            mine[0] = replace(mine[0], stalled=stalled)
        # Workers are ahead of the training step by themselves.
        ahead = 0 if worker else AHEAD
        yield Stretch(batches=_gathered(folder, mine, reader, ahead=ahead), after=after)


def has_share(reader: Reader, folder: MegabatchFolder, *, start: int) -> bool:
    """Say whether any minibatch of a megabatch, from `start` on, has a chip for the rank."""
    after = Position(reader.plan.epoch, folder.manifest.megabatch + 1, 0)
    return bool(_jobs(reader, folder, start=start, after=after))


def _jobs(reader: Reader, folder: MegabatchFolder, *, start: int, after: Position) -> list[Job]:
    """Cut the rank's shares out of the order, without those that are empty."""
    order = folder.order()
    jobs: list[Job] = []
    for minibatch in range(start, len(order)):
        scene, chip = order.share(minibatch, rank=reader.rank, world=reader.world_size)
        if not len(scene):
            continue
        here = Position(after.epoch, after.megabatch - 1, minibatch)
        behind = here._replace(minibatch=minibatch + 1)
        jobs.append(Job(scene=scene, chip=chip, position=here, after=behind, stalled=0.0))
    if jobs:
        jobs[-1] = replace(jobs[-1], after=after)
    return jobs


def _gathered(
    folder: MegabatchFolder, jobs: list[Job], reader: Reader, *, ahead: int
) -> Iterator[Batch | MixedBatch]:
    """Gather one job after the other, `ahead` of them while the one before is consumed."""
    gatherer = Gatherer(reader.view, reader.memory)
    pool = ThreadPoolExecutor(max(ahead, 1), thread_name_prefix="chipmill-gather")
    try:
        if not ahead:
            yield from (gatherer.gather(folder, job) for job in jobs)
            return
        pending = deque(pool.submit(gatherer.gather, folder, job) for job in jobs[:ahead])
        left = iter(jobs[ahead:])
        while pending:
            batch = pending.popleft().result()
            pending.extend(pool.submit(gatherer.gather, folder, job) for job in islice(left, 1))
            yield batch
            del batch  # its memory is for the next
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        gatherer.close()
        folder.close()
