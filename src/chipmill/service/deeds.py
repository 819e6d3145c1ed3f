"""What a person may do from the page: each asks first, changes the ledger, and is recorded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from chipmill.errors import RequestError
from chipmill.io.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One thing that may be done to one subject."""

    question: str
    """What is asked, with `{}` for the subject."""

    effect: str
    """What will happen."""

    word: str
    """The button."""

    do: Callable[[Ledger, str, str], object]
    """Does it: ledger, subject, who."""


def _release(ledger: Ledger, subject: str, who: str) -> object:
    run, _, plan = subject.partition(" on plan ")
    return ledger.release_run(run, plan=plan, actor=who)


def _ask(ledger: Ledger, megabatch: str, who: str) -> object:
    return ledger.ask_again(megabatch, actor=who)


def _send(ledger: Ledger, number: str, who: str) -> object:
    if not (number.isascii() and number.isdecimal() and len(number) < 16):  # noqa: PLR2004
        raise RequestError("the outbox numbers its rows; take the button of the page")
    return ledger.send_now(int(number), actor=who)


def _free(ledger: Ledger, megabatch: str, who: str) -> object:
    ledger.free_lease(megabatch, who=who, why="freed from the page")
    return ledger.ask_again(megabatch, actor=who)


DEEDS: Final[Mapping[str, Deed]] = MappingProxyType(
    {
        "release": Deed(
            question="Release run {}?",
            effect="Nobody waits for its reports on this plan any more. What no other run reads "
            "becomes complete, and its files are deleted from fast storage. A run that is alive "
            "and comes back has to begin another attempt.",
            word="Release the run",
            do=_release,
        ),
        "ask": Deed(
            question="Ask again for megabatch {}?",
            effect="Prefect is asked for another run of the flow that brings it on: staging "
            "where it is planned or being staged, cleanup where it is complete. A flow run that "
            "is at work keeps its lease.",
            word="Ask again",
            do=_ask,
        ),
        "free": Deed(
            question="Take the lease of megabatch {} away?",
            effect="For a worker that is dead: a lease ends by itself two minutes after its last "
            "sign. Prefect is asked for another run of the flow, which goes on from what is "
            "there. A worker that is alive is refused from now on and stops.",
            word="Take the lease away",
            do=_free,
        ),
        "send": Deed(
            question="Send request {} now?",
            effect="The request is sent to Prefect at once instead of after its pause. It is the "
            "same request: no second flow run comes of it.",
            word="Send now",
            do=_send,
        ),
    }
)
"""By the name in the address."""
