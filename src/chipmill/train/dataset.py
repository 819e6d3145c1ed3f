"""The dataset that a training loop iterates over: a rank's batches of a plan, in its order."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from chipmill.errors import RequestError
from chipmill.formats.manifest import Manifest
from chipmill.formats.plan import Plan
from chipmill.train.agree import Agreement, alone, check_world, default_agreement, torch_world
from chipmill.train.batch import Batch, BatchFacts, Position, TorchBatch
from chipmill.train.folder import MegabatchFolder
from chipmill.train.iteration import Behind, Iteration
from chipmill.train.memory import PinnedMemory, ReusedMemory
from chipmill.train.mixed import MixedBatch
from chipmill.train.notify import Notifier
from chipmill.train.opening import open_source
from chipmill.train.progress import Progress
from chipmill.train.ready import Patience, check_share, wait_for_megabatch
from chipmill.train.shared import SharedMemory, can_share
from chipmill.train.state import WorkerPlace, furthest, read_state, state_at
from chipmill.train.stream import Reader, has_share, stretches
from chipmill.train.tensors import register_dataset, require_torch, torch_is_here, worker
from chipmill.train.view import Resize, Transform, View


class ChipDataset:
    """One rank's batches of a plan, in an order that no restart or world size changes.

    Iterate over it directly, or by `DataLoader(dataset, batch_size=None, num_workers=n)`: with
    torch installed it is an `IterableDataset`. Iterating begins at the current position; after the
    last minibatch of the plan it gives nothing more.

    A batch is consumed when the next one is asked for. Iterating without worker processes sees that
    by itself, and so does `steps(loader)` with them; another loop over a loader with workers must
    say it by `done(batch)`. Workers copy the
    position when they start, so leave `persistent_workers` off. The dataset's own state fits any
    world size and any number of workers; that of torchdata's `StatefulDataLoader` works too, for
    the same number of workers.

        for batch in dataset.steps(loader):
            step(batch)
            if time_to_save:
                save(model, state := dataset.state_after(batch))
                dataset.checkpoint_saved(state)

    Ranks have equal numbers of batches where the plan drops left-over chips. Where it spreads them,
    a short minibatch has no chip for some ranks, and these get no batch of it.
    """

    def __init__(  # noqa: PLR0913 - a keyword for each thing that a loop may ask for
        self,
        archive: str | Path,
        *,
        plan: str | None = None,
        fast: str | Path | None = None,
        epoch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        notify: Notifier | None = None,
        wait_seconds: float = 3600.0,
        as_torch: bool | None = None,
        bands: Sequence[str] = (),
        resize: Resize = "nearest",
        float32: bool = False,
        normalize: bool = False,
        transform: Transform | None = None,
        pin_memory: bool = False,
        agree: Agreement | None = None,
        consumed: Literal["next", "done"] = "next",
    ) -> None:
        """Open a plan.

        Args:
            archive: URL or path of the archive, where the plan is; or of a static export.
            plan: Plan id; not needed with the URL of an export.
            fast: Root of fast storage on this host; None: read a static export.
            epoch: Of an export, another epoch than its plan's: the same chips in another order.
            rank: This rank, from 0; goes with `world_size`. None: it is the only one, and among
                several of `torch.distributed` it is refused when it is iterated over.
            world_size: How many ranks share each minibatch.
            notify: Reports consumed megabatches; None reports to nobody.
            wait_seconds: How long to wait for a megabatch that is not staged yet.
            as_torch: Give tensors; None means where torch is installed.
            bands: Names of the bands that are given, in this order; empty: all of a pack.
            resize: How coarser bands come onto the finest grid: `nearest` or `bilinear`.
            float32: Give pixels as 32-bit floats, not in the data type of the files.
            normalize: Bring pixels to mean 0 and deviation 1, as 32-bit floats. With a GPU, rather
                send digital numbers there and call `normalized(batch)`: half the bytes.
            transform: Changes each batch where it is read, as arrays, in a thread or a worker
                process of the loader; it must give the same chips.
            pin_memory: Read pixels into pinned memory, from which a GPU copies while the processor
                goes on. With loader workers leave it off and give it to the `DataLoader`.
            agree: Asks the other ranks whether the next megabatch is ready for all, so that none
                goes on alone; None asks by `torch.distributed` where it is up with these ranks.
            consumed: What says in this process that a batch is consumed: that the `next` is asked
                for, or only `done(batch)`, for loops that ask ahead, as Lightning's does.

        Raises:
            MissingError: The archive has no such plan, or no whole export of it.
            RequestError: Rank, world size and plan do not fit together, or tensors are asked for
                and torch is not installed.
            StoreError: The archive cannot be read.
        """
        if (rank is None) != (world_size is None):
            raise RequestError(
                f"rank is {rank} and world_size is {world_size}; give the dataset both or neither"
            )
        self._is_told = rank is not None
        self._world: int | None = None
        rank, world_size = rank or 0, 1 if world_size is None else world_size
        source = open_source(archive, plan, fast, epoch=epoch)
        summary = source.plan
        check_share(summary, rank=rank, world_size=world_size)
        if notify is not None and fast is None:
            raise RequestError("an export is never removed, so nobody waits for reports; no notify")
        if notify is not None and (notify.rank, notify.world_size) != (rank, world_size):
            raise RequestError(
                f"the notifier is of rank {notify.rank} of {notify.world_size} and the dataset of "
                f"rank {rank} of {world_size}; give both the same"
            )
        if as_torch:
            require_torch()
        here = torch_is_here()
        if here:
            register_dataset(ChipDataset)
        self._as_torch = here if as_torch is None else as_torch
        self._progress = Progress(plan=summary, notify=notify)
        self._worker: WorkerPlace | None = None
        self._agree = agree or alone
        self._together = False
        self._by_next = consumed == "next"
        self._reader = Reader(
            source=source,
            rank=rank,
            world_size=world_size,
            patience=Patience(seconds=wait_seconds),
            view=View(
                bands=tuple(bands),
                resize=resize,
                float32=float32,
                normalize=normalize,
                transform=transform,
            ),
            memory=PinnedMemory() if pin_memory else ReusedMemory(),
        )

    @property
    def plan(self) -> Plan:
        """The plan's summary."""
        return self._reader.plan

    def __iter__(self) -> Iterator[Batch | TorchBatch | MixedBatch]:
        """Give the batches from the current position on.

        What comes back is also asked by torchdata's `StatefulDataLoader` where it stands.

        Raises:
            PackError: A manifest or pack is damaged, or of another plan.
            TransientError: A megabatch was not ready within `wait_seconds`.
            RequestError: A scene has not the bands that are asked for; or there are other ranks,
                and nobody said which this is.
        """
        return Iteration(
            batches=self._batches(), state=self._state_behind, load=self.load_state_dict
        )

    def _batches(self) -> Iterator[Batch | TorchBatch | MixedBatch]:
        """Give the batches from the current position on, and count those consumed."""
        self._check_world()
        progress = self._progress
        if (share := worker()) is not None:
            yield from self._for_loader(*share)
            return
        stream = stretches(
            self._reader,
            progress.position,
            manifest=progress.manifest,
            worker=None,
            agree=self._agreement(),
        )
        for stretch in stream:
            began = time.monotonic()
            for batch in stretch.batches:
                progress.waited(time.monotonic() - began)
                yield self._given(batch)
                # Reached only when the next batch is asked for: a loop that breaks or fails has
                # not consumed this one.
                if self._by_next:
                    progress.consume(batch)
                del batch  # its memory is for the next
                began = time.monotonic()
            if self._by_next:
                progress.move(stretch.after)

    def steps(self, loader: Iterable[BatchFacts]) -> Iterator[BatchFacts]:
        """Iterate over a loader of this dataset, together with the other ranks.

        Before the first batch of each megabatch all ranks wait until it is ready for all of them,
        or give up together; and a batch is consumed when the next is asked for. Both hold without
        worker processes by themselves; with them, workers cannot ask other ranks.

        Raises:
            TransientError: A megabatch was not ready within `wait_seconds`.
            RequestError: There are other ranks, and nobody said which this is; or a loader with a
                state of its own was given one of another plan.
        """
        self._check_world()
        self._together = True  # workers learn it when they start, and leave the deadline to us
        batches, progress = iter(loader), self._progress
        if say := getattr(batches, "state_dict", None):
            # A StatefulDataLoader has told only its workers where they go on.
            found = furthest(say(), plan=self.plan)
            if found is not None and found.position > progress.position:
                progress.resume(found)
        number = progress.position.megabatch
        while number < len(self.plan.megabatches):
            folder, stalled = self._wait(number)
            progress.stalled(number, stalled)
            if not has_share(self._reader, folder, start=progress.position.minibatch):
                number += 1
                progress.move(Position(self.plan.epoch, number, 0))
                continue
            began = time.monotonic()
            for batch in batches:
                progress.waited(time.monotonic() - began)
                yield batch
                progress.consume(batch)
                began = time.monotonic()
                if batch.after.megabatch > number:
                    break
            else:
                return
            number = batch.after.megabatch

    def _wait(self, number: int) -> tuple[MegabatchFolder, float]:
        """Wait for a megabatch with the other ranks; gives it, and the seconds."""
        reader = self._reader
        return wait_for_megabatch(
            reader.source,
            number,
            patience=reader.patience,
            rank=reader.rank,
            agree=self._agreement(),
        )

    def _check_world(self) -> None:
        """Refuse a rank that nobody named beside others; a worker knows of its parent's."""
        if not self._is_told:
            check_world(self._world or torch_world())

    def _agreement(self) -> Agreement:
        """Find how to ask the other ranks; torch.distributed may come up after the dataset."""
        if self._agree is alone:
            reader = self._reader
            self._agree = default_agreement(rank=reader.rank, world_size=reader.world_size)
        return self._agree

    def _for_loader(self, number: int, workers: int) -> Iterator[Batch | TorchBatch | MixedBatch]:
        """Give a loader's worker its batches; nobody here knows which of them are consumed."""
        at = self._worker or WorkerPlace(
            position=self._progress.position,
            manifest=self._progress.manifest,
            turn=number,
            workers=workers,
        )
        if at.workers != workers:
            raise RequestError(
                f"this state is of a loader with {at.workers} workers, and there are {workers}; "
                "use as many, or load the dataset's own state_dict(), which fits any number"
            )
        self._worker = at
        reader = self._for_worker()
        stream = stretches(reader, at.position, manifest=at.manifest, worker=(at.turn, workers))
        for stretch in stream:
            for batch in stretch.batches:
                # Before the batch goes: a stateful loader asks for the state behind it.
                if self._together:
                    batch = replace(batch, stalled=0.0)  # noqa: PLW2901 - the loop did not wait
                self._worker = WorkerPlace(
                    position=batch.after, manifest=batch.manifest, turn=workers - 1, workers=workers
                )
                yield self._given(batch)
                del batch  # its memory is for the next

    def _for_worker(self) -> Reader:
        """Read into memory that the training process sees; it decides on waiting, if it does."""
        reader = self._reader
        if can_share():
            reader = replace(reader, memory=SharedMemory())
        if self._together:
            reader = replace(reader, patience=Patience(seconds=math.inf, quiet=True))
        return reader

    def _given(self, batch: Batch | MixedBatch) -> Batch | TorchBatch | MixedBatch:
        return batch.to_torch() if self._as_torch else batch

    def done(self, batch: BatchFacts) -> None:
        """Count a batch as consumed, and all before it; call it after the training step.

        Megabatches that then lie behind are reported; the training loop does not wait for that.

        Raises:
            RequestError: The batch is of another plan.
        """
        self._progress.consume(batch)

    def minibatches_of(self, megabatch: int) -> int:
        """Count the minibatches that the plan gives a megabatch, over all ranks.

        Raises:
            RequestError: The plan has no such megabatch.
        """
        if not 0 <= megabatch < len(self.plan.megabatches):
            raise RequestError(
                f"plan {self.plan.plan} has no megabatch {megabatch}; "
                f"it has {len(self.plan.megabatches)}, counted from 0"
            )
        return self.plan.megabatches[megabatch].minibatches

    def peek(self) -> Manifest | None:
        """Look at the next megabatch without moving anything.

        Returns:
            Its manifest; None where it is not staged yet, or there is none.

        Raises:
            PackError: Its manifest is damaged, or of another plan.
            TransientError: Fast storage does not answer.
        """
        number = self._progress.position.megabatch + 1
        if number >= len(self.plan.megabatches):
            return None
        folder = self._reader.source.ready(number)
        return None if folder is None else folder.manifest

    def state_dict(self) -> dict[str, object]:
        """Say where this rank stands, by consumed batches; plain text and numbers."""
        if (at := self._worker) is not None:
            return state_at(
                self.plan.plan, at.position, manifest=at.manifest, turn=at.turn, workers=at.workers
            )
        progress = self._progress
        return state_at(self.plan.plan, progress.position, manifest=progress.manifest)

    def _state_behind(self, last: Behind | None) -> dict[str, object]:
        """Say where an iteration stands; the loop that asks has trained on what it got last."""
        progress = self._progress
        if worker() or not self._by_next or last is None or last.position <= progress.position:
            return self.state_dict()
        return state_at(self.plan.plan, last.position, manifest=last.manifest)

    def state_after(self, batch: BatchFacts) -> dict[str, object]:
        """Say where this rank stands once `batch` is consumed, without consuming it.

        Raises:
            RequestError: The batch is of another plan.
        """
        self._progress.check(batch)
        return state_at(self.plan.plan, batch.after, manifest=batch.manifest)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go to where a state was taken, by any rank in a world of any size.

        With a notifier, `begin` comes before: megabatches that lie before the state are reported
        again, in case the last attempt died before it could.

        Raises:
            RequestError: It is no state of this plan.
        """
        found = read_state(state, plan=self.plan)
        if found.workers:
            self._worker = WorkerPlace(
                position=found.position,
                manifest=found.manifest,
                turn=found.turn,
                workers=found.workers,
            )
        else:
            self._progress.resume(found)

    def checkpoint_saved(self, state: Mapping[str, object], *, name: str | None = None) -> None:
        """Say that a checkpoint with this state is durable.

        A notifier with `wait_for_checkpoint` reports only megabatches that lie before it.

        Args:
            state: What `state_dict()` or `state_after()` gave for the checkpoint.
            name: Where the checkpoint is, for people who read the ledger.

        Raises:
            RequestError: It is no state of this plan.
        """
        self._progress.save(state, name=name)

    def stats(self) -> dict[str, float]:
        """Sum up what this rank has consumed since the process began.

        Keys: `minibatches`, `chips`, `megabytes` (10^6 bytes of pixels) and `megabatches` consumed;
        `seconds` since the first batch was, with `chips_per_second` and `megabytes_per_second`;
        `wait_seconds` of these in which the loop waited for a batch, where it iterates plainly or
        by `steps()`, and their share, `wait_fraction`; `reports_waiting` and `reports_refused`, the
        notifier's, whose `problems` say more; `stall_seconds` spent waiting for staging
        and their share, `stall_fraction`; the position as `megabatch` and `minibatch`.
        """
        return self._progress.stats()

    def __getstate__(self) -> dict[str, object]:
        """Go to a worker process without the notifier: only the parent reports."""
        silent = replace(self._progress, notify=None)
        silent.position, silent.manifest = self._progress.position, self._progress.manifest
        return {**self.__dict__, "_progress": silent, "_agree": alone, "_world": torch_world()}
