"""preview: a contact sheet of chips, as a person would look at them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chipmill.errors import RequestError
from chipmill.formats.archived_item import read_archived
from chipmill.formats.pack import PackHeader, band_view
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.grid import ChipGrid
from chipmill.model.picture import as_shown, known_values, limits, stretched, three_bands
from chipmill.sensors import sensor
from chipmill.steps.cut import cut_chips, pack_header

_MARGIN, _LABEL, _CAPTION = 8, 26, 16
_PAPER, _INK, _FAINT = (255, 255, 255), (40, 40, 40), (110, 110, 110)
_COLUMNS = ["scene", "collection", "item_key", "row", "col", "cloud_fraction", "nodata_fraction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a contact sheet shows."""

    max_cloud: float | None = 0.30
    max_nodata: float | None = 0.0
    """Largest shares of a chip that is shown; None: all chips."""
    bands: tuple[str, ...] = ()
    """One band for grey or three for red, green, blue; empty: what suits the sensor."""
    seed: int | None = None
    """Draws scenes and chips by lot; None: the first scenes, chips spread over each."""
    chips: int = 8
    """Most chips of a scene."""
    scenes: int = 20
    """Most scenes."""
    edge: int = 128
    """Pixels of a chip on the sheet."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One scene on the sheet."""

    scene: str
    captions: list[str]
    layers: NDArray[np.float64]
    """Shape (chips, y, x, 3): not stretched, NaN where there is no data."""


def contact_sheet(archive: Store, snapshot: Snapshot, sheet: Sheet | None = None) -> bytes:
    """Draw chips of a snapshot, one line a scene, each line stretched for itself.

    Args:
        archive: Where the scenes are.
        snapshot: Which chips there are.
        sheet: What is shown; by default usable chips in true colour.

    Returns:
        A PNG.

    Raises:
        RequestError: No chip is left to show, or a scene has no such band.
    """
    sheet = sheet or Sheet()
    if len(sheet.bands) not in (0, 1, 3):
        raise RequestError(
            f"a picture has one band or three, not {len(sheet.bands)}; name a grey band or those "
            "for red, green and blue"
        )
    lines = [
        _line(archive, table, sheet, snapshot.chip_size)
        for table in _by_scene(archive, snapshot, sheet)
    ]
    if not lines:
        raise RequestError(
            f"no chip of snapshot {snapshot.snapshot} is within the limits; show all chips"
        )
    return _drawn([(line, stretched(line.layers, limits(line.layers))) for line in lines], sheet)


def _by_scene(archive: Store, snapshot: Snapshot, sheet: Sheet) -> list[pa.Table]:
    """Choose the scenes and the chips of each that are shown."""
    table = read_columns(archive, snapshot.chip_files, _COLUMNS, filters=_within(sheet))
    column = table["scene"].cast(pa.string())
    names = sorted(cast("list[str]", column.unique().to_pylist()))
    lot = None if sheet.seed is None else np.random.default_rng(sheet.seed)
    if lot is not None and len(names) > sheet.scenes:
        drawn: list[int] = lot.permutation(len(names))[: sheet.scenes].tolist()
        names = sorted(names[number] for number in drawn)
    chosen = [table.filter(pc.equal(column, pa.scalar(name))) for name in names[: sheet.scenes]]
    return [each.take(_places(len(each), sheet.chips, lot)) for each in chosen]


def _within(sheet: Sheet) -> "pc.Expression | None":
    limits_of = {"cloud_fraction": sheet.max_cloud, "nodata_fraction": sheet.max_nodata}
    found: pc.Expression | None = None
    for name, most in limits_of.items():
        if most is not None:
            fits = pc.field(name) <= pa.scalar(most, pa.float32())
            found = fits if found is None else found & fits
    return found


