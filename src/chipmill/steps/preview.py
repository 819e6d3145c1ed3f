"""preview: a contact sheet of chips, as a person would look at them."""

import json
import logging
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chipmill.formats.archived_item import read_archived
from chipmill.formats.pack import PackHeader, band_view
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.grid import ChipGrid
from chipmill.steps.cut import cut_chips, pack_header

log = logging.getLogger(__name__)

TRUE_COLOUR = ("red", "green", "blue")
DARKEST, BRIGHTEST = 2, 98
"""Percentiles of a scene's shown pixels that become black and white."""
_MARGIN, _LABEL = 8, 28
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def contact_sheet(
    archive: Store,
    snapshot: Snapshot,
    *,
    max_cloud: float = 0.30,
    chips: int = 8,
    scenes: int = 20,
    edge: int = 128,
) -> bytes:
    """Draw usable chips of a snapshot: one line a scene, spread over the scene.

    True colour where a scene has it, else its first three bands; stretched for each scene.

    Args:
        archive: Where the scenes are.
        snapshot: Which chips there are.
        max_cloud: Largest share of cloud of a chip that is shown.
        chips: Most chips of a scene.
        scenes: Most scenes.
        edge: Pixels of a chip on the sheet.

    Returns:
        A PNG.
    """
    lines = [
        (str(scene), _scene_chips(archive, table, snapshot.chip_size, chips))
        for scene, table in _by_scene(archive, snapshot, max_cloud)[:scenes]
    ]
    width = chips * (edge + _MARGIN) + _MARGIN
    height = len(lines) * (edge + _LABEL + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for number, (name, pictures) in enumerate(lines):
        top = _MARGIN + number * (edge + _LABEL + _MARGIN)
        draw.text((_MARGIN, top + 4), name, fill=_INK, font=font)
        for place, picture in enumerate(pictures):
            image = Image.fromarray(picture).resize((edge, edge), Image.Resampling.NEAREST)
            sheet.paste(image, (_MARGIN + place * (edge + _MARGIN), top + _LABEL))
    sink = BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def _by_scene(archive: Store, snapshot: Snapshot, max_cloud: float) -> list[tuple[str, pa.Table]]:
    """List the scenes that have usable chips, each with them."""
    columns = ["scene", "item_key", "row", "col", "cloud_fraction", "nodata_fraction"]
    usable = (pc.field("cloud_fraction") <= max_cloud) & (pc.field("nodata_fraction") == 0)
    table = read_columns(archive, snapshot.chip_files, columns, filters=usable)
    names = table["scene"].cast(pa.string())
    return [(str(name), table.filter(pc.equal(names, name))) for name in pc.unique(names)]


def _scene_chips(archive: Store, table: pa.Table, size: int, most: int) -> list[NDArray[np.uint8]]:
    """Cut some chips of a scene, evenly spread, as pictures of shape (y, x, 3)."""
    picks = np.unique(np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int))
    item = json.loads(archive.get(str(table["item_key"][0].as_py())))
    scene = read_archived(item, key_of=archive.key_of)
    header = pack_header(scene, ChipGrid(grid=scene.finest.file.grid, size=size))
    rows = table["row"].to_numpy()[picks]
    cols = table["col"].to_numpy()[picks]
    order = np.lexsort((cols, rows))
    cut = cut_chips(scene, header, archive=archive, rows=rows[order], cols=cols[order])
    records = np.concatenate([part for _, part in cut])
    return list(_stretched(_colours(records, header)))


def _colours(records: NDArray[np.uint8], header: PackHeader) -> NDArray[Any]:
    """Give three bands of chips, in the size of the finest: shape (chips, y, x, 3)."""
    by_name = {band.name: band for band in header.bands}
    shown = [by_name[name] for name in TRUE_COLOUR if name in by_name]
    if len(shown) < len(TRUE_COLOUR):
        # Long waves as red, short ones as blue; a scene of one or two bands repeats its first.
        shown = [*reversed(header.bands[-3:]), header.bands[0], header.bands[0]][:3]
    return np.stack([_full_size(band_view(records, band), header.chip_size) for band in shown], -1)


def _full_size(view: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeat the pixels of a coarser band: shape (chips, size, size)."""
    factor = size // view.shape[1]
    return np.repeat(np.repeat(view, factor, axis=1), factor, axis=2)


def _stretched(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch each band between two percentiles: shape (chips, y, x, 3), 0 to 255."""
    low = np.percentile(pixels, DARKEST, axis=(0, 1, 2))
    high = np.percentile(pixels, BRIGHTEST, axis=(0, 1, 2))
    share = (pixels - low) / np.maximum(high - low, 1e-9)
    return (np.clip(share, 0, 1) * 255).astype(np.uint8)
