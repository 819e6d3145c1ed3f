"""The command that puts everything on a Prefect server."""

from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.service.deploy import deploy as put
from chipmill.settings import Settings


@app.command()
@sentence
def deploy(
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="Type of the work pool: process, ecs, or another whose pool is there. Without it "
            "the pool stays as it is, and a new one is of processes.",
        ),
    ] = None,
) -> None:
    """Put work pool, deployments, limits and automations on the Prefect server; twice is once."""
    put(Settings.load(), kind=kind, tell=typer.echo)
