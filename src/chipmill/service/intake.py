"""From bytes of a stranger to a message of a known run: each check costs less than the next."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from chipmill.formats.webhook import MegabatchCompleted, RunBegun, claimed_run, verify
from chipmill.service.keys import run_key

MOST_BYTES: Final = 20 * 1024
"""Largest body; the specification of Standard Webhooks recommends to stay below 20 kB."""

BODY_SECONDS: Final = 5.0
"""Time in which a body must have come."""

_DIGITS: Final = re.compile(r"[0-9]{1,19}")
_UNBELIEVED: Final = "signature, run or timestamp is not valid"  # one text: no hint for a forger
_LONGEST_NOTE: Final = 300

_Message = TypeVar("_Message", RunBegun, MegabatchCompleted)


class Refusal(Exception):  # noqa: N818  a refusal is an answer, not an error of ours
    """The request gets this status and note, and nothing has changed."""

    def __init__(self, status: int, note: str) -> None:
        super().__init__(note)
        self.status = status
        self.note = note


def check_size(request: Request) -> None:
    """Look at the size that the headers declare, before a byte is read.

    Raises:
        Refusal: 413 when it is more than `MOST_BYTES`.
    """
    declared = request.headers.get("content-length", "0")
    if not _DIGITS.fullmatch(declared) or int(declared) > MOST_BYTES:
        raise _too_large()


async def read_body(request: Request) -> bytes:
    """Read a small body quickly or not at all.

    Raises:
        Refusal: 413 when more than `MOST_BYTES` come; 408 when they do not come in `BODY_SECONDS`.
    """
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BYTES:
                    raise _too_large()
    except (TimeoutError, ClientDisconnect) as err:
        raise Refusal(408, f"the body was not there in {BODY_SECONDS:.0f} s") from err
    return body


def believe(
    request: Request, body: bytes, *, masters: Sequence[bytes], clock: Callable[[], float]
) -> tuple[str, str]:
    """Check the signature by the key of the run that the headers name.

    Returns:
        The run and the message id.

    Raises:
        Refusal: 401, with the same text whatever is wrong.
    """
    raw = request.headers.raw
    run = claimed_run(raw)
    keys = [] if run is None else [run_key(master, run) for master in masters]
    message_id = verify(keys, raw, body, now=clock())
    if run is None or message_id is None:
        raise Refusal(401, _UNBELIEVED)
    return run, message_id


def parse(body: bytes, kind: type[_Message], *, run: str) -> _Message:
    """Read a signed body.

    Raises:
        Refusal: 400 when it is not JSON, 422 when it is not this message, 401 when it speaks for
            another run than the one whose key signed it.
    """
    try:
        json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        raise Refusal(400, "the body is not JSON") from err
    try:
        message = kind.model_validate_json(body)
    except ValidationError as err:
        raise _misfit(err) from err
    if message.data.run != run:
        raise Refusal(401, _UNBELIEVED)
    return message


def _too_large() -> Refusal:
    return Refusal(413, f"the body is larger than {MOST_BYTES} bytes")


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _misfit(err: ValidationError) -> Refusal:
    first = err.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":  # stricter than the first look: a lone surrogate, say
        return Refusal(400, "the body is not JSON")
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return Refusal(422, f"{where}: {first['msg']}"[:_LONGEST_NOTE])
