"""What a rank has consumed, and what may be reported of it."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmill.errors import RequestError
from chipmill.formats.plan import Plan
from chipmill.model.megabatch import megabatch_id
from chipmill.train.batch import BatchFacts, Position
from chipmill.train.notify import Completion, Notifier
from chipmill.train.state import State, read_state

log = logging.getLogger(__name__)

_MANY = 2
"""Megabatches that are on fast storage for a run, where `ahead` is 1 as usual."""


@dataclass(eq=False, kw_only=True)
class Progress:
    """Moves forward by consumed batches; reports each megabatch once it lies behind."""

    plan: Plan
    notify: Notifier | None
    position: Position = field(init=False)
    manifest: str | None = field(init=False, default=None)
    """Digest of the manifest that `position` counts in, where it is known."""
    _held: list[int] = field(init=False, default_factory=list[int])
    """Consumed megabatches that are not reported yet."""
    _saved: Position = field(init=False)
    """The position of the last durable checkpoint."""
    _checkpoint: str | None = field(init=False, default=None)
    _minibatches: int = field(init=False, default=0)
    _chips: int = field(init=False, default=0)
    _megabatches: int = field(init=False, default=0)
    _bytes: int = field(init=False, default=0)
    _began: float | None = field(init=False, default=None)
    """When the first batch was consumed, by the monotonic clock."""
    _waited: float = field(init=False, default=0.0)
    _stalls: dict[int, float] = field(init=False, default_factory=dict[int, float])

    def __post_init__(self) -> None:
        """Stand at the beginning of the plan."""
        self.position = self._saved = Position(self.plan.epoch, 0, 0)

    def consume(self, batch: BatchFacts) -> None:
        """Count a batch as consumed, with all that lie before it; a second time changes nothing.

        Raises:
            RequestError: The batch is of another plan.
        """
        self.check(batch)
        if batch.after <= self.position:
            return
        self._minibatches += 1
        self._chips += len(batch)
        self._bytes += batch.nbytes
        if self._began is None:
            self._began = time.monotonic()
        self.stalled(batch.position.megabatch, batch.stalled)
        self.manifest = batch.manifest
        self.move(batch.after)

    def stalled(self, megabatch: int, seconds: float) -> None:
        """Count the wait for a megabatch; workers wait at the same time, and the longest counts."""
        self._stalls[megabatch] = max(self._stalls.get(megabatch, 0.0), seconds)

    def waited(self, seconds: float) -> None:
        """Count the wait for a batch; the first ones wait for the process to begin."""
        if self._began is not None:
            self._waited += seconds

    def move(self, after: Position) -> None:
        """Stand at `after`, if that is further, and report what may be reported."""
        if after > self.position:
            passed = range(self.position.megabatch, after.megabatch)
            self._held.extend(passed)
            self._megabatches += len(passed)
            self.position = after
            self._report()
            if passed and self._held:
                many = len(self._held) >= _MANY
                log.log(
                    logging.WARNING if many else logging.INFO,
                    "%d megabatches up to %d are reported once checkpoint_saved(state) tells of a "
                    "checkpoint beyond them; meanwhile they hold fast storage",
                    len(self._held),
                    passed[-1],
                )

    def save(self, state: Mapping[str, object], *, name: str | None) -> None:
        """Take note that a checkpoint with this state is durable.

        Raises:
            RequestError: The state is not one of this plan.
        """
        found = read_state(state, plan=self.plan)
        if found.position >= self._saved:
            self._saved, self._checkpoint = found.position, name
        self._report()

    def resume(self, state: State) -> None:
        """Stand where a checkpoint stood, and report again what lies before it.

        The process may have died between the checkpoint and the report; a report that was heard
        already changes nothing at the receiver.
        """
        self.position = self._saved = state.position
        self.manifest, self._checkpoint = state.manifest, None
        self._held.clear()
        if self.notify is not None:
            self.notify.repeat([self._completion(number) for number in range(state.megabatch)])

    def check(self, batch: BatchFacts) -> None:
        """Refuse a batch of another dataset.

        Raises:
            RequestError: The batch is of another plan.
        """
        if (batch.plan, batch.position.epoch) != (self.plan.plan, self.plan.epoch):
            raise RequestError(
                f"a batch of plan {batch.plan} was given to the dataset of plan {self.plan.plan}; "
                "give each batch to the dataset that it came from"
            )

    def stats(self) -> dict[str, float]:
        """Sum up, for a training log."""
        stalled = sum(self._stalls.values())
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        rate = 1 / seconds if seconds else 0.0
        waiting, refused = (0, 0) if self.notify is None else self.notify.counts()
        return {
            "minibatches": self._minibatches,
            "chips": self._chips,
            "megabytes": self._bytes / 1e6,
            "megabatches": self._megabatches,
            "seconds": seconds,
            "chips_per_second": self._chips * rate,
            "megabytes_per_second": self._bytes / 1e6 * rate,
            "wait_seconds": self._waited,
            "wait_fraction": self._waited * rate,
            "reports_waiting": waiting,
            "reports_refused": refused,
            "stall_seconds": stalled,
            # The first wait lies before the first batch.
            "stall_fraction": stalled / (seconds + stalled) if stalled else 0.0,
            "megabatch": self.position.megabatch,
            "minibatch": self.position.minibatch,
        }

    def _report(self) -> None:
        """Report the held megabatches in order, as far as checkpoints allow."""
        if self.notify is None:
            self._held.clear()
            return
        while self._held:
            number = self._held[0]
            if self.notify.wait_for_checkpoint and number >= self._saved.megabatch:
                return
            self.notify.completed(self._completion(number))
            del self._held[0]

    def _completion(self, number: int) -> Completion:
        """Tell what there is to report of a consumed megabatch."""
        return Completion(
            megabatch=megabatch_id(self.plan.plan, number),
            epoch=self.plan.epoch,
            minibatches=self.plan.megabatches[number].minibatches,
            checkpoint=self._checkpoint,
        )
