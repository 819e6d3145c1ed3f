"""The command that stages."""

import sys
from socket import gethostname
from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.manner import Manner
from chipmill.model.staging_progress import StagingProgress
from chipmill.settings import Settings
from chipmill.steps.prefetch import stage_ahead


@app.command()
@sentence
def stage(
    plan: Annotated[str, typer.Argument(help="Name of the plan.")],
    *,
    ahead: Annotated[
        int, typer.Option(help="Megabatches kept ready beyond the one in use.", min=0)
    ] = 1,
) -> None:
    """Put megabatches of a plan on fast storage here and now, as far as the budget goes."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        staged = stage_ahead(
            plan,
            archive=Store.open(settings.archive, patience=settings.patience),
            fast=settings.fast,
            ledger=ledger,
            budget=settings.budget,
            worker=f"chipmill stage on {gethostname()}",
            ahead=ahead,
            manner=Manner.of(settings, tell=_tell),
        )
    for done in staged:
        typer.echo(
            f"{done.megabatch}: {done.chips} chips of {done.scenes} scenes, "
            f"{done.size / 1e6:,.1f} MB"
        )
    if not staged:
        typer.echo("nothing is staged now: enough is ready, or there is no room (chipmill status)")


def _tell(now: StagingProgress) -> None:
    """Say how far it is: on a terminal in one line that changes, else a line each time."""
    terminal = sys.stderr.isatty()
    end = now.scenes == now.of_scenes
    typer.echo(f"\r\033[K{now}" if terminal else str(now), nl=end or not terminal, err=True)
