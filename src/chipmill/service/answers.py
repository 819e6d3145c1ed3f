"""The one form of an answer to a program: a status, and what happened as JSON."""

from http import HTTPStatus
from typing import Final

from fastapi.responses import JSONResponse

_RETRY_AFTER: Final = "2"  # seconds


def reply(status: int, note: str) -> JSONResponse:
    """Answer with a status and a note, and the headers that such a status has."""
    more = {"x-content-type-options": "nosniff"}
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        more["connection"] = "close"  # the rest of the body is not wanted
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        more["retry-after"] = _RETRY_AFTER
    return JSONResponse({"status": note}, status_code=status, headers=more)
