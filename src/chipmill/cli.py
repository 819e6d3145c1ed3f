"""chipmill: thin commands over the library; flows are started in Prefect."""

import logging
import secrets
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from chipmill.errors import ChipmillError
from chipmill.formats.webhook import encode_key
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.sensors import sensors as all_sensors
from chipmill.service.keys import run_key as derive
from chipmill.service.serve import master_keys
from chipmill.service.serve import serve as run_receiver
from chipmill.settings import Settings
from chipmill.steps.map import index_map
from chipmill.steps.merge import load_snapshot
from chipmill.steps.plan import load_plan
from chipmill.steps.preview import contact_sheet

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Satellite and aerial scenes into training batches. Settings are CHIPMILL_… variables.",
)
P = ParamSpec("P")

ChipSize = Annotated[int, typer.Option(help="Edge of a chip in pixels.")]
SnapshotName = Annotated[str, typer.Argument(help="Name of a snapshot.")]


def _sentence(command: Callable[P, None]) -> Callable[P, None]:
    """Turn chipmill's errors into one sentence on standard error and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ChipmillError as err:
            typer.echo(f"chipmill: {err}", err=True)
            raise typer.Exit(1) from err

    return run


@app.command()
@_sentence
def sensors() -> None:
    """List the sensors that chipmill knows, with their bands."""
    for name, sensor in sorted(all_sensors().items()):
        typer.echo(f"{name}: {', '.join(band.name for band in sensor.bands)}")


@app.command()
@_sentence
def secret() -> None:
    """Make a master secret for the receiver (CHIPMILL_WEBHOOK_MASTER)."""
    typer.echo(encode_key(secrets.token_bytes(32)))


@app.command()
@_sentence
def run_key(run: Annotated[str, typer.Argument(help="The team's name of the run.")]) -> None:
    """Print the key of a training run, derived from the master secret."""
    master = master_keys(Settings.load())[0]
    typer.echo(encode_key(derive(master, run)))


@app.command()
@_sentence
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8787,
) -> None:
    """Receive the webhooks of training loops."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run_receiver(Settings.load(), host=host, port=port)


@app.command()
@_sentence
def status() -> None:
    """Show the runs and megabatches of the ledger, and the bytes that they hold."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        for run in ledger.runs():
            typer.echo(f"run {run.id} reads {run.plan}: attempt {run.attempt}, {run.world} ranks")
        for row in ledger.megabatches():
            typer.echo(f"{row.id}  {row.state:<9} {row.reserved:>15,} bytes  {row.reason}".rstrip())
        typer.echo(f"{ledger.reserved():,} of {settings.budget:,} bytes are reserved")


@app.command()
@_sentence
def release(run: Annotated[str, typer.Argument(help="The team's name of the run.")]) -> None:
    """Stop waiting for the reports of a training run that is over or dead."""
    with Ledger.open(Settings.load().ledger) as ledger:
        for megabatch in ledger.release_run(run):
            typer.echo(f"{megabatch} is complete")


@app.command()
@_sentence
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


@app.command(name="map")
@_sentence
def map_(
    snapshot: SnapshotName = "latest",
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("map.html"),
    chip_size: ChipSize = 256,
) -> None:
    """Draw the chip index as an HTML page that opens without a server."""
    archive = Store.open(Settings.load().archive)
    found = load_snapshot(archive, snapshot, chip_size=chip_size)
    out.write_text(index_map(archive, found), encoding="utf-8")
    typer.echo(str(out))


@app.command()
@_sentence
def preview(
    snapshot: SnapshotName = "latest",
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("preview.png"),
    chip_size: ChipSize = 256,
) -> None:
    """Draw a contact sheet of usable chips as a PNG."""
    archive = Store.open(Settings.load().archive)
    found = load_snapshot(archive, snapshot, chip_size=chip_size)
    out.write_bytes(contact_sheet(archive, found))
    typer.echo(str(out))
