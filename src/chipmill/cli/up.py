"""The command that runs everything on one machine."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.service.up import Place
from chipmill.service.up import up as run
from chipmill.settings import Settings
from chipmill.url import expanded


@app.command()
@sentence
def up(
    home: Annotated[
        Path, typer.Option(help="Folder for what is not set: archive, ledger, secrets, logs.")
    ] = Path(".chipmill"),
    prefect_port: Annotated[
        int, typer.Option(help="Port of the Prefect server.", min=1, max=65535)
    ] = 4200,
    port: Annotated[
        int, typer.Option(help="Port of the receiver and its page.", min=1, max=65535)
    ] = 8787,
) -> None:
    """Run Prefect server, worker and receiver on this machine until Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    place = Place(home=expanded(home).resolve(), prefect_port=prefect_port, port=port)
    run(Settings.load(), place, tell=typer.echo)
