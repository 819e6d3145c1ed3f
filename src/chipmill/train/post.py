"""One try to deliver one signed message, and what its answer means."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import SystemRandom
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from chipmill.formats import webhook

if TYPE_CHECKING:
    import httpx  # loaded with the first notifier: it takes longer than all else of a trainer

TIMEOUT = 30.0
"""Seconds for one try."""

_RETRY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sends where."""

    receiver_url: str
    run: str
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a try."""

    verdict: Literal["accepted", "later", "refused"]
    status: int | None
    """HTTP status; None where there was no answer."""
    text: str
    """What happened, as half a sentence."""
    pause: float = 0.0
    """Seconds that the receiver asks to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between tries: exponential, with full jitter."""

    first: float = 1.0
    """Seconds before the second try, at most; doubles with each try."""
    longest: float = 300.0

    def pause(self, tries: int, *, at_least: float = 0.0) -> float:
        """Draw the seconds to wait after `tries` + 1 failures."""
        most = min(self.longest, self.first * 2.0 ** min(tries, 32))
        return max(SystemRandom().uniform(0.0, most), min(at_least, self.longest))


def is_address(url: str) -> bool:
    """Say whether something may be posted to a URL: it has a scheme, a host and a port that can be.

    Some hosts are only found to be none when a post is tried.
    """
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an address of IPv6, or a port past 65535
        return False


def open_client() -> "httpx.Client":
    """Open a client for any number of tries."""
    import httpx  # noqa: PLC0415  # see above

    return httpx.Client(timeout=TIMEOUT)


def post(
    client: "httpx.Client", sender: Sender, path: str, *, message_id: str, body: bytes
) -> Outcome:
    """Sign a message with the time of now and post it once."""
    import httpx  # noqa: PLC0415  # see above

    now = int(time.time())
    headers = webhook.headers(
        sender.key, run=sender.run, message_id=message_id, timestamp=now, body=body
    )
    headers["content-type"] = "application/json"
    try:
        answer = client.post(sender.receiver_url + path, content=body, headers=headers)
    except httpx.RequestError as err:
        # No answer at all, or half of one: whether the message had its effect is not known.
        return Outcome(verdict="later", status=None, text=f"no answer ({type(err).__name__})")
    except (httpx.InvalidURL, UnicodeError) as err:
        text = f"{sender.receiver_url} is no address ({err})"
        return Outcome(verdict="refused", status=None, text=text)
    return _judge(answer, now=now)


def _judge(answer: "httpx.Response", *, now: int) -> Outcome:
    """Read an answer by the table of the receiver's contract."""
    status = answer.status_code
    text = f"answer {status} {answer.text[:200].strip()!r}"
    if answer.is_success:
        return Outcome(verdict="accepted", status=status, text=text)
    if status in _RETRY or answer.is_server_error:
        pause = answer.headers.get("retry-after", "")
        seconds = float(pause) if pause.isdecimal() else 0.0
        return Outcome(verdict="later", status=status, text=text, pause=seconds)
    return Outcome(verdict="refused", status=status, text=text + _advice(answer, now=now))


def _advice(answer: "httpx.Response", *, now: int) -> str:
    """Say what to do about a refusal."""
    if answer.status_code == HTTPStatus.CONFLICT:
        return "; give each start of a run its own attempt number and begin it first"
    if answer.status_code != HTTPStatus.UNAUTHORIZED:
        return ""
    skew = _skew(answer, now=now)
    if abs(skew) > webhook.TOLERANCE:
        return f"; this clock is {skew:+.0f} s off the receiver's, set it right"
    return "; check that the key is the one that `chipmill run-key` prints for this run"


def _skew(answer: "httpx.Response", *, now: int) -> float:
    """Measure how far this clock is ahead of the receiver's, in seconds."""
    try:
        return now - parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return 0.0
