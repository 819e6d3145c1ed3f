"""Read a rewritten item back: what the later steps know of a scene."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from chipmill.errors import SceneError
from chipmill.formats.asset_reading import CLASSIFICATION
from chipmill.formats.asset_writing import MASK_ROLE
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_reading import read_item
from chipmill.model.archived import ArchivedBand, ArchivedFile, ArchivedScene
from chipmill.model.grid import Affine, Grid
from chipmill.model.scene import SceneRef


def read_archived(item: Json, *, key_of: Callable[[str], str]) -> ArchivedScene:
    """Parse an item that `write_item` wrote.

    Args:
        item: The item as JSON.
        key_of: Gives the key in the archive of an href.

    Raises:
        SceneError: A field is missing; the scene must be rewritten.
    """
    scene = read_item(item)
    try:
        properties = cast("Json", item["properties"])
        assets = cast("Mapping[str, Json]", item["assets"])
        files = {key: _file(asset, key_of) for key, asset in assets.items()}
        bands = [
            _band({**asset, **band}, files[key], properties)  # an asset speaks for all its bands
            for key, asset in assets.items()
            for band in asset.get("bands", ())
        ]
        quality = [files[key] for key, asset in assets.items() if MASK_ROLE in asset["roles"]]
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise SceneError(f"the archived item {scene.id} lacks {err}; rewrite the scene") from err
    if scene.bbox is None:
        raise SceneError(f"the archived item {scene.id} lacks a bbox; rewrite the scene")
    return ArchivedScene(
        ref=SceneRef(collection=str(item["collection"]), item=scene.id),
        datetime=scene.datetime,
        bbox=scene.bbox,
        platform=scene.platform,
        bands=tuple(bands),
        quality=quality[0] if quality else None,
    )


def _file(asset: Json, key_of: Callable[[str], str]) -> ArchivedFile:
    height, width = asset["proj:shape"]
    nodata = asset.get("nodata")
    return ArchivedFile(
        key=key_of(asset["href"]),
        grid=Grid(
            height=height,
            width=width,
            transform=cast("Affine", tuple(asset["proj:transform"])),
            crs=asset["proj:code"] or asset["proj:wkt2"],
        ),
        dtype=asset["data_type"],
        nodata=None if nodata is None else float(nodata),
        size=asset.get("file:size"),
        checksum=asset.get("file:checksum"),
        quick=asset.get("chipmill:checksum"),
        flags={name: asset[name] for name in CLASSIFICATION if name in asset},
    )


def _band(band: Json, file: ArchivedFile, properties: Json) -> ArchivedBand:
    name = str(band["name"])

    def of(table: str) -> float | None:
        return cast("Mapping[str, Any]", properties[table]).get(name)

    return ArchivedBand(
        name=name,
        common_name=band.get("eo:common_name"),
        file=file,
        index=band["chipmill:index"],
        gsd=band["raster:spatial_resolution"],
        wavelength=band.get("eo:center_wavelength"),
        fwhm=band.get("eo:full_width_half_max"),
        scale=band["raster:scale"],
        offset=band["raster:offset"],
        mean=of("normalization_average"),
        std=of("normalization_standard_deviation"),
    )
