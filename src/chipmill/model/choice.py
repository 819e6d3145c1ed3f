"""Choose the files of a scene that hold a sensor's bands: by key, meaning and media type."""

from collections.abc import Iterable
from dataclasses import dataclass

from chipmill.errors import SceneError
from chipmill.model.scene import Asset, Scene
from chipmill.model.sensor import Band, Sensor, Spectral


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSource:
    """Where a band of a scene is."""

    band: Band
    asset: Asset
    index: int
    """Position in the asset, counted from 1."""


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
    chosen = tuple(_band_source(scene, sensor, band) for band in sensor.wanted(bands))
    return Choice(bands=chosen, quality=_quality(scene, sensor))


def _listed(scene: Scene, names: tuple[str, ...]) -> tuple[BandSource, ...]:
    """Take the bands that the item lists, all or those of these names."""
    found = [
        BandSource(band=_own_band(scene, asset, index), asset=asset, index=index)
        for asset in scene.assets
        if asset.is_raster and not asset.is_picture
        for index in range(1, len(asset.bands) + 1)
    ]
    by_name = {source.band.name: source for source in found}
    missing = [name for name in names if name not in by_name]
    if missing or not found:
        raise SceneError(
            f"{scene.id} lists the bands {', '.join(by_name) or 'of no asset'}, not "
            f"{', '.join(missing) or 'any'}; name others or leave the scene out"
        )
    return tuple(by_name[name] for name in names) or tuple(by_name.values())


def _own_band(scene: Scene, asset: Asset, index: int) -> Band:
    listed = asset.bands[index - 1]
    spectral = (
        {"": Spectral(wavelength=listed.wavelength, fwhm=listed.fwhm)}
        if listed.wavelength and listed.fwhm
        else {}
    )
    name = listed.name or f"b{index}"
    several = sum(bool(other.bands) for other in scene.assets) > 1
    return Band(
        name=f"{asset.key}-{name}" if several and len(asset.bands) > 1 else name,
        common_name=listed.common_name,
        keys=(asset.key,),
        index=index,
        gsd=0,  # the file says it
        spectral=spectral,
    )


def _band_source(scene: Scene, sensor: Sensor, band: Band) -> BandSource:
    by_key = [asset for key in band.keys if (asset := scene.asset(key)) and asset.is_raster]
    by_band = [
        asset
        for asset in scene.assets
        if asset.is_raster and not asset.is_picture and _position(asset, band)
    ]
    # TIFF before JPEG 2000, a key that chipmill knows before a description, few bands before many.
    ranked = sorted(
        [*by_key, *by_band], key=lambda a: (not a.is_tiff, a not in by_key, len(a.bands))
    )
    if not ranked:
        raise SceneError(
            f"{scene.id} has no asset for band {band.name!r} of {sensor.name} (looked for "
            f"{', '.join(band.keys)}); leave the band out of the request or drop the scene"
        )
    asset = ranked[0]
    return BandSource(band=band, asset=asset, index=_position(asset, band) or band.index)


def _position(asset: Asset, band: Band) -> int | None:
    """Find the band in the asset's own list; counted from 1."""
    names = {key.lower() for key in band.keys} | {band.name.lower()}
    for number, listed in enumerate(asset.bands, start=1):
        if (listed.name or "").lower() in names or (
            listed.common_name and listed.common_name == band.common_name
        ):
            return number
    return None


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
