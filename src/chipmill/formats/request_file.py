"""A request as YAML, and what is wrong with one: a sentence for each error, with its place."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from chipmill.errors import RequestError
from chipmill.model.ingest_request import IngestRequest


def read_request(text: str, *, where: str) -> IngestRequest:
    """Read a request.

    Args:
        text: YAML, which JSON is too.
        where: Name of the file, for errors.

    Raises:
        RequestError: It is none; one line for each error.
    """
    try:
        asked = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise RequestError(f"{where} is not YAML: {' '.join(str(err).split())}") from err
    if not isinstance(asked, dict):
        raise RequestError(f"{where} is no request; write fields as `sensor: sentinel-2-l2a`")
    try:
        return IngestRequest.model_validate(cast("dict[str, Any]", asked))
    except ValidationError as err:
        errors = err.errors(include_url=False, include_context=True)
        said = dict.fromkeys(f"{where}: {_sentence(each)}" for each in errors)
        raise RequestError("\n".join(said)) from err


def _sentence(error: ErrorDetails) -> str:
    """Say one error in a sentence."""
    path = _path(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return _unknown(error["loc"])
        case "missing":
            return f"{path} is missing; every request needs one"
        case "value_error":
            said = error["msg"].removeprefix("Value error, ")
            return f"{path}: {said}" if path else said
        case "literal_error":
            expected = cast("Mapping[str, str]", error.get("ctx", {}))["expected"]
            return f"{path} is {error['input']!r}; write {expected}"
        case _:
            return f"{path} is {error['input']!r}: {error['msg'].lower()}"


def _unknown(loc: Sequence[int | str]) -> str:
    """Name the field that was meant."""
    model: type[BaseModel] = IngestRequest
    for part in loc[:-1]:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    known = list(model.model_fields)
    close = get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"there is no field {_path(loc)}; {meant}"


def _path(loc: Sequence[int | str]) -> str:
    """Write the place of a value: `bbox[1]`, `policy.every`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
