"""Commands that measure a data set."""

from typing import Annotated

import typer

from chipmill.cli.app import app, filter_of, sentence
from chipmill.formats.statistics import DataStatistics
from chipmill.io.store import Store
from chipmill.model.stats_request import StatsRequest
from chipmill.settings import Settings
from chipmill.steps.normalize import write_back as write_into_items
from chipmill.steps.stats import snapshot_statistics

SnapshotName = Annotated[str, typer.Argument(help="Name of a snapshot.")]
ChipSize = Annotated[int, typer.Option(help="Edge of a chip in pixels, for 'latest'.")]
MaxCloud = Annotated[float, typer.Option(min=0, max=1, help="Most cloud of a usable chip.")]
MaxNodata = Annotated[float, typer.Option(min=0, max=1, help="Most nodata of a usable chip.")]
Collections = Annotated[list[str] | None, typer.Option("--collection", help="Only this; again.")]
Filter = Annotated[
    str, typer.Option("--filter", help="CQL2, such as datetime >= DATE('2023-01-01').")
]
WriteBack = Annotated[bool, typer.Option(help="Write mean and deviation into the items.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the document.")]


@app.command()
@sentence
def stats(
    snapshot: SnapshotName = "latest",
    *,
    chip_size: ChipSize = 256,
    max_cloud: MaxCloud = 0.30,
    max_nodata: MaxNodata = 0.0,
    collection: Collections = None,
    filter_: Filter = "",
    write_back: WriteBack = False,
    as_json: AsJson = False,
) -> None:
    """Measure mean and deviation of each band over the usable chips of a snapshot."""
    archive = Store.open(Settings.load().archive)
    request = StatsRequest(
        snapshot=snapshot,
        chip_size=chip_size,
        max_cloud=max_cloud,
        max_nodata=max_nodata,
        collections=tuple(collection or ()),
        filter=filter_of(filter_),
    )
    found = snapshot_statistics(request, archive)
    changed = write_into_items(found, archive) if write_back else None
    typer.echo(found.model_dump_json(indent=1) if as_json else _table(found))
    if changed is not None:
        typer.echo(f"{changed} items have new figures", err=True)


def _table(found: DataStatistics) -> str:
    head = (
        f"statistics {found.statistics} of snapshot {found.snapshot}: {found.chips:,} usable chips "
        f"of {found.scenes:,} scenes\n"
        f"{'collection':<20} {'band':<14} {'mean':>14} {'std':>14} {'minimum':>14} {'maximum':>14}"
        f" {'pixels':>16}"
    )
    rows = [
        f"{band.collection:<20} {band.band:<14} {_figure(band.mean)} {_figure(band.std)} "
        f"{_figure(band.minimum)} {_figure(band.maximum)} {band.count:>16,}"
        + (" dB" if band.decibels else "")
        for band in found.bands
    ]
    return "\n".join([head, *rows])


def _figure(value: float | None) -> str:
    return f"{'none' if value is None else format(value, '.7g'):>14}"
