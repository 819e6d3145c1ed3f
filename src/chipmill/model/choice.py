"""Choose the files of a scene that hold a sensor's bands: by key, meaning and media type."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from chipmill.errors import SceneError
from chipmill.model.scene import Asset, AssetBand, Scene
from chipmill.model.sensor import Band, Sensor, Spectral

ALPHA = "alpha"
"""Name of a listed band that is a mask and no data."""
_UPSAMPLED = "sampling:upsampled"
"""Role by which Copernicus Data Space marks files that are finer than the instrument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSource:
    """Where a band of a scene is."""

    band: Band
    asset: Asset
    index: int
    """Position in the asset, counted from 1."""
    optional: bool = False
    """Whether the scene is used without it where the file turns out to lack it."""


@dataclass(frozen=True, slots=True)
class FileBands:
    """The bands of a file, as its header says."""

    count: int
    alpha: int | None
    """Position of the one that the file calls alpha, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The files of a scene that chipmill uses."""

    bands: tuple[BandSource, ...]
    quality: Asset | None

    @property
    def assets(self) -> tuple[Asset, ...]:
        """Each file once, in the order of the bands, the quality band last."""
        files = [source.asset for source in self.bands]
        if self.quality:
            files.append(self.quality)
        return tuple({asset.key: asset for asset in files}.values())


def choose(scene: Scene, sensor: Sensor, *, bands: Iterable[str] = ()) -> Choice:
    """Find the files of the named bands, or of the default ones, and of the quality band.

    Raises:
        SceneError: The platform is not the sensor's, or the item has no such file; the message says
            what was looked for.
        RequestError: The sensor has no such band.
    """
    if sensor.platforms and scene.platform not in sensor.platforms:
        raise SceneError(
            f"{scene.id} is of platform {scene.platform!r}, but the band table of {sensor.name} is "
            f"true of {', '.join(sensor.platforms)} only; leave the scene out"
        )
    if not sensor.bands:
        return Choice(bands=_listed(scene, tuple(bands)), quality=None)
    chosen = tuple(_band_sources(scene, sensor, tuple(bands)))
    return Choice(bands=chosen, quality=_quality(scene, sensor))


def fitting(choice: Choice, sensor: Sensor, files: Mapping[str, FileBands]) -> Choice:
    """Hold a choice against the files: what an item says of its bands is not always so.

    Args:
        choice: What was chosen from the item.
        sensor: The sensor that it was chosen for.
        files: What the file of each asset has, by its key.

    Returns:
        The choice without the bands that a scene may lack and whose file lacks them.

    Raises:
        SceneError: The file has no such band, or it is the file's alpha band.
    """
    kept: list[BandSource] = []
    for source in choice.bands:
        file = files[source.asset.key]
        is_alpha = sensor.alpha and source.index == file.alpha
        if source.index <= file.count and not is_alpha:
            kept.append(source)
        elif not source.optional:
            has = "where the file has its alpha band" if is_alpha else "which the file has not"
            raise SceneError(
                f"band {source.band.name!r} should be number {source.index} of the {file.count} "
                f"bands of asset {source.asset.key!r}, {has}; leave the band or the scene out"
            )
    return replace(choice, bands=tuple(kept))


def _listed(scene: Scene, names: tuple[str, ...]) -> tuple[BandSource, ...]:
    """Take the bands that the item lists, all or those of these names."""
    by_name: dict[str, BandSource] = {}
    for asset in scene.assets:
        if not asset.is_raster or asset.is_picture:
            continue
        for index, listed in enumerate(asset.bands, start=1):
            if (listed.name or "").lower() != ALPHA:
                source = _own_source(scene, asset, index, listed)
                by_name[source.band.name] = source
    missing = [name for name in names if name not in by_name]
    if missing or not by_name:
        raise SceneError(
            f"{scene.id} lists the bands {', '.join(by_name) or 'of no asset'}, not "
            f"{', '.join(missing) or 'any'}; name others or leave the scene out"
        )
    return tuple(by_name[name] for name in names) or tuple(by_name.values())


