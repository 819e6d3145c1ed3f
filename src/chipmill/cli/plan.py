"""Commands on plans."""

from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.io.store import Store
from chipmill.settings import Settings
from chipmill.steps.plan import load_plan


@app.command()
@sentence
def plan(name: Annotated[str, typer.Argument(help="Name of a plan.")]) -> None:
    """Show what a plan does, megabatch by megabatch."""
    found = load_plan(Store.open(Settings.load().archive), name)
    left_out = ", ".join(f"{count} for {reason}" for reason, count in found.left_out.items())
    typer.echo(f"snapshot {found.snapshot}, epoch {found.epoch}, seed {found.seed}")
    typer.echo(f"{found.usable} usable chips; left out: {left_out}")
    for number, planned in enumerate(found.megabatches):
        typer.echo(
            f"megabatch {number}: {planned.scenes} scenes, {planned.chips} chips, "
            f"{planned.minibatches} minibatches, {planned.left_over} chips left over, "
            f"at most {planned.size:,} bytes"
        )
