"""From bytes of a stranger to a message of a known run: each check costs less than the next."""

import json
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeVar

from pydantic import ValidationError
from starlette.requests import Request

from chipmill.formats.webhook import MegabatchCompleted, RunBegun, claimed_run, verify
from chipmill.service.keys import run_key
from chipmill.service.refusal import Refusal

_UNBELIEVED: Final = "signature, run or timestamp is not valid"  # one text: no hint for a forger
_LONGEST_NOTE: Final = 300

_Message = TypeVar("_Message", RunBegun, MegabatchCompleted)


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


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _misfit(err: ValidationError) -> Refusal:
    first = err.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":  # stricter than the first look: a lone surrogate, say
        return Refusal(400, "the body is not JSON")
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return Refusal(422, f"{where}: {first['msg']}"[:_LONGEST_NOTE])
