"""Commands that draw the chip index."""

from pathlib import Path
from typing import Annotated

import typer

from chipmill.cli.app import app, check_out, filter_of, sentence
from chipmill.errors import RequestError
from chipmill.io.store import Store
from chipmill.settings import Settings
from chipmill.steps.map import index_map, parts_map
from chipmill.steps.merge import load_snapshot
from chipmill.steps.preview import Sheet, contact_sheet

ChipSize = Annotated[int, typer.Option(help="Edge of a chip in pixels, for 'latest'.")]
SnapshotName = Annotated[str, typer.Argument(help="Name of a snapshot.")]
Drawn = Annotated[
    list[str] | None, typer.Argument(help="Name of a snapshot, or Parquet files of index parts.")
]
MaxCloud = Annotated[float, typer.Option(min=0, max=1, help="Most cloud of a usable chip.")]
MaxNodata = Annotated[float, typer.Option(min=0, max=1, help="Most nodata of a usable chip.")]
Filter = Annotated[
    str, typer.Option("--filter", help="Draw only these: CQL2, such as cloud <= 0.1 AND gsd < 5.")
]
Bands = Annotated[str, typer.Option(help="One band, or three for red,green,blue.")]
Usable = Annotated[bool, typer.Option("--usable/--all", help="Usable chips only, or all.")]
Seed = Annotated[int | None, typer.Option(help="Draw scenes and chips by lot.", min=0)]


@app.command(name="map")
@sentence
def map_(
    drawn: Drawn = None,
    *,
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("map.html"),
    chip_size: ChipSize = 256,
    max_cloud: MaxCloud = 0.30,
    max_nodata: MaxNodata = 0.0,
    filter_: Filter = "",
) -> None:
    """Draw the chip index as an HTML page that opens without a server or a network."""
    check_out(out)
    names = drawn or ["latest"]
    limits = {"max_cloud": max_cloud, "max_nodata": max_nodata}
    chosen = filter_of(filter_)
    if all(name.endswith(".parquet") for name in names):
        page = parts_map([Path(name) for name in names], chosen=chosen, **limits)
    elif len(names) == 1:
        archive = Store.open(Settings.load().archive)
        snapshot = load_snapshot(archive, names[0], chip_size=chip_size)
        page = index_map(archive, snapshot, chosen=chosen, **limits)
    else:
        raise RequestError(
            f"{' '.join(names)} are neither one snapshot nor Parquet files; draw one snapshot, or "
            "index parts"
        )
    out.write_text(page, encoding="utf-8")
    typer.echo(str(out))


@app.command()
@sentence
def preview(
    snapshot: SnapshotName = "latest",
    *,
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("preview.png"),
    chip_size: ChipSize = 256,
    bands: Bands = "",
    usable: Usable = True,
    max_cloud: MaxCloud = 0.30,
    max_nodata: MaxNodata = 0.0,
    seed: Seed = None,
) -> None:
    """Draw a contact sheet of chips as a PNG: true colour, or your bands."""
    check_out(out)
    archive = Store.open(Settings.load().archive)
    found = load_snapshot(archive, snapshot, chip_size=chip_size)
    sheet = Sheet(
        max_cloud=max_cloud if usable else None,
        max_nodata=max_nodata if usable else None,
        bands=tuple(name.strip() for name in bands.split(",") if name.strip()),
        seed=seed,
    )
    out.write_bytes(contact_sheet(archive, found, sheet))
    typer.echo(str(out))
