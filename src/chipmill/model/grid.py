"""The pixel grids of a scene's files, and the chips cut from the finest of them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import SceneError

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a·col + b·row + c, y = d·col + e·row + f, as `proj:transform` has it."""

MAX_PIXELS = 40_000**2
MAX_BLOCK = 8192**2
"""Larger scenes and blocks are refused: 66 KB can declare one block of 2 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Size and place of a raster."""

    height: int
    width: int
    transform: Affine
    crs: str
    """`EPSG:…` where there is a code, else WKT2."""

    @property
    def pixel(self) -> tuple[float, float]:
        """Size of a pixel (x, y) in CRS units."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(a, d), math.hypot(b, e)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How much coarser one grid is than another, along each axis."""

    y: float
    x: float
    centred: bool = False
    """Whether the middles of the first pixels are one point, instead of their corners: so the
    panchromatic band of Landsat lies on the others (USGS, Landsat 8-9 Level 1 Data Format Control
    Book, LSDS-1822: the corner points of all bands are pixel centres)."""

    @property
    def inset(self) -> tuple[float, float]:
        """Fine pixels (y, x) from the coarse grid's corner to that of the fine one."""
        return ((self.y - 1) / 2, (self.x - 1) / 2) if self.centred else (0.0, 0.0)

    @property
    def whole(self) -> int | None:
        """The ratio as a whole number when it is one on both axes, and pixels share their edges."""
        if self.centred:
            return None
        nearest = round(self.y)
        near = abs(self.y - nearest) < _NEAR and abs(self.x - nearest) < _NEAR
        return nearest if near and nearest > 0 else None


_NEAR = 1e-3
"""Ratios and corners may differ by a thousandth of a pixel: what rounding in headers does."""


def ratio(coarse: Grid, *, fine: Grid, where: str) -> Ratio:
    """Compare the grids of two files of a scene.

    Raises:
        SceneError: The CRS differs, or neither the upper left corners nor the middles of the pixels
            there are the same point, or the far corners lie a coarse pixel or more apart; `where`
            names the files.
    """
    if coarse.crs != fine.crs:
        raise SceneError(
            f"{where} do not align: {coarse.crs[:60]} and {fine.crs[:60]}; drop the scene"
        )
    across, down = coarse.pixel
    far = _corner(coarse, coarse.height, coarse.width) - _corner(fine, fine.height, fine.width)
    near = _corner(coarse, 0, 0) - _corner(fine, 0, 0)
    middle = _corner(coarse, 0.5, 0.5) - _corner(fine, 0.5, 0.5)
    pixel = np.array([across, down])
    aligned, centred = ((abs(apart) <= pixel * _NEAR).all() for apart in (near, middle))
    if not (aligned or centred) or (abs(far) >= pixel * (1 - _NEAR)).any():
        raise SceneError(
            f"{where} do not align: their upper left corners differ by {near.tolist()} and their "
            f"lower right ones by {far.tolist()} CRS units; drop the scene"
        )
    return Ratio(y=down / fine.pixel[1], x=across / fine.pixel[0], centred=not aligned)


def _corner(grid: Grid, row: float, col: float) -> NDArray[np.float64]:
    a, b, c, d, e, f = grid.transform
    return np.array([a * col + b * row + c, d * col + e * row + f])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipGrid:
    """The chips of a scene: squares of `size` pixels of its finest grid, from the upper left.

    The remainder at the right and at the bottom belongs to no chip.
    """

    grid: Grid
    size: int

    def __post_init__(self) -> None:
        """Check that a chip fits.

        Raises:
            SceneError: The scene is smaller than one chip.
        """
        if self.rows == 0 or self.cols == 0:
            raise SceneError(
                f"no chip of {self.size} px fits in a scene of {self.grid.height} x "
                f"{self.grid.width} px; use a smaller chip or drop the scene"
            )

    @property
    def rows(self) -> int:
        """Rows of chips."""
        return self.grid.height // self.size

    @property
    def cols(self) -> int:
        """Columns of chips."""
        return self.grid.width // self.size

    @property
    def remainder(self) -> float:
        """Share of the scene's pixels that belong to no chip."""
        used = self.rows * self.cols * self.size**2
        return 1 - used / (self.grid.height * self.grid.width)

    def corners(self) -> NDArray[np.float64]:
        """Give the corner points of all chips in CRS units.

        Returns:
            Shape (rows + 1, cols + 1, 2): x and y.
        """
        a, b, c, d, e, f = self.grid.transform
        row, col = np.meshgrid(
            np.arange(self.rows + 1) * self.size,
            np.arange(self.cols + 1) * self.size,
            indexing="ij",
        )
        return np.stack([a * col + b * row + c, d * col + e * row + f], axis=-1)


def spans(
    count: int, *, size: int, ratio: float, limit: int, inset: float = 0
) -> NDArray[np.int64]:
    """Give the pixels of a coarser grid that each chip touches, along one axis.

    Args:
        count: Chips along the axis.
        size: Edge of a chip in fine pixels.
        ratio: Coarse pixel over fine pixel.
        limit: Coarse pixels along the axis.
        inset: Fine pixels from the coarse grid's edge to the first chip, as `Ratio.inset`.

    Returns:
        Shape (count, 2): first pixel and the one after the last. Exact where the edges of chips
        fall on edges of pixels; else a pixel on the edge of two chips belongs to both.
    """
    edge = (np.arange(count + 1) * size + inset) / ratio
    whole = np.round(edge)
    edge = np.where(np.abs(edge - whole) < _NEAR, whole, edge)
    first, last = np.floor(edge[:-1]), np.ceil(edge[1:])
    return np.clip(np.stack([first, last], axis=1), 0, limit).astype(np.int64)


def nearest(
    position: int, *, size: int, ratio: float, limit: int, inset: float = 0
) -> NDArray[np.int64]:
    """Give the coarse pixel under the middle of each fine pixel of one chip, along one axis.

    A middle on the edge of two coarse pixels takes the later one.

    Returns:
        Shape (size,): coarse pixel numbers.
    """
    fine = position * size + np.arange(size) + 0.5 + inset
    return np.minimum((fine / ratio).astype(np.int64), limit - 1)
