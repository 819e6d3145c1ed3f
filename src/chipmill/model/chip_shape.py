"""How many pixels a chip has in each band of its scene."""

from chipmill.model.archived import ArchivedScene
from chipmill.model.grid import ChipGrid, ratio


def band_shapes(scene: ArchivedScene, chips: ChipGrid) -> list[tuple[int, int]]:
    """Give the pixels (y, x) of a chip in each band, as a pack holds them.

    A coarser band keeps its own pixels where they fall evenly into the chips. Where they do not, as
    with 60 m pixels in chips of 256 pixels of 10 m, each pixel of the finest grid gets the pixel of
    the coarser band that lies under its middle.

    Raises:
        SceneError: The files of the scene do not align.
    """
    return [_shape(band.file.key, scene, chips) for band in scene.bands]


def _shape(key: str, scene: ArchivedScene, chips: ChipGrid) -> tuple[int, int]:
    grid = next(band.file.grid for band in scene.bands if band.file.key == key)
    whole = ratio(grid, fine=chips.grid, where=f"{key} and the finest band").whole
    edge = chips.size // whole if whole and chips.size % whole == 0 else chips.size
    return edge, edge
