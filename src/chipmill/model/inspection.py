"""What chipmill believes of one scene: the form in which `chipmill inspect` says it."""

from dataclasses import dataclass
from typing import Any

from chipmill.model.quality import Flag, QualityRule
from chipmill.model.scene import BBox

CHIP_SIZES = (128, 256, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """One file of a scene."""

    asset: str
    href: str
    """Without a signature."""
    read: bool
    """Whether its header was read; else the rest is what the item states."""
    why_not: str | None
    crs: str | None
    shape: tuple[int, int] | None
    """Height, width."""
    transform: tuple[float, ...] | None
    dtype: str | None
    nodata: float | None
    ratio: tuple[float, float] | None
    """How much coarser than the finest file, (y, x)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBand:
    """One band of a scene."""

    name: str
    common_name: str | None
    asset: str
    index: int
    wavelength: float | None
    fwhm: float | None
    """Both in micrometres."""
    gsd: float | None
    """Pixel size in metres."""
    scale: float
    offset: float | None
    """None: it cannot be told whether the offset is in the pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenQuality:
    """How clouds and nodata of a scene are told."""

    asset: str
    nodata: dict[str, str]
    """Flags that mean nodata, and where they are."""
    cloud: dict[str, str]
    differing: tuple[str, ...]
    """Flags that the item has elsewhere than the sensor's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenChips:
    """How many chips of one size a scene has."""

    size: int
    rows: int
    cols: int
    remainder: float
    """Share of the pixels in no chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What chipmill believes of a scene."""

    item: str
    sensor: str
    datetime: str
    platform: str | None
    bbox: BBox | None
    cloud_cover: float | None
    bands: tuple[SeenBand, ...]
    files: tuple[SeenFile, ...]
    chips: tuple[SeenChips, ...]
    quality: SeenQuality | None
    offset: dict[str, Any] | None
    """The evidence of an offset in the pixels, as items keep it."""
    findings: tuple[str, ...]
    missing: tuple[str, ...]
    """Default bands of the sensor that the scene has no file of."""
    problem: str | None
    """Why the scene would be quarantined, as far as can be told."""


def places(rule: QualityRule, names: tuple[str, ...]) -> dict[str, str]:
    """Say where in the pixels of a quality band its flags are."""
    return {name: _place(rule.flags[name]) for name in names}


def _place(flag: Flag) -> str:
    values = ", ".join(str(each) for each in flag.values)
    if flag.width is None:
        return f"value {values}"
    if flag.width == 1:
        return f"bit {flag.first}"
    return f"bits {flag.first} to {flag.first + flag.width - 1}: {values}"
