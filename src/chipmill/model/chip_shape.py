"""How many pixels a chip has in each band of its scene."""

from chipmill.model.archived import ArchivedScene
from chipmill.model.grid import ChipGrid, Grid, ratio


def band_shapes(scene: ArchivedScene, chips: ChipGrid) -> list[tuple[int, int]]:
    """Give the pixels (y, x) of a chip in each band, as a pack holds them.

    A coarser band keeps its own pixels where they fall evenly into the chips. Where they do not, as
    with 60 m pixels in chips of 256 pixels of 10 m, each pixel of the finest grid gets the pixel of
    the coarser band that lies under its middle.

    Raises:
        SceneError: The files of the scene do not align.
    """
    grids = {band.file.grid: band.file.key for band in reversed(scene.bands)}
    shapes = {grid: _shape(grid, chips, key) for grid, key in grids.items()}
    return [shapes[band.file.grid] for band in scene.bands]


def _shape(grid: Grid, chips: ChipGrid, key: str) -> tuple[int, int]:
    whole = ratio(grid, fine=chips.grid, where=f"{key} and the finest band").whole
    edge = chips.size // whole if whole and chips.size % whole == 0 else chips.size
    return edge, edge
