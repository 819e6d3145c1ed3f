"""Webhook messages and their signature, by Standard Webhooks 1.0: one form for both ends.

The specification is spec/standard-webhooks.md of github.com/standard-webhooks/standard-webhooks.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from chipmill.errors import RequestError

TOLERANCE: Final = 300
"""Seconds that a timestamp may lie before or after the receiver's clock."""

_PREFIX: Final = "whsec_"
_LEAST_KEY: Final = 24  # bytes, the specification's least
_MOST_SIGNATURES: Final = 8  # more than any rotation needs; bounds the work for a forger
_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,128}")  # without "." no other split of the content signs
_NAME: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TIMESTAMP: Final = re.compile(rb"[0-9]{1,12}")
_ID_HEADER: Final = b"webhook-id"
_TIME_HEADER: Final = b"webhook-timestamp"
_SIGNATURE_HEADER: Final = b"webhook-signature"
_RUN_HEADER: Final = b"chipmill-run"
_HEADERS: Final = frozenset({_ID_HEADER, _TIME_HEADER, _SIGNATURE_HEADER, _RUN_HEADER})

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
_Count = Annotated[int, Field(ge=0, lt=2**31)]
_Number = Annotated[int, Field(ge=1, lt=2**31)]


class _Message(BaseModel):
    """What all bodies share: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RunBegunData(_Message):
    """Which run begins, and on what."""

    run: Name
    """The team's name of the training run."""

    attempt: _Number
    """1 for the first start, one more for each restart."""

    world: _Number
    """How many ranks report completions."""

    plan: Name
    """Plan id: 16 hex digits."""


class RunBegun(_Message):
    """A training run begins, or a new attempt of it does."""

    type: Literal["run.begun"] = "run.begun"
    timestamp: AwareDatetime
    data: RunBegunData


class MegabatchCompletedData(_Message):
    """Which rank is done with which megabatch."""

    megabatch: Name
    run: Name
    attempt: _Number
    rank: _Count
    """In 0..world-1."""

    world: _Number
    epoch: _Count
    minibatches: _Count
    """How many minibatches of the megabatch the rank has taken."""

    checkpoint: Annotated[str, Field(max_length=1024)] | None = None
    """Where the durable checkpoint beyond this megabatch lies, for people who read the history."""

    @model_validator(mode="after")
    def _rank_is_in_world(self) -> Self:
        if self.rank >= self.world:
            message = f"rank {self.rank} is not in 0..{self.world - 1}"
            raise ValueError(message)
        return self


class MegabatchCompleted(_Message):
    """One rank will never read this megabatch again: its checkpoint beyond it is durable."""

    type: Literal["megabatch.completed"] = "megabatch.completed"
    timestamp: AwareDatetime
    data: MegabatchCompletedData


def sign(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a body by HMAC-SHA256 over `id.timestamp.body`; gives `v1,<base64>`.

    Args:
        key: The run's key, 24 bytes or more.
        message_id: The same on each retry: the receiver's idempotency key.
        timestamp: Whole seconds since 1970, of this try.
        body: Exactly the bytes that are sent.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def headers(
    key: bytes, *, run: str, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Make the four headers of a signed message; `chipmill-run` says whose key signed.

    Raises:
        RequestError: The message id or the run's name has characters that no receiver accepts.
    """
    if not _ID.fullmatch(message_id.encode()):
        raise RequestError(f"message id {message_id!r} is not 1 to 128 letters, digits, _ or -")
    if not _NAME.fullmatch(run.encode()):
        raise RequestError(
            f"run name {run!r} is not 1 to 128 letters, digits, _ . or - that begin with a letter "
            "or digit; choose another name"
        )
    return {
        _ID_HEADER.decode(): message_id,
        _TIME_HEADER.decode(): str(timestamp),
        _SIGNATURE_HEADER.decode(): sign(
            key, message_id=message_id, timestamp=timestamp, body=body
        ),
        _RUN_HEADER.decode(): run,
    }


def claimed_run(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Read which run a message says it is from; None when absent, repeated or malformed."""
    found = _webhook_headers(headers)
    run = b"" if found is None else found.get(_RUN_HEADER, b"")
    return run.decode() if _NAME.fullmatch(run) else None


def verify(
    keys: Sequence[bytes], headers: Sequence[tuple[bytes, bytes]], body: bytes, *, now: float
) -> str | None:
    """Check a message's signature and time; never raises, whatever the bytes are.

    Args:
        keys: The keys that count now: the current one and, in a rotation, the one before.
        headers: All headers as they came, names in any case.
        body: The bytes of the body as they came.
        now: Seconds since 1970.

    Returns:
        The message id, or None when the message is not to be believed.
    """
    found = _webhook_headers(headers)
    if found is None:
        return None
    message_id, moment = found.get(_ID_HEADER, b""), found.get(_TIME_HEADER, b"")
    signatures = found.get(_SIGNATURE_HEADER, b"").split(b" ")
    if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(moment)):
        return None
    if len(signatures) > _MOST_SIGNATURES or abs(int(moment) - now) > TOLERANCE:
        return None
    identity, timestamp = message_id.decode(), int(moment)
    if str(timestamp).encode() != moment:  # a leading zero would not be what was signed
        return None
    genuine = False
    for key in keys:
        expected = sign(key, message_id=identity, timestamp=timestamp, body=body).encode()
        for signature in signatures:
            genuine |= hmac.compare_digest(signature, expected)
    return identity if genuine else None


def encode_key(key: bytes) -> str:
    """Write a key as people and environments carry it: `whsec_<base64>`."""
    return _PREFIX + base64.b64encode(key).decode()


def decode_key(text: str) -> bytes:
    """Read a key, with or without `whsec_`.

    Raises:
        RequestError: The text is not base64 of 24 bytes or more. The message never shows it.
    """
    bare = text.strip().removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError) as err:
        raise RequestError(
            "webhook key is not base64 after whsec_; make one with `chipmill secret`"
        ) from err
    if len(key) < _LEAST_KEY:
        raise RequestError(
            f"webhook key has {len(key)} bytes, at least {_LEAST_KEY} are needed; "
            "make one with `chipmill secret`"
        )
    return key


def completion_id(run: str, attempt: int, *, epoch: int, megabatch: str, rank: int) -> str:
    """Name a rank's completion of a megabatch, the same over all retries and restarts."""
    return _stable_id("megabatch.completed", run, attempt, epoch, megabatch, rank)


def begin_id(run: str, attempt: int, *, plan: str) -> str:
    """Name the begin of a run's attempt, the same over all retries and ranks."""
    return _stable_id("run.begun", run, attempt, plan)


def _stable_id(*parts: str | int) -> str:
    # A JSON list keeps its parts apart, whatever characters they hold.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def _webhook_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes] | None:
    """Pick out our headers; None when one is repeated: then it is not clear what was signed."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower not in _HEADERS:
            continue
        if lower in found:
            return None
        found[lower] = value
    return found
