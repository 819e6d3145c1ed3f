"""Say where the provider's item and the copied files differ: one sentence each, with both values.

The file is right about its size, place, type, nodata value and CRS.
"""

import math
from collections.abc import Mapping

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError

from chipmill.errors import SceneError
from chipmill.formats.copied import FileFacts
from chipmill.model.choice import Choice
from chipmill.model.extent import outside
from chipmill.model.grid import Affine, Grid
from chipmill.model.radiometry import OffsetEvidence
from chipmill.model.scene import Asset, AssetBand, BBox, Scene

SLOPPY = 0.2
"""Share of a stated box outside of the files from which on the files' box is written instead."""
_NEAR = 1e-3
"""Corners may differ by a thousandth of a pixel: what rounding in items does."""


def disagreements(
    scene: Scene,
    choice: Choice,
    files: Mapping[str, FileFacts],
    *,
    extent: BBox | None,
    offset: OffsetEvidence | None,
) -> list[str]:
    """List where item and files differ, in the order of the assets.

    Args:
        scene: The provider's item.
        choice: The assets that are used.
        files: What their files say, by key; one that is not known is passed over.
        extent: Box of the finest file.
        offset: What is known of an offset in the pixels.

    Raises:
        SceneError: The item lies where none of its files is: one of them is of another scene.
    """
    found = _of_the_place(scene, extent) if extent else []
    for asset in choice.assets:
        if file := files.get(asset.key):
            used = _used(choice, asset)
            said = [*_of_the_grid(asset, file.grid), *_of_the_values(used, file)]
            found += [f"{asset.key}: {sentence}" for sentence in said]
    return [*found, *(_of_the_offset(offset) if offset else ())]


def is_sloppy(stated: BBox | None, *, files: BBox) -> bool:
    """Tell whether an item has no box, or one that goes far beyond the files."""
    return stated is None or outside(stated, files=files) > SLOPPY


def _of_the_place(scene: Scene, files: BBox) -> list[str]:
    stated = scene.bbox
    box = [round(each, 5) for each in files]
    if stated is None:
        return [f"the item has no bbox; the files' is {box}"]
    share = outside(stated, files=files)
    if share >= 1:
        raise SceneError(
            f"the item {scene.id} has the bbox {list(stated)}, its files lie in {box}, "
            "is elsewhere: they are of different scenes; drop the scene"
        )
    if share > SLOPPY:
        said = f"the item has the bbox {list(stated)}, {share:.0%} of it outside of its files; "
        return [f"{said}the files' is {box}"]
    return []


def _of_the_grid(asset: Asset, grid: Grid) -> list[str]:
    said, found = asset.grid, list[str]()
    if said.shape and said.shape != (grid.height, grid.width):
        height, width = said.shape
        found.append(
            f"the item says {height} x {width} px, the file has {grid.height} x {grid.width}"
        )
    if said.transform and not _is_near(said.transform, grid):
        found.append(
            f"the item says the transform {list(said.transform)}, the file has "
            f"{list(grid.transform)}"
        )
    if said.crs and not _is_same(said.crs, grid.crs):
        found.append(f"the item says the CRS {said.crs[:60]}, the file has {grid.crs[:60]}")
    return found


def _is_near(said: Affine, grid: Grid) -> bool:
    """Compare by the corners: a small error of the pixel size is a large one at the far side."""
    reach = np.array([[0, 0], [grid.width, 0], [0, grid.height], [grid.width, grid.height]])
    differ = np.array(said).reshape(2, 3) - np.array(grid.transform).reshape(2, 3)
    far = np.abs(reach @ differ[:, :2].T + differ[:, 2])
    return bool((far <= np.array(grid.pixel) * _NEAR).all())


def _is_same(said: str, crs: str) -> bool:
    if said == crs:
        return True
    try:
        return CRS.from_user_input(said).equals(CRS.from_user_input(crs), ignore_axis_order=True)
    except CRSError:
        return False


def _of_the_values(bands: list[AssetBand], file: FileFacts) -> list[str]:
    found = list[str]()
    for band in bands:
        if band.dtype and band.dtype != file.dtype:
            found.append(f"the item says data type {band.dtype}, the file has {file.dtype}")
        if band.nodata is None:
            continue
        if file.header_nodata is None and not same(band.nodata, file.nodata):
            found.append(
                f"the item says nodata {band.nodata:g}, which {file.dtype} cannot hold; "
                "it is left out"
            )
        elif file.header_nodata is not None and not same(band.nodata, file.header_nodata):
            found.append(
                f"the item says nodata {band.nodata:g}, the file has {file.header_nodata:g}"
            )
    return list(dict.fromkeys(found))


def _used(choice: Choice, asset: Asset) -> list[AssetBand]:
    """Give the bands of an asset that are used; of the quality band the only one."""
    used = {s.index for s in choice.bands if s.asset.key == asset.key} or {1}
    return [band for number, band in enumerate(asset.bands, start=1) if number in used]


def same(one: float | None, other: float | None) -> bool:
    """Compare two nodata values; NaN is NaN."""
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _of_the_offset(offset: OffsetEvidence) -> list[str]:
    """Say where the item misleads about the offset in the pixels."""
    found = list[str]()
    never = offset.decided_by == "baseline"  # then a flag that is false says the same
    if offset.flag is not None and offset.flag != (offset.verdict == "applied") and not never:
        found.append(
            f"the item's flag of an applied offset is {offset.flag}, but it is {offset.verdict}"
        )
    if offset.stated is not None and (offset.stated == 0) != (offset.verdict == "applied"):
        found.append(f"the item states the offset {offset.stated:g}, but it is {offset.verdict}")
    return found
