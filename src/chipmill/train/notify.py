"""The notifier: tells the receiver which megabatches a rank is done with, whatever happens."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from chipmill.errors import NotifyError, RequestError, TransientError
from chipmill.formats import webhook
from chipmill.formats.layout import segment
from chipmill.train.courier import Courier
from chipmill.train.post import Backoff, Outcome, Sender, is_address, open_client, post
from chipmill.train.spool import Spool

RUNS = "/v1/runs"
COMPLETE = "/v1/megabatch-complete"
"""Path at the receiver, as the one above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What there is to report of a consumed megabatch."""

    megabatch: str
    """Megabatch id."""
    epoch: int
    minibatches: int
    """Minibatches of the megabatch, over all ranks."""
    checkpoint: str | None = None
    """Where the checkpoint beyond it is, for people."""


@dataclass(eq=False)
class Notifier:
    """Reports one rank's completions, each until it is accepted.

    No call of the training loop waits for a disk or a network, nor fails because of one: a thread
    makes each message a durable file in the spool, another posts it, each try signed anew, under
    one id. What a killed process left there is posted by the next one with the same attempt number,
    and what it did not come to write is reported again by the state of the checkpoint; until then
    the data stays. What goes wrong is logged once and stands in `problems`; `close` raises it.

    Every rank makes one; rank 0's `begin` comes before anybody's first completion, so ranks wait
    for each other after it.

    Raises:
        RequestError: The URL, the run's name, the attempt or the rank cannot be.
        TransientError: The spool cannot be read.
    """

    receiver_url: str
    """`http(s)://host:port`, as trainers reach the receiver."""
    _: KW_ONLY
    run: str
    attempt: int = 1
    """One more at each start of the run."""
    key: bytes = field(repr=False)
    """The run's key, decoded; a trainer never has the master."""
    rank: int
    world_size: int
    spool: Path
    """A folder that survives the process; runs and ranks get folders of their own in it."""
    wait_for_checkpoint: bool = True
    """Report a megabatch only when `checkpoint_saved` says that one beyond it is durable. Off, for
    runs without checkpoints, what is consumed is reported at once and then deleted."""
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        """Check the facts, take up what is in the spool, start the thread."""
        _check(self)
        self._sender = Sender(
            receiver_url=self.receiver_url.rstrip("/"), run=self.run, key=self.key
        )
        folder = self.spool / segment(self.run) / f"rank-{self.rank}"
        self._courier = Courier(
            sender=self._sender,
            path=COMPLETE,
            spool=Spool(folder, self.attempt),
            backoff=self.backoff,
        )

    def begin(self, plan: str, *, patience: float = 120.0) -> None:
        """Register this attempt of the run with the receiver; only rank 0 posts.

        Args:
            plan: Plan id.
            patience: Seconds over which a receiver that does not answer is tried again.

        Raises:
            NotifyError: The receiver refuses.
            TransientError: The receiver did not answer in time.
        """
        self._courier.begin(plan)
        if self.rank:
            return
        data = webhook.RunBegunData(
            run=self.run, attempt=self.attempt, world=self.world_size, plan=plan
        )
        body = webhook.RunBegun(timestamp=datetime.now(UTC), data=data).model_dump_json().encode()
        message_id = webhook.begin_id(self.run, self.attempt, plan=plan)
        deadline = time.monotonic() + patience
        with open_client() as client:
            for tries in itertools.count():
                outcome = post(client, self._sender, RUNS, message_id=message_id, body=body)
                if outcome.verdict == "accepted":
                    return
                if outcome.verdict == "refused":
                    raise NotifyError(self._not_begun(outcome))
                pause = self.backoff.pause(tries, at_least=outcome.pause)
                if time.monotonic() + pause > deadline:
                    raise TransientError(self._not_begun(outcome) + "; is the receiver up?")
                time.sleep(pause)

    def completed(self, completion: Completion) -> None:
        """Have a megabatch reported; returns at once."""
        self._courier.send(*self._message(completion))

    def repeat(self, completions: Sequence[Completion]) -> None:
        """Report again what lies before a checkpoint, instead of what an earlier call left to do.

        Each start says these again, so they are not spooled, and `close` does not wait for them. A
        ledger that has a megabatch not in use now is asked again later.
        """
        self._courier.repeat([self._message(completion) for completion in completions])

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps reports from being durable or accepted, in sentences; empty: all is well."""
        return self._courier.problems

    def counts(self) -> tuple[int, int]:
        """Count the reports that have not arrived yet, and those that were refused for good."""
        return self._courier.counts()

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until all reports are durable here, whether they have arrived or not.

        Raises:
            TransientError: The spool cannot be written, or not in time.
        """
        if left := self._courier.flush(timeout):
            why = "; ".join(self.problems) or f"{self._courier.spool.folder} is slow"
            raise TransientError(f"{left} reports of run {self.run} are not durable: {why}")

    def close(self, timeout: float = 60.0) -> None:
        """Wait until all is accepted, and stop; the spool keeps what is not.

        Raises:
            NotifyError: The receiver has refused a message for good.
            TransientError: Messages were left after `timeout` seconds.
        """
        left = self._courier.drain(timeout)
        self._courier.stop()
        if self._courier.refusal is not None:
            raise NotifyError(self._courier.refusal)
        if left:
            kept = "; ".join(self.problems) or f"they stay in {self._courier.spool.folder}"
            raise TransientError(
                f"{left} reports of run {self.run} were not accepted by {self.receiver_url} within "
                f"{timeout:.0f} s; {kept}, and a start with the same attempt number or from the "
                "last checkpoint reports them"
            )

    def __enter__(self) -> Self:
        """Use as a context: leaving it closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close; after an error without waiting, so that the error is seen at once."""
        if error is None:
            self.close()
        else:
            self._courier.stop()

    def _message(self, completion: Completion) -> tuple[str, bytes]:
        """Write a report as (message id, body)."""
        self._courier.begin(completion.megabatch.rpartition("-")[0])
        data = webhook.MegabatchCompletedData(
            megabatch=completion.megabatch,
            run=self.run,
            attempt=self.attempt,
            rank=self.rank,
            world=self.world_size,
            epoch=completion.epoch,
            minibatches=completion.minibatches,
            checkpoint=completion.checkpoint,
        )
        message = webhook.MegabatchCompleted(timestamp=datetime.now(UTC), data=data)
        message_id = webhook.completion_id(
            self.run,
            self.attempt,
            epoch=completion.epoch,
            megabatch=completion.megabatch,
            rank=self.rank,
        )
        return message_id, message.model_dump_json().encode()

    def _not_begun(self, outcome: Outcome) -> str:
        return (
            f"{self.receiver_url} did not accept the begin of run {self.run}, "
            f"attempt {self.attempt}: {outcome.text}"
        )


def _check(notifier: Notifier) -> None:
    """Refuse facts that no receiver accepts."""
    webhook.headers(notifier.key, run=notifier.run, message_id="check", timestamp=0, body=b"")
    if not is_address(notifier.receiver_url):
        raise RequestError(
            f"{notifier.receiver_url} is not the URL of a receiver; give http(s)://host:port"
        )
    if notifier.attempt < 1 or not 0 <= notifier.rank < notifier.world_size:
        raise RequestError(
            f"attempt {notifier.attempt}, rank {notifier.rank} of {notifier.world_size} cannot be; "
            "attempts count from 1, ranks from 0 to world_size - 1"
        )
