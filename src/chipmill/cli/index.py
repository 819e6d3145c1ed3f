"""The command that indexes scenes where their files lie."""

from pathlib import Path
from typing import Annotated

import typer

from chipmill.cli.app import app, check_out, sentence
from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.chip_index import encode_part
from chipmill.io.store import Store
from chipmill.model.plan_request import PlanRequest
from chipmill.settings import Settings
from chipmill.steps.index import Counted, index_item
from chipmill.url import expanded

_NAMES = ("scene", "chips", "usable", "cloud", "nodata", "remainder", "km2")
_LINE = "{:<44} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10}"
_KM2 = 1e6


@app.command()
@sentence
def index(
    items: Annotated[
        list[str],
        typer.Argument(help="Items: paths, URLs, or scenes of the archive as collection/item."),
    ],
    chip_size: Annotated[
        int, typer.Option(help="Edge of a chip in pixels.", min=16, max=4096)
    ] = 256,
    out: Annotated[
        Path | None, typer.Option(help="Parquet file of one scene, or a folder for several.")
    ] = None,
    bands: Annotated[
        str, typer.Option(help="chipmill's names of bands, with commas; else the sensor's default.")
    ] = "",
    sensor: Annotated[
        str | None, typer.Option(help="The scenes' sensor; else told by their collection.")
    ] = None,
) -> None:
    """Count cloud and nodata of every chip of scenes where they lie, without an archive."""
    if out and len(items) > 1 and not out.is_dir():
        raise RequestError(f"{out} is no folder; {len(items)} scenes need one for their files")
    if out and not out.is_dir():
        check_out(out)
    names = tuple(filter(None, bands.split(",")))
    for number, item in enumerate(items):
        counted = index_item(_href(item), sensor_name=sensor, bands=names, chip_size=chip_size)
        if out:
            typer.echo(str(_written(counted, out)))
            continue
        if number == 0:
            typer.echo(_LINE.format(*_NAMES))
        typer.echo(_said(counted))


def _href(item: str) -> str:
    """Give the place of an item; what is neither a URL nor a file is a scene of the archive."""
    collection, _, name = item.partition("/")
    if "://" in item or expanded(item).exists() or not name or item.endswith(".json"):
        return item
    return Store.open(Settings.load().archive).href(layout.item_key(collection, name))


def _written(counted: Counted, out: Path) -> Path:
    _, data = encode_part(counted.scene, counted.columns)
    name = layout.segment(counted.scene.item)
    path = out / f"{name}.parquet" if out.is_dir() else out
    path.write_bytes(data)
    return path


def _said(counted: Counted) -> str:
    """Say what a plan with the default limits would find in a scene."""
    cloud, nodata = counted.shares.cloud, counted.shares.nodata
    limits = PlanRequest.model_fields
    usable = (cloud <= limits["max_cloud"].default) & (nodata <= limits["max_nodata"].default)
    return _LINE.format(
        counted.scene.scene,
        cloud.size,
        int(usable.sum()),
        f"{cloud.mean():.1%}",
        f"{nodata.mean():.1%}",
        f"{counted.scene.remainder:.1%}",
        f"{(counted.scene.remainder_area or 0) / _KM2:.4g}",
    )
