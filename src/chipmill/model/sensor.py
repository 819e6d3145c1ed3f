"""What chipmill knows of one kind of scene: a table that the steps read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chipmill.errors import RequestError
from chipmill.model.quality import QualityRule
from chipmill.model.radiometry import OffsetRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectral:
    """Where in the spectrum a band lies."""

    wavelength: float
    """Centre wavelength in micrometres."""
    fwhm: float
    """Full width at half maximum in micrometres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One spectral band, as catalogues deliver it."""

    name: str
    """chipmill's name, unique in its sensor."""
    common_name: str | None = None
    """Common name of the STAC eo extension 2.0."""
    keys: tuple[str, ...]
    """Asset keys and band names under which catalogues publish it, best first."""
    platform_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Further ones by platform, where instruments number their bands in different ways."""
    index: int = 1
    """Position in an asset of several bands, counted from 1, where the item does not say it."""
    gsd: float
    """Ground sample distance of the product in metres."""
    spectral: Mapping[str, Spectral] = field(default_factory=dict[str, Spectral])
    """By platform; under the empty name what holds for any. Empty for a band without wavelength."""
    mean: float | None = None
    std: float | None = None
    """Normalisation over a large data set, in the sensor's domain."""
    default: bool = True
    """Whether a request that names no bands takes it."""
    optional: bool = False
    """Whether scenes may lack it: a request that names no bands then goes without."""

    def keys_on(self, platform: str | None) -> tuple[str, ...]:
        """Give the keys and names under which it is published for a platform, best first."""
        return (*self.keys, *self.platform_keys.get(platform or "", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One kind of scene."""

    name: str
    """Also the name of its collection in the archive."""
    title: str
    collections: tuple[str, ...]
    """Names of the collection in the catalogues that chipmill knows."""
    platforms: tuple[str, ...]
    """Platforms that the band table is true of; empty where it does not matter."""
    bands: tuple[Band, ...]
    """Empty: an item says itself which bands it has."""
    quality: QualityRule | None
    """How clouds and nodata are told from the quality band; None: there is none."""
    nodata: float | None
    """Digital number that means nodata where *all* bands of a file have it and the file itself says
    nothing of its nodata: the black collar of an old photograph."""
    scale: float = 1.0
    offset: float = 0.0
    """Physical value = digital number x scale + offset, where the item says nothing."""
    offset_rule: OffsetRule | None = None
    """An offset that may be in the pixels or not: it is judged for each scene."""
    alpha: bool = False
    """Whether an alpha band of its files masks the others; false where cameras mislabel a band."""
    decibels: bool = False
    """Whether its normalisation is of 10 log10 of the physical value: radar."""

    def wanted(self, names: Iterable[str]) -> tuple[Band, ...]:
        """Find bands by name; those of the default where none is named.

        Raises:
            RequestError: The sensor has no such band; the message lists those it has.
        """
        return tuple(self.band(name) for name in names) or tuple(
            band for band in self.bands if band.default
        )

    def band(self, name: str) -> Band:
        """Find a band by chipmill's name.

        Raises:
            RequestError: The sensor has no such band; the message lists those it has.
        """
        for band in self.bands:
            if band.name == name:
                return band
        known = ", ".join(band.name for band in self.bands)
        raise RequestError(f"{self.name} has no band {name!r}; its bands are {known}")

    def nodata_of(self, header: float | None, *, masked: bool, alpha: bool) -> float | None:
        """Give the digital number that means nodata in a file.

        Args:
            header: What its header says.
            masked: Whether it has a mask of its own.
            alpha: Whether it has a band that it calls alpha.
        """
        told = header is not None or masked or (alpha and self.alpha)
        return header if told else self.nodata

    def spectral(self, band: Band, platform: str | None) -> Spectral | None:
        """Give a band's place in the spectrum on a platform; None where the table has none."""
        return band.spectral.get(platform or "", band.spectral.get(""))
