"""Commands on static exports."""

from typing import Annotated

import typer
from pydantic import ValidationError

from chipmill.cli.app import app, sentence
from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.export import Export
from chipmill.formats.rendering import Rendering
from chipmill.io.store import Store
from chipmill.model.export_request import ExportRequest
from chipmill.settings import Settings
from chipmill.steps.export import begin_export, export_scenes, export_shards
from chipmill.steps.render import render, render_shards, seal_renderings
from chipmill.steps.seal import list_exports, seal_export

PlanName = Annotated[str, typer.Argument(help="Name of a plan; or give --filter.")]
Filter = Annotated[
    str | None, typer.Option("--filter", help="CQL2, such as cloud <= 0.1; '' is every chip.")
]
Minibatch = Annotated[int, typer.Option(help="Chips per minibatch, with --filter.")]
ChipSize = Annotated[int, typer.Option(help="Edge of a chip in pixels, with --filter.")]
CodecName = Annotated[str, typer.Option(help="How packs are compressed: none, lz4 or zstd.")]
Forms = Annotated[list[str] | None, typer.Option(help="Further files: npz or webdataset; again.")]
Cube = Annotated[int, typer.Option(help="Chips of an npz cube.")]
Tar = Annotated[int, typer.Option(help="Chips of a tar file.")]
Name = Annotated[str, typer.Option(help="Name of the export; the plan's by default.")]


@app.command()
@sentence
def export(  # noqa: PLR0913 - an option for each thing that may be chosen
    plan: PlanName = "",
    *,
    filter_: Filter = None,
    minibatch: Minibatch = 256,
    chip_size: ChipSize = 256,
    name: Name = "",
    codec: CodecName = "none",
    form: Forms = None,
    cube: Cube = 128,
    tar: Tar = 1024,
) -> None:
    """Keep the chip packs of a plan or a filter in the archive for good; goes on if stopped."""
    said: dict[str, object] = {"name": name, "codec": codec, "cube": cube, "tar": tar}
    said["forms"] = form or ()
    if plan:
        said["plan"] = plan
    if filter_ is not None:
        said["chips"] = {
            "minibatch": minibatch,
            "chip_size": chip_size,
            "filter": filter_,
            "leftover": "spread",
            "few_scenes": True,
        }
    request = _request(said)
    archive = Store.open(Settings.load().archive)
    begun = begin_export(request, archive)
    shards = export_shards(begun, archive)
    for number, shard in enumerate(shards, start=1):
        written = export_scenes(shard, begun, archive)
        typer.echo(f"{shard}: {written} written; {number} of {len(shards)} parts", err=True)
    whole = seal_export(begun, archive)
    files = render_shards(whole.name, archive, forms=request.renderings)
    for number, files_of_one in enumerate(files, start=1):
        written = render(files_of_one, archive)
        typer.echo(f"{files_of_one}: {written} written; {number} of {len(files)} parts", err=True)
    _say(whole, archive)
    for each in seal_renderings(whole.name, archive, forms=request.renderings):
        _say_rendering(each, archive)


@app.command()
@sentence
def exports() -> None:
    """List the static exports of the archive that are whole."""
    archive = Store.open(Settings.load().archive)
    for each in list_exports(archive):
        _say(each, archive)


def _request(said: dict[str, object]) -> ExportRequest:
    try:
        return ExportRequest.model_validate(said)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise RequestError(
            f"the export is not usable: {where}: {what}".replace(": :", ":")
        ) from err


def _say(export: Export, archive: Store) -> None:
    url = archive.href(layout.export_prefix(export.name).rstrip("/"))
    size = sum(part.size for part in export.megabatches)
    typer.echo(f"{url}  plan {export.plan.plan}, {export.plan.usable:,} chips, {size:,} bytes")


def _say_rendering(rendering: Rendering, archive: Store) -> None:
    where = (rendering.export, rendering.form, rendering.chips_per_file)
    url = archive.href(layout.rendering_prefix(*where).rstrip("/"))
    chips = sum(file.chips for file in rendering.files)
    left = sum(rendering.left_over.values())
    typer.echo(
        f"{url}  {len(rendering.files)} files, {chips:,} chips"
        + (f"; {left:,} fill no whole file" if left else "")
    )
