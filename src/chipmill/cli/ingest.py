"""The command that brings scenes into the archive, or says what that would take."""

import asyncio
import logging
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import httpx
import typer

from chipmill.cli.app import app, sentence
from chipmill.errors import RequestError
from chipmill.formats.request_file import read_request
from chipmill.io.store import Store
from chipmill.io.tiles import is_inline
from chipmill.model.access import Access, is_local
from chipmill.model.ingest_request import IngestRequest
from chipmill.service.prefect_api import start_flow
from chipmill.settings import Settings
from chipmill.steps.estimate import Estimate, estimate
from chipmill.steps.ingest import ingest_scenes
from chipmill.steps.search import Listed, check_request, list_scenes
from chipmill.url import is_relative

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@app.command()
@sentence
def ingest(
    request: Annotated[Path, typer.Option(help="The request, as YAML.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Search, and say what a run would take.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Run in this process, also where Prefect is.")
    ] = False,
) -> None:
    """Bring scenes into the archive: by Prefect where PREFECT_API_URL is set, else here."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("chipmill").setLevel(logging.INFO)
    asked, settings = _read(request), Settings.load()
    if dry_run:
        _say(_estimated(asked, settings))
    elif settings.has_prefect and not local:
        check_request(asked)  # the flow would refuse it too, a minute later
        typer.echo(f"flow run {asyncio.run(_start(asked, settings))} is on its way")
    else:
        _run(asked, settings)


def _read(path: Path) -> IngestRequest:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise RequestError(f"the request {path} cannot be read ({err})") from err
    return read_request(text, where=str(path))


def _estimated(asked: IngestRequest, settings: Settings) -> Estimate:
    archive, access, found = _searched(asked, settings)
    return estimate(asked, found.scenes, archive, access=access, throughput=settings.throughput)


def _searched(asked: IngestRequest, settings: Settings) -> tuple[Store, Access, Listed]:
    archive = Store.open(settings.archive, patience=settings.patience)
    access = Access.of(settings, local=is_local(asked.catalog))
    found = list_scenes(
        asked,
        archive,
        at_once=settings.searches_at_once,
        rate=settings.search_rate,
        access=access,
    )
    return archive, access, found


def _run(asked: IngestRequest, settings: Settings) -> None:
    archive, access, found = _searched(asked, settings)
    at_once = settings.copies_at_once
    done, snapshot = ingest_scenes(asked, found.scenes, archive, at_once=at_once, access=access)
    for finding in done.findings:
        typer.echo(f"{finding.collection}/{finding.item} is {finding.kind}: {finding.reason}")
    tally = done.tally
    typer.echo(
        f"{len(done.scenes)} of {len(found.scenes)} scenes are indexed: "
        f"{tally.get('copied', 0)} assets copied ({tally.get('bytes', 0) / 1e6:,.1f} MB), "
        f"{tally.get('skipped', 0)} there already, {tally.get('chips', 0):,} chips"
    )
    if found.over_limit:
        typer.echo(f"{found.over_limit:,} scenes are left out by the limit of {asked.limit:,}")
    if found.unreadable:
        typer.echo(f"{found.unreadable:,} items of the catalogue cannot be read and are left out")
    typer.echo(f"snapshot {snapshot.snapshot}")


async def _start(asked: IngestRequest, settings: Settings) -> str:
    parameters = {"request": _from_anywhere(asked).model_dump(mode="json")}
    async with httpx.AsyncClient(
        base_url=settings.prefect_api, headers=settings.prefect_headers, timeout=30
    ) as client:
        return await start_flow(client, "ingest", parameters, key=uuid4().hex)


def _from_anywhere(asked: IngestRequest) -> IngestRequest:
    """Name files of this machine for a run that starts in another directory."""
    tiles = asked.tiles
    if tiles.file:
        tiles = tiles.model_copy(update={"file": _absolute(tiles.file)})
    changed = {"catalog": _absolute(asked.catalog), "tiles": tiles}
    if asked.geometry and not is_inline(asked.geometry):
        changed["geometry"] = _absolute(asked.geometry)
    return asked.model_copy(update=changed)


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if is_relative(place) else place


def _say(found: Estimate) -> None:
    need = found.need
    typer.echo(f"scenes       {need.scenes:,}")
    for scene, reason in found.unusable.items():
        typer.echo(f"  {scene} cannot be used: {reason}")
    typer.echo(f"assets       {need.assets:,}, {_size(need.bytes)}{_doubt(found)}")
    typer.echo(f"chips        {need.chips:,}, before cloud and nodata")
    typer.echo(
        f"archive      {need.objects:,} objects, {_size(need.bytes)}; {need.writes:,} writes, "
        f"{need.reads:,} reads at the providers"
    )
    typer.echo(
        f"fast storage {_size(need.fast)} at most for all chips, {_size(need.largest_scene)} for "
        "the largest scene"
    )
    typer.echo(f"time         {_time(found)}")


def _doubt(found: Estimate) -> str:
    need = found.need
    said = [
        f"{need.estimated:,} of them estimated from a sample" if need.estimated else "",
        f"{need.unknown:,} of them of unknown size" if need.unknown else "",
    ]
    return "".join(f", {part}" for part in said if part)


def _time(found: Estimate) -> str:
    if found.throughput is None or found.seconds is None:
        return "unknown: no asset could be read; set CHIPMILL_THROUGHPUT"
    source = "measured on a sample now" if found.is_measured else "as CHIPMILL_THROUGHPUT says"
    hours, rest = divmod(round(found.seconds), 3600)
    return (
        f"{hours}:{rest // 60:02d}:{rest % 60:02d} to copy, at {_size(round(found.throughput))}/s, "
        f"{source}"
    )


def _size(number: int) -> str:
    """Write bytes in the unit that a person would choose."""
    step = min((len(str(number)) - 1) // 3, len(_UNITS) - 1)
    return f"{number / 1000**step:,.1f} {_UNITS[step]}"
