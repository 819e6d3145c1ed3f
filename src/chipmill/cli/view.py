"""Commands that draw the chip index."""

from pathlib import Path
from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.io.store import Store
from chipmill.settings import Settings
from chipmill.steps.map import index_map
from chipmill.steps.merge import load_snapshot
from chipmill.steps.preview import contact_sheet

ChipSize = Annotated[int, typer.Option(help="Edge of a chip in pixels.")]
SnapshotName = Annotated[str, typer.Argument(help="Name of a snapshot.")]


@app.command(name="map")
@sentence
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
@sentence
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
