"""The application that every command joins, and how its errors are said."""

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
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
    """Turn errors of chipmill and of files into one sentence on standard error and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ChipmillError as err:
            typer.echo(f"chipmill: {err}", err=True)
            raise typer.Exit(1) from err
        except OSError as err:
            where = err.filename or "a file or a connection"
            typer.echo(f"chipmill: {where} cannot be used ({err.strerror or err})", err=True)
            raise typer.Exit(1) from err

    return run


def check_out(path: Path) -> None:
    """Tell before the work whether a file can be written there.

    Raises:
        RequestError: It is a folder, or lies in none.
    """
    if path.is_dir():
        raise RequestError(f"{path} is a folder; name a file in it by --out")
    if not path.absolute().parent.is_dir():
        raise RequestError(f"{path} lies in no folder that is there; make it, or choose another")


def finite(value: float) -> float:
    """Refuse NaN, which no bound of an option does."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number")
    return value


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
