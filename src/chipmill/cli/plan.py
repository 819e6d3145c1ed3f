"""Commands on plans."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import yaml
from pydantic import ValidationError

from chipmill.cli.app import app, sentence
from chipmill.errors import RequestError
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.model.plan_request import PlanRequest
from chipmill.settings import Settings
from chipmill.steps.outline import Spread, outline, spreads
from chipmill.steps.plan import list_plans, load_plan, make_plan

plans = typer.Typer(no_args_is_help=True, help="Make plans, list them, show what they will do.")
app.add_typer(plans, name="plan")


@plans.command()
@sentence
def make(
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="Fields of the request, such as minibatch=512, split.side=train, mix.naip=2.",
        ),
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", help="CQL2, such as cloud <= 0.1 AND gsd < 5.")
    ] = "",
    request: Annotated[
        Path | None, typer.Option(help="A request as YAML or JSON; fields given here come first.")
    ] = None,
) -> None:
    """Plan an epoch of a snapshot and print its name; staging registers it."""
    said = _read(request) if request else {}
    for field in [*(fields or []), *([f"filter={json.dumps(filter_)}"] if filter_ else [])]:
        _set(said, field)
    plan = make_plan(_request(said), Store.open(Settings.load().archive))
    typer.echo(plan.plan)


@plans.command(name="list")
@sentence
def list_() -> None:
    """List the plans of the archive."""
    for plan in list_plans(Store.open(Settings.load().archive)):
        minibatches = sum(part.minibatches for part in plan.megabatches)
        typer.echo(
            f"{plan.plan}  snapshot {plan.snapshot}, epoch {plan.epoch}, seed {plan.seed}: "
            f"{len(plan.megabatches)} megabatches, {minibatches} minibatches, {plan.usable} chips"
        )


@plans.command()
@sentence
def show(
    name: Annotated[str, typer.Argument(help="Name of a plan.")],
    *,
    first: Annotated[int, typer.Option(help="How many megabatches to draw.", min=0)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a plan will do, and where on earth its first megabatches are."""
    archive = Store.open(Settings.load().archive)
    plan = load_plan(archive, name)
    drawn = spreads(archive, plan, first=first)
    if as_json:
        said = {**plan.model_dump(mode="json"), "spread": [asdict(each) for each in drawn]}
        typer.echo(json.dumps(said, indent=1))
    else:
        _show(plan, drawn)


def _show(plan: Plan, drawn: list[Spread]) -> None:
    numbers = outline(plan)
    wide = max(map(len, numbers)) + 2
    for name, value in numbers.items():
        typer.echo(f"{name:<{wide}}{value}")
    for number, part in enumerate(plan.megabatches):
        typer.echo(
            f"megabatch {number}: {part.scenes} scenes, {part.chips} chips, "
            f"{part.minibatches} minibatches, {part.left_over} chips left over, "
            f"at most {part.size:,} bytes"
        )
    for spread in drawn:
        shares = ", ".join(f"{place} {share:.0%}" for place, share in [*spread.shares.items()][:6])
        typer.echo(f"megabatch {spread.megabatch} is in {spread.cells} cells of 10°; {shares}")
        for line in spread.picture:
            typer.echo(f"  |{line}|")


def _read(path: Path) -> dict[str, Any]:
    """Read a request from a file."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise RequestError(f"the request {path} cannot be read ({err}); give YAML or JSON") from err
    if not isinstance(said, dict):
        raise RequestError(f"the request {path} has no fields; write one a line, as minibatch: 512")
    return cast("dict[str, Any]", said)


def _set(said: dict[str, Any], field: str) -> None:
    """Set a field, of which the name may lead into another: split.side=train."""
    name, equals, value = field.partition("=")
    if not equals:
        raise RequestError(f"{field!r} is no field of a request; write name=value")
    *way, last = name.split(".")
    for step in way:
        inner: object = said.setdefault(step, {})
        if not isinstance(inner, dict):
            raise RequestError(f"{name} cannot be set, as {step} is given as a whole")
        said = cast("dict[str, Any]", inner)
    try:
        said[last] = yaml.safe_load(value)
    except yaml.YAMLError as err:
        raise RequestError(f"{field!r} has no readable value; quote it as in YAML") from err


def _request(said: dict[str, Any]) -> PlanRequest:
    """Check a request."""
    try:
        return PlanRequest.model_validate(said)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"the request is not usable: {where}: {what}") from err
