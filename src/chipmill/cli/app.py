"""The application that every command joins, and how its errors are said."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from pydantic import ValidationError

from chipmill.errors import ChipmillError, RequestError
from chipmill.model.chip_filter import ChipFilter

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Satellite and aerial scenes into training batches. Settings are CHIPMILL_… variables.",
)
P = ParamSpec("P")


def sentence(command: Callable[P, None]) -> Callable[P, None]:
    """Turn chipmill's errors into one sentence on standard error and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ChipmillError as err:
            typer.echo(f"chipmill: {err}", err=True)
            raise typer.Exit(1) from err

    return run


def filter_of(text: str) -> ChipFilter:
    """Read a filter.

    Raises:
        RequestError: It is not CQL2.
    """
    try:
        return ChipFilter(text)
    except ValidationError as err:
        said = err.errors(include_url=False, include_context=False)[0]["msg"]
        raise RequestError(said.removeprefix("Value error, ")) from err
