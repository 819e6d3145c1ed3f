"""A scene of the archive: what its rewritten item says, which is what its files say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chipmill.model.grid import Grid
from chipmill.model.scene import BBox, SceneRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """One file of the archive."""

    key: str
    """Key in the archive."""
    grid: Grid
    dtype: str
    nodata: float | None
    """Digital number that means nodata: the header's, else the sensor's."""
    size: int | None = None
    """Bytes, as the item says."""
    checksum: str | None = None
    """Multihash of the bytes that were copied, as the item says."""
    quick: str | None = None
    """Of the same bytes a multihash that costs less, where the item has one."""
    flags: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)
    """What the item says of the flags of a quality band: `classification:…`, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedBand:
    """One band of a scene of the archive."""

    name: str
    common_name: str | None
    file: ArchivedFile
    index: int
    """Position in the file, counted from 1."""
    gsd: float
    """Pixel size of the file in metres."""
    wavelength: float | None
    fwhm: float | None
    """Both in micrometres."""
    scale: float
    offset: float
    mean: float | None
    std: float | None
    """Normalisation of the data set, in digital numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedScene:
    """One scene of the archive."""

    ref: SceneRef
    datetime: datetime
    bbox: BBox
    platform: str | None
    bands: tuple[ArchivedBand, ...]
    quality: ArchivedFile | None

    @property
    def finest(self) -> ArchivedBand:
        """The band whose grid the chips are cut on: the first of the finest."""
        return min(self.bands, key=lambda band: max(band.file.grid.pixel))
