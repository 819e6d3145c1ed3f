"""Judge whether a producer's offset is in the copied pixels: of the files, not of what is said."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import SceneError
from chipmill.formats.grid_reading import Json
from chipmill.io.raster import Raster
from chipmill.model.choice import BandSource, Choice
from chipmill.model.grid import Grid
from chipmill.model.radiometry import OffsetChoice, OffsetEvidence, OffsetRule, darkest, judge
from chipmill.model.sensor import Band

Opened = Callable[[str], AbstractContextManager[Raster]]
TILE = 512
TILES = 16
"""Of each band so many tiles of so many pixels a side: four million pixels, 3 % of a whole one."""
_VALUES = 2**16
"""Digital numbers of 16 bits; an offset is added to no others."""


def offset_evidence(
    rule: OffsetRule,
    properties: Json,
    *,
    choice: Choice,
    opened: Opened,
    asked: OffsetChoice,
) -> OffsetEvidence:
    """Look at the darkest pixels of the copied files and at what the item says.

    Reads some tiles of each band of long wavelength, at full resolution: an average of pixels, as
    overviews have it, is no dark pixel. Memory holds one tile and a histogram.

    Args:
        rule: The producer's offset.
        properties: Of the provider's item.
        choice: The assets that were copied.
        opened: Opens the file of an asset by its key.
        asked: What the user decided.

    Raises:
        SceneError: A file is damaged.
    """
    looked_at = [source for source in choice.bands if _is_long(source.band, rule)]
    found = {s.band.name: _darkest(s, opened) for s in looked_at}
    return judge(
        rule,
        properties,
        stated=stated_offset(choice),
        darkest={name: number for name, number in found.items() if number is not None},
        asked=asked,
    )


def refuse_unknown(evidence: OffsetEvidence, *, where: str) -> None:
    """Stop where the offset cannot be told: numbers of two kinds must not meet in training.

    Raises:
        SceneError: The evidence is not enough, or speaks against itself; `where` names the scene.
    """
    if evidence.verdict != "cannot tell":
        return
    dark = ", ".join(f"{name} {number}" for name, number in evidence.darkest.items()) or "none read"
    raise SceneError(
        f"it cannot be told whether the offset is in the pixels of {where}: baseline "
        f"{evidence.baseline}, flag {evidence.flag}, offset in the item {evidence.stated}, darkest "
        f"hundredth of the pixels {dark}; decide with `offset` in the request, or drop the scene"
    )


def stated_offset(choice: Choice) -> float | None:
    """Give the offset that the item states for the first band that has one."""
    said = (
        source.asset.bands[source.index - 1].offset
        for source in choice.bands
        if source.index <= len(source.asset.bands)
    )
    return next((offset for offset in said if offset is not None), None)


def _is_long(band: Band, rule: OffsetRule) -> bool:
    return any(each.wavelength >= rule.from_wavelength for each in band.spectral.values())


def _darkest(source: BandSource, opened: Opened) -> int | None:
    counts = np.zeros(_VALUES, np.int64)
    with opened(source.asset.key) as raster:
        if raster.header.dtype not in ("uint8", "uint16"):
            return None
        empty = raster.header.nodata
        for tile in _tiles(raster.header.grid):
            counts += _histogram(raster.window(*tile, bands=(source.index,)))
    counts[0] = 0  # Sentinel-2 has 0 for nodata whatever the header names
    if empty is not None and 0 <= empty < _VALUES:
        counts[int(empty)] = 0
    return darkest(counts)


def _tiles(grid: Grid) -> Iterator[tuple[int, int, int, int]]:
    """Give the tiles that are read: top, left, height, width; evenly over the file."""
    rows, cols = -(-grid.height // TILE), -(-grid.width // TILE)
    count = min(TILES, rows * cols)
    for number in range(count):
        row, col = divmod(number * rows * cols // count, cols)
        top, left = row * TILE, col * TILE
        yield top, left, min(TILE, grid.height - top), min(TILE, grid.width - left)


def _histogram(pixels: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.bincount(pixels.ravel(), minlength=_VALUES)
