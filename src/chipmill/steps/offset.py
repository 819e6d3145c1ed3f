"""Judge whether a producer's offset is in the copied pixels: of the files, not of what is said."""

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import SceneError
from chipmill.formats.grid_reading import Json
from chipmill.io.raster import open_raster
from chipmill.io.store import Store
from chipmill.model.choice import BandSource, Choice
from chipmill.model.radiometry import OffsetChoice, OffsetEvidence, OffsetRule, darkest, judge
from chipmill.model.sensor import Band

_VALUES = 2**16
"""Digital numbers of 16 bits; an offset is added to no others."""


def offset_evidence(
    rule: OffsetRule,
    properties: Json,
    *,
    choice: Choice,
    keys: dict[str, str],
    archive: Store,
    asked: OffsetChoice,
) -> OffsetEvidence:
    """Look at the darkest pixels of the copied files and at what the item says.

    Reads some blocks of each band of long wavelength, at full resolution: an average of pixels, as
    overviews have it, is no dark pixel. Memory holds one block and a histogram.

    Args:
        rule: The producer's offset.
        properties: Of the provider's item.
        choice: The assets that were copied.
        keys: Where they are in the archive, by the key of the asset.
        archive: Where the files are.
        asked: What the user decided.

    Raises:
        SceneError: A file is damaged.
    """
    looked_at = [source for source in choice.bands if _is_long(source.band, rule)]
    found = {s.band.name: _darkest(s, keys[s.asset.key], archive) for s in looked_at}
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


def _darkest(source: BandSource, key: str, archive: Store) -> int | None:
    counts = np.zeros(_VALUES, np.int64)
    with open_raster(archive, key) as raster:
        if raster.header.dtype not in ("uint8", "uint16"):
            return None
        empty = raster.header.nodata
        for block in raster.sample(source.index):
            counts += _histogram(block)
    counts[0] = 0  # Sentinel-2 has 0 for nodata whatever the header names
    if empty is not None and 0 <= empty < _VALUES:
        counts[int(empty)] = 0
    return darkest(counts)


def _histogram(pixels: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.bincount(pixels.ravel(), minlength=_VALUES)