def _own_source(scene: Scene, asset: Asset, index: int, listed: AssetBand) -> BandSource:
    """Make the band that an item lists, under a name that no other band of the scene has."""
    name = _plain(listed.name or "") or f"b{index}"
    same = sum(_plain(each.name or "") == name for each in asset.bands)
    name = f"{name}-{index}" if same > 1 else name
    several = sum(bool(other.bands) for other in scene.assets) > 1
    spectral = (
        {"": Spectral(wavelength=listed.wavelength, fwhm=listed.fwhm)}
        if listed.wavelength and listed.fwhm
        else {}
    )
    band = Band(
        name=f"{_plain(asset.key)}-{name}" if several and len(asset.bands) > 1 else name,
        common_name=listed.common_name,
        keys=(asset.key,),
        index=index,
        gsd=0,  # the file says it
        spectral=spectral,
    )
    return BandSource(band=band, asset=asset, index=index)


def _plain(name: str) -> str:
    """Make a name of which commas and slashes of tables and keys cannot come."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _band_sources(scene: Scene, sensor: Sensor, names: tuple[str, ...]) -> Iterator[BandSource]:
    """Find the file of each band; one that scenes may lack and nobody named is left out."""
    others = {band.common_name for band in sensor.bands} - {None}
    for band in sensor.wanted(names):
        optional = band.optional and not names
        keys = band.keys_on(scene.platform)
        found = [
            (place, asset)
            for asset in scene.assets
            if asset.is_raster and (place := _place(asset, band, keys, others - {band.common_name}))
        ]
        if found:
            (index, _), asset = min(found, key=partial(_rank, band))
            yield BandSource(band=band, asset=asset, index=index, optional=optional)
        elif not optional:
            raise SceneError(
                f"{scene.id} has no asset for band {band.name!r} of {sensor.name} (looked for "
                f"{', '.join(keys)}); leave the band out of the request or drop the scene"
            )


def _rank(band: Band, found: tuple[tuple[int, int], Asset]) -> tuple[float, ...]:
    """Order files of one band: the finest, TIFF before JPEG 2000, the key that is known best.

    What a provider upsampled comes last: it is larger and tells no more. Of files that only list
    the band, one of few bands is better than one of many.
    """
    (_, known), asset = found
    gsd = asset.gsd or band.gsd
    return _UPSAMPLED in asset.roles, gsd, not asset.is_tiff, known, len(asset.bands)


def _place(
    asset: Asset, band: Band, keys: tuple[str, ...], others: set[str | None]
) -> tuple[int, int] | None:
    """Tell where in an asset a band is, if it is there.

    Returns:
        Its position, counted from 1, and how well the asset's key is known, 0 best.
    """
    names = {key.lower() for key in keys} | {band.name.lower()}
    listed = (
        number
        for number, each in enumerate(asset.bands, start=1)
        # A name such as B2 is another band on another platform; a common name is always true.
        if (each.common_name and each.common_name == band.common_name)
        or ((each.name or "").lower() in names and each.common_name not in others)
    )
    position = next(listed, None)
    if asset.key in keys:
        denied = asset.bands and all(each.common_name in others for each in asset.bands)
        return None if denied and not position else (position or band.index, keys.index(asset.key))
    return (position, len(keys)) if position and not asset.is_picture else None


def _quality(scene: Scene, sensor: Sensor) -> Asset | None:
    if sensor.quality is None:
        return None
    found = [a for key in sensor.quality.keys if (a := scene.asset(key)) and a.is_raster]
    for key, reason in sensor.quality.refused.items():
        if not found and scene.asset(key):
            raise SceneError(
                f"{scene.id} has {key!r} for the quality band of {sensor.name}, which is not read: "
                f"{reason}; drop the scene"
            )
    if not found:
        raise SceneError(
            f"{scene.id} has no quality asset of {sensor.name} (looked for "
            f"{', '.join(sensor.quality.keys)}): clouds cannot be judged; drop the scene"
        )
    return min(found, key=lambda asset: not asset.is_tiff)