def _places(count: int, most: int, lot: np.random.Generator | None) -> NDArray[np.int64]:
    """Choose rows of a table, in order: spread evenly, or by lot."""
    if lot is not None:
        return np.sort(lot.permutation(count)[:most])
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def _line(archive: Store, table: pa.Table, sheet: Sheet, size: int) -> _Line:
    """Cut the chips of one scene, in the values that are shown."""
    item = json.loads(archive.get(str(table["item_key"][0].as_py())))
    scene = read_archived(item, key_of=archive.key_of)
    wanted = set(sheet.bands)
    if wanted:
        scene = replace(scene, bands=tuple(b for b in scene.bands if b.name in wanted))
    if missing := wanted - {band.name for band in scene.bands}:
        raise RequestError(f"{scene.ref} has no band {', '.join(sorted(missing))}")
    rows, cols = table["row"].to_numpy(), table["col"].to_numpy()
    order = np.lexsort((cols, rows))
    header = pack_header(scene, ChipGrid(grid=scene.finest.file.grid, size=size))
    cut = cut_chips(scene, header, archive=archive, rows=rows[order], cols=cols[order])
    records = np.concatenate([part for _, part in cut])
    captions = [
        f"{row}-{col}" + (f"  {cloud:.0%} cloud" if cloud else "")
        for row, col, cloud in zip(
            rows[order], cols[order], table["cloud_fraction"].to_numpy()[order], strict=True
        )
    ]
    layers = _layers(records, header, sheet.bands)
    return _Line(str(scene.ref), captions, layers)


def _layers(
    records: NDArray[np.uint8], header: PackHeader, wanted: Sequence[str]
) -> NDArray[np.float64]:
    """Give the shown bands of chips, in the size of the finest: shape (chips, y, x, 3)."""
    names = [band.name for band in header.bands]
    radar = _is_radar(header.collection)
    common = [band.common_name for band in header.bands]
    shown = [names.index(name) for name in wanted] or three_bands(names, common, radar=radar)
    values = [
        known_values(
            _full_size(band_view(records, band), header.chip_size),
            nodata=band.nodata,
            scale=band.scale,
            offset=band.offset,
        )
        for band in (header.bands[number] for number in shown)
    ]
    layers = np.stack(values, axis=-1)
    # One dark band of an aerial photograph is a dark pixel: empty is where all bands are.
    some = np.isfinite(layers).any(axis=-1, keepdims=True)
    return as_shown(np.where(some & ~np.isfinite(layers), 0.0, layers), radar=radar)


def _is_radar(collection: str) -> bool:
    """Tell radar by its table: it has bands, and none of them a wavelength of light."""
    kind = sensor(collection)
    return kind.decibels or (bool(kind.bands) and not any(band.spectral for band in kind.bands))


def _full_size(view: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """Repeat the pixels of a coarser band: shape (chips, size, size)."""
    factor = size // view.shape[1]
    return np.repeat(np.repeat(view, factor, axis=1), factor, axis=2)


def _drawn(lines: Sequence[tuple[_Line, NDArray[np.uint8]]], sheet: Sheet) -> bytes:
    """Lay the pictures out, with the name of each scene and the place of each chip."""
    step = sheet.edge + _LABEL + _CAPTION + _MARGIN
    widest = max(len(pictures) for _, pictures in lines)
    longest = max(len(line.scene) for line, _ in lines)
    font, small = ImageFont.load_default(size=14), ImageFont.load_default(size=11)
    width = max(widest * (sheet.edge + _MARGIN), longest * 8) + _MARGIN
    page = Image.new("RGB", (width, len(lines) * step + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, (line, pictures) in enumerate(lines):
        top = _MARGIN + number * step
        draw.text((_MARGIN, top + 4), line.scene, fill=_INK, font=font)
        for place, (picture, caption) in enumerate(zip(pictures, line.captions, strict=True)):
            image = Image.fromarray(picture).resize(
                (sheet.edge, sheet.edge), Image.Resampling.NEAREST
            )
            left = _MARGIN + place * (sheet.edge + _MARGIN)
            page.paste(image, (left, top + _LABEL))
            draw.text((left, top + _LABEL + sheet.edge + 1), caption, fill=_FAINT, font=small)
    sink = BytesIO()
    page.save(sink, "PNG")
    return sink.getvalue()
