"""Waiting for a megabatch that is still being staged: with a deadline, and no rank alone."""

import logging
import multiprocessing
import time
from dataclasses import dataclass

from chipmill.errors import PackError, RequestError, TransientError
from chipmill.formats.plan import Plan
from chipmill.model.order import ORDER_VERSION
from chipmill.train.agree import Agreement, Word, alone
from chipmill.train.folder import MegabatchFolder
from chipmill.train.source import Source

FIRST_POLL = 0.2
LONGEST_POLL = 5.0
LOG_EVERY = 60.0
"""Seconds, as the two above."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, and how often to say so."""

    seconds: float
    log_every: float = LOG_EVERY
    """Seconds between two lines of the log."""
    quiet: bool = False
    """Leave the log to another process."""


def wait_for_megabatch(
    source: Source,
    number: int,
    *,
    patience: Patience,
    rank: int = 0,
    agree: Agreement = alone,
) -> tuple[MegabatchFolder, float]:
    """Open a megabatch as soon as it is ready for all ranks.

    Says so in the log at once when it is not, and then once a minute.

    Args:
        source: Where the megabatches are.
        number: Number of the megabatch.
        patience: How long to wait; rank 0's clock counts for all.
        rank: This rank.
        agree: Asks the other ranks, once before each pause and at the end.

    Returns:
        The megabatch, and the seconds spent waiting.

    Raises:
        PackError: The manifest is damaged, or of another plan or order.
        TransientError: It was not ready in time, or cannot be read by another rank.
    """
    start = time.monotonic()
    pause, next_line, over = FIRST_POLL, 0.0, False
    decides = agree is alone or not rank
    while True:
        folder, failure = _look(source, number)
        waited = time.monotonic() - start
        late = decides and waited >= patience.seconds
        word = agree(_word(folder, failure, over=over or (late and folder is None)))
        if failure is not None:
            raise failure
        if word is Word.READY and folder is not None:
            return folder, waited if pause > FIRST_POLL else 0.0
        if word < Word.WAITING:
            raise TransientError(_sentence(source, number, word, here=folder, waited=waited))
        _check_parent(source, number)
        if waited >= next_line and not patience.quiet:
            whose = source.where(number) if folder is None else f"other ranks, megabatch {number}"
            _log.warning("waiting for %s (%.0f s of %.0f s)", whose, waited, patience.seconds)
            next_line += patience.log_every
        over = late  # ready here, but not for others: they get the round that follows
        time.sleep(min(pause, max(patience.seconds - waited, 0.01)))
        pause = min(pause * 1.5, LONGEST_POLL)


def _look(
    source: Source, number: int
) -> tuple[MegabatchFolder | None, PackError | TransientError | None]:
    """Open a megabatch if it is ready; a failure is first told to the other ranks."""
    try:
        return source.ready(number), None
    except (PackError, TransientError) as err:
        return None, err


def _word(folder: MegabatchFolder | None, failure: Exception | None, *, over: bool) -> Word:
    """Say what there is to say to the other ranks."""
    if failure is not None:
        return Word.FAILED
    if over:
        return Word.GAVE_UP
    return Word.WAITING if folder is None else Word.READY


def _sentence(
    source: Source, number: int, word: Word, *, here: MegabatchFolder | None, waited: float
) -> str:
    """Say why waiting has ended."""
    plan, where = source.plan.plan, source.where(number)
    if word is Word.FAILED:
        return f"megabatch {number} of plan {plan} cannot be read by another rank; see its error"
    if here is not None:
        return (
            f"megabatch {number} of plan {plan} is ready here ({where}) and was not for another "
            f"rank after {waited:.0f} s; look at fast storage of the other hosts"
        )
    return (
        f"megabatch {number} of plan {plan} was not ready after {waited:.0f} s: there is no "
        f"{where}; look at the stage flow, at the room on fast storage, whether this path is where "
        "it stages, and whether the training loop calls done(batch) and, where reports wait for "
        "checkpoints, checkpoint_saved(state), without which nothing makes room"
    )


def _check_parent(source: Source, number: int) -> None:
    """Stop waiting in a worker whose training process is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise TransientError(
            f"the training process is gone; nobody waits for {source.where(number)} any more"
        )


def check_share(plan: Plan, *, rank: int, world_size: int) -> None:
    """Refuse a rank that is none, and a world in which some ranks would get nothing.

    Raises:
        RequestError: The numbers do not fit together, or the plan's order is of another version.
    """
    if not 0 <= rank < world_size:
        raise RequestError(
            f"rank {rank} is not in a world of {world_size} ranks; give 0 <= rank < world_size"
        )
    if world_size > plan.minibatch:
        raise RequestError(
            f"a minibatch of {plan.minibatch} chips has none for some of {world_size} ranks; "
            "use fewer ranks or plan larger minibatches"
        )
    if plan.order_version != ORDER_VERSION:
        raise RequestError(
            f"plan {plan.plan} counts on order {plan.order_version} and this version of chipmill "
            f"makes order {ORDER_VERSION}; plan again, or use the version that planned"
        )
