"""Commands of those who run chipmill: keys, the receiver, runs that are over."""

import secrets
from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.formats.webhook import encode_key
from chipmill.io.ledger import Ledger
from chipmill.service.keys import run_key as derive
from chipmill.service.logs import configure
from chipmill.service.serve import master_keys, token
from chipmill.service.serve import serve as run_receiver
from chipmill.settings import Settings


@app.command()
@sentence
def secret() -> None:
    """Make a master secret for the receiver (CHIPMILL_WEBHOOK_MASTER)."""
    typer.echo(encode_key(secrets.token_bytes(32)))


@app.command()
@sentence
def run_key(run: Annotated[str, typer.Argument(help="The team's name of the run.")]) -> None:
    """Print the key of a training run, derived from the master secret."""
    master = master_keys(Settings.load())[0]
    typer.echo(encode_key(derive(master, run)))


@app.command()
@sentence
def page_token() -> None:
    """Print the token that signs people in on the status page."""
    typer.echo(token(Settings.load()))


@app.command()
@sentence
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8787,
) -> None:
    """Receive the webhooks of training loops, and show the status page."""
    settings = Settings.load()
    configure(settings.log_format)
    run_receiver(settings, host=host, port=port)


@app.command()
@sentence
def release(
    run: Annotated[str, typer.Argument(help="The team's name of the run.")],
    *,
    plan: Annotated[str, typer.Option(help="Only on this plan; without it on all.")] = "",
) -> None:
    """Stop waiting for the reports of a training run that is over or dead."""
    with Ledger.open(Settings.load().ledger) as ledger:
        for megabatch in ledger.release_run(run, plan=plan):
            typer.echo(f"{megabatch} is complete")
