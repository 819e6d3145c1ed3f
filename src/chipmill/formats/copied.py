"""What the item of the archive is made of: the provider's item and what the copied files say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from chipmill.formats.grid_reading import Json
from chipmill.formats.provenance import AssetRecord
from chipmill.model.choice import Choice, FileBands
from chipmill.model.grid import Grid
from chipmill.model.radiometry import OffsetEvidence
from chipmill.model.scene import BBox, Scene
from chipmill.model.sensor import Sensor

AssetStatistics = Mapping[str, Mapping[int, Json]]
"""By the key of an asset and the position of a band in it: STAC's `statistics`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file says of itself."""

    grid: Grid
    bands: FileBands
    dtype: str
    header_nodata: float | None
    """Digital number that means nodata as the header names it."""
    nodata: float | None
    """The same; where the header names none, what the item or the sensor's table says."""
    resolution: float
    """Pixel size in metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile(FileFacts):
    """What is known of a copied file."""

    href: str
    record: AssetRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedScene:
    """All that an item of the archive is made of."""

    item: Json
    """The provider's item, as it came."""
    scene: Scene
    """The same, parsed."""
    sensor: Sensor
    choice: Choice
    """The assets that were copied."""
    files: Mapping[str, CopiedFile]
    """By the key of the asset."""
    extent: BBox
    """Box of the finest file in degrees."""
    offset: OffsetEvidence | None = None
    """Of a sensor that may have an offset in its pixels."""
    statistics: AssetStatistics = field(default_factory=dict[str, Mapping[int, Json]])
    """Of the bands that are measured."""

    @property
    def properties(self) -> Json:
        """The properties of the provider's item."""
        return cast("Json", self.item.get("properties") or {})

    def raw_asset(self, key: str) -> Json:
        """Give an asset of the provider's item as it came."""
        return cast("Json", self.item["assets"][key])
