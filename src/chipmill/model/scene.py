"""A scene: one STAC item with its assets, parsed once at the border."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chipmill.model.grid import Affine

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east crosses the antimeridian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRef:
    """The name of a scene in the archive; what tasks hand on."""

    collection: str
    """Collection in the archive: the sensor's name."""
    item: str

    def __str__(self) -> str:
        """Give the name that people and logs use, `<collection>/<item>`."""
        return f"{self.collection}/{self.item}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetBand:
    """One band as the item describes it, whatever its STAC version."""

    name: str | None = None
    common_name: str | None = None
    scale: float | None = None
    offset: float | None = None
    wavelength: float | None = None
    fwhm: float | None = None
    """Both in micrometres."""
    dtype: str | None = None
    nodata: float | None = None
    """NaN and the infinities included."""
    resolution: float | None = None
    """Pixel size in metres, as the item states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedGrid:
    """What an item says of the grid of a file (projection extension); the file may differ."""

    crs: str | None = None
    """A code as `EPSG:32633`, WKT2, or PROJJSON."""
    shape: tuple[int, int] | None = None
    """Height, width."""
    transform: Affine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternate:
    """Another place of a file (alternate-assets extension)."""

    href: str
    requester_pays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file of a scene."""

    key: str
    href: str
    """Absolute, without a signature."""
    media_type: str | None = None
    roles: tuple[str, ...] = ()
    gsd: float | None = None
    """Pixel size as the item states it for this file; in metres, where the item is right."""
    bands: tuple[AssetBand, ...] = ()
    size: int | None = None
    """Bytes, where the item states them."""
    checksum: str | None = None
    """Multihash in hex, where the item states one."""
    requester_pays: bool = False
    """Whether the item says that who reads `href` pays for the transfer (storage extension)."""
    alternates: tuple[Alternate, ...] = ()
    """Other places of the same file, in the order of the item."""
    grid: StatedGrid = StatedGrid()
    quality: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)
    """What the item says of the flags of a quality band: `classification:…`, as JSON."""

    @property
    def is_raster(self) -> bool:
        """Whether the media type leaves room for a raster file."""
        kind = (self.media_type or "image/tiff").split(";")[0].strip().lower()
        return kind in _RASTER

    @property
    def is_picture(self) -> bool:
        """Whether it is made to be looked at, whatever bands it lists."""
        return bool(_PICTURES & {*self.roles, self.key.lower()}) or self.key.startswith("TCI")

    @property
    def is_tiff(self) -> bool:
        """Whether the media type says TIFF, or nothing."""
        return "tif" in (self.media_type or "image/tiff").lower()


_PICTURES = {"thumbnail", "overview", "visual", "preview", "rendered_preview", "tilejson"}
_RASTER = {
    "image/tiff",
    "image/vnd.stac.geotiff",
    "image/x.geotiff",
    "image/geotiff",
    "image/jp2",
    "application/octet-stream",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One STAC item, parsed."""

    id: str
    collection: str | None
    datetime: datetime
    """UTC; of a composite the middle of its period."""
    bbox: BBox | None
    """None: the item has none, as STAC allows where there is no geometry; the files know it."""
    platform: str | None
    """Lower case with hyphens, as in `landsat-8`."""
    cloud_cover: float | None
    """Percent, as the catalogue states it."""
    assets: tuple[Asset, ...]

    def asset(self, key: str) -> Asset | None:
        """Find an asset by its key."""
        return next((asset for asset in self.assets if asset.key == key), None)
