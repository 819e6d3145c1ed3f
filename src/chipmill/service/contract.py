"""What the OpenAPI document says of the messages; the checks themselves are elsewhere."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypedDict

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REFERENCE: Final = "#/components/schemas/{model}"

_ANSWERS: Final[Mapping[int | str, str]] = MappingProxyType(
    {
        200: "Taken, and durable; the same message again gets the same answer.",
        400: "The body is not JSON. Do not send it again.",
        401: "Signature, run or timestamp is not valid; compare the clock with the Date header.",
        404: "The plan or megabatch is not known.",
        408: "The body came too slowly. Send it again.",
        409: "Not now: an older attempt, a run that has not begun, a megabatch not in use, or an "
        "id that came before with another body.",
        413: "The body is larger than 20 KiB.",
        422: "The body is not this message, or rank and world do not fit the run.",
        425: "The megabatch is still being staged. Send it again.",
        503: "Busy, or the ledger does not answer. Send it again after Retry-After seconds.",
    }
)

_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "webhook-id": "The message's id, the same on each retry: 1 to 128 letters, digits, _ or -.",
        "webhook-timestamp": "Whole seconds since 1970, of this try; 300 s off at most.",
        "webhook-signature": "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body` by the "
        "run's key; several are separated by spaces.",
        "chipmill-run": "The run whose key has signed; the same as `data.run`.",
    }
)


class Status(BaseModel):
    """Each answer's body."""

    status: str
    """What happened, for people."""


class PostContract(TypedDict):
    """What FastAPI's `post` is told for the document."""

    summary: str
    responses: dict[int | str, dict[str, Any]]
    openapi_extra: dict[str, Any]


def post_of(kind: type[BaseModel]) -> PostContract:
    """Describe the POST of one signed message.

    The body is declared here and not as a parameter: it is read only after its signature is
    checked, over the very bytes that came.
    """
    schema = {"$ref": _REFERENCE.format(model=kind.__name__)}
    parameters = [
        {"in": "header", "name": name, "description": text, "required": True}
        | {"schema": {"type": "string"}}
        for name, text in _HEADERS.items()
    ]
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {
        "summary": (kind.__doc__ or "").splitlines()[0],
        "responses": {
            status: {"model": Status, "description": text} for status, text in _ANSWERS.items()
        },
        "openapi_extra": {"parameters": parameters, "requestBody": body},
    }


def add_messages(app: FastAPI, *kinds: type[BaseModel]) -> None:
    """Put the messages' schemas into the application's OpenAPI document."""
    document = app.openapi()  # FastAPI keeps this very object and serves it
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template=_REFERENCE
    )
    known = document.setdefault("components", {}).setdefault("schemas", {})
    known.update(schemas["$defs"])
