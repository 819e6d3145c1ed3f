"""The command that says what chipmill believes of one scene."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.io.store import Store
from chipmill.model.inspection import Inspection
from chipmill.settings import Settings
from chipmill.steps.inspect import inspect_item

_LONGEST = 40
"""Letters of a CRS that has no code."""


@app.command()
@sentence
def inspect(
    item: Annotated[
        str,
        typer.Argument(help="Path or URL of a STAC item, or COLLECTION/ITEM of the archive."),
    ],
    sensor: Annotated[
        str | None, typer.Option(help="Sensor, where the item's collection does not tell it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,  # noqa: FBT002  # typer's form of a switch
) -> None:
    """Say what chipmill believes of a scene: bands, grids, quality, offset, findings."""
    seen = inspect_item(item, Store.open(Settings.load().archive), kind=sensor)
    if as_json:
        typer.echo(json.dumps(_plain(asdict(seen)), indent=1))
        return
    for line in _lines(seen):
        typer.echo(line)


def _plain(value: object) -> object:
    """Write NaN as text, which JSON does not have."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case list() | tuple():
            return [_plain(each) for each in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def _lines(seen: Inspection) -> Iterator[str]:
    yield f"{seen.item}: {seen.sensor}, {seen.platform or 'platform unknown'}, {seen.datetime}"
    box = ", ".join(f"{each:.5f}" for each in seen.bbox) if seen.bbox else "not stated"
    cloud = "not stated" if seen.cloud_cover is None else f"{seen.cloud_cover:g} %"
    yield f"bbox {box}; cloud {cloud}"
    yield "bands"
    for band in seen.bands:
        place = f"{band.asset} {band.index}"
        spectral = f"{band.wavelength} um, FWHM {band.fwhm} um" if band.wavelength else "no light"
        added = "offset unknown" if band.offset is None else f"+ {band.offset:g}"
        gsd = f"{band.gsd:g} m" if band.gsd else "gsd unknown"
        yield f"  {band.name:<12} {place:<16} {spectral:<28} {gsd:<10} x {band.scale:g} {added}"
    if seen.missing:
        yield f"  not in this scene: {', '.join(seen.missing)}"
    yield from _files(seen)
    for chips in seen.chips:
        count = f"{chips.rows} x {chips.cols} = {chips.rows * chips.cols}"
        yield f"chips of {chips.size} px: {count}, {chips.remainder:.1%} of the scene in none"
    yield from _judged(seen)


def _files(seen: Inspection) -> Iterator[str]:
    yield "files"
    for file in seen.files:
        size = f"{file.shape[0]} x {file.shape[1]} px" if file.shape else "size unknown"
        crs = (file.crs or "CRS unknown")[:_LONGEST]
        ratio = f", {file.ratio[0]:g} times the finest pixel" if file.ratio else ""
        nodata = "none" if file.nodata is None else f"{file.nodata:g}"
        yield f"  {file.asset:<12} {size}, {crs}, {file.dtype}, nodata {nodata}{ratio}"
        if file.why_not:
            yield f"    its header was not read, so this is the item's word: {file.why_not}"


def _judged(seen: Inspection) -> Iterator[str]:
    """Say what is judged of a scene: its quality band, its offset, its differences."""
    if seen.quality:
        yield f"quality from {seen.quality.asset}"
        for what, flags in (("nodata", seen.quality.nodata), ("cloud", seen.quality.cloud)):
            yield f"  {what}: " + "; ".join(f"{name} ({place})" for name, place in flags.items())
        yield from (f"  {each}" for each in seen.quality.differing)
    else:
        yield "no quality band: no cloud is counted"
    if seen.offset:
        said = ", ".join(f"{k} {v}" for k, v in seen.offset.items() if k != "verdict")
        yield f"offset {seen.offset['verdict']} ({said})"
    yield from (f"finding: {each}" for each in seen.findings)
    if seen.problem:
        yield f"would be quarantined: {seen.problem}"
