"""Train and validation apart on earth: no chip of one overlaps, or is near, a chip of the other.

The earth is divided into cells of about equal area, and each cell is on one side, by hash. A scene
is on the side of the cell of its middle, with all its chips or with none; of these, the chips that
touch cells of the other side, or come within half the gap of them, are left out. What is kept of
two sides lies in cells of two sides, at least the gap apart.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from chipmill.model.shuffle import ranks_of

KM_PER_DEGREE = 6371.0088 * math.pi / 180
"""Length of a degree of latitude on a sphere of the mean radius of the earth (IUGG)."""

_POLE = 90.0
_ROUND = 360.0


class SpatialSplit(BaseModel):
    """One side of a division of the earth into train and validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: Literal["train", "validation"] = Field(title="Side", description="The chips to plan.")
    share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        title="Share of validation",
        description="Of the cells that the earth is divided into.",
    )
    cell_km: float = Field(
        default=200.0,
        ge=10,
        le=5000,
        title="Cell size (km)",
        description="Edge of a cell; larger ones keep the sides further apart and lose less.",
    )
    gap_km: float = Field(
        default=10.0,
        ge=0,
        le=1000,
        title="Gap (km)",
        description="Least distance between a chip of train and a chip of validation.",
    )
    salt: int = Field(
        default=0,
        title="Salt",
        description="Another one, another division; plans that belong together have the same.",
    )

    def middles(self, boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell whose middle is in a cell of this side.

        Args:
            boxes: Shape (n, 4): west, south, east, north in degrees; west > east across the
                antimeridian.

        Returns:
            Shape (n,).
        """
        west, south, east, north = boxes.astype(np.float64).T
        lon = west + (east - west) % _ROUND / 2
        cells = self._grid.cells(self._grid.rows_of((south + north) / 2), lon)
        return self._validation(cells) == (self.side == "validation")

    def inside(self, boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tell which boxes touch cells of this side only, half of the gap around them too.

        Args:
            boxes: As of `middles`.

        Returns:
            Shape (n,).
        """
        west, south, width, north = _grown(boxes.astype(np.float64), km=self.gap_km / 2)
        low, high = self._grid.rows_of(south), self._grid.rows_of(north)
        inside = np.ones(len(boxes), np.bool_)
        for step in range(int((high - low).max(initial=-1)) + 1):
            row = np.minimum(low + step, high)
            inside &= self._row_inside(row, west, width)
        return inside

    def _row_inside(
        self, row: NDArray[np.int64], west: NDArray[np.float64], width: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Tell which spans of longitude touch cells of this side only, in one row of cells each."""
        grid, wanted = self._grid, self.side == "validation"
        columns = grid.columns[row]
        first = np.floor(west / _ROUND * columns).astype(np.int64)
        last = np.floor((west + width) / _ROUND * columns).astype(np.int64)
        last = np.where(width >= _ROUND, first + columns - 1, last)
        inside = np.ones(len(row), np.bool_)
        for step in range(int((last - first).max(initial=-1)) + 1):
            column = np.minimum(first + step, last) % columns
            inside &= self._validation(grid.starts[row] + column) == wanted
        return inside

    def _validation(self, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which cells are validation's."""
        drawn = ranks_of(cells.astype(np.uint64), key=("spatial split", self.salt))
        return drawn < np.uint64(int(self.share * 2**64))

    @property
    def _grid(self) -> "_Grid":
        return _grid(self.cell_km)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grid:
    """Cells in rows of equal height, of which each has as many as make them about square."""

    height: float
    """Degrees."""
    columns: NDArray[np.int64]
    """Cells of each row from the south, shape (rows,)."""
    starts: NDArray[np.int64]
    """Number of the first cell of each row."""

    def rows_of(self, lat: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the row of each latitude."""
        row = np.floor((lat + _POLE) / self.height).astype(np.int64)
        return np.clip(row, 0, len(self.columns) - 1)

    def cells(self, row: NDArray[np.int64], lon: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the cell of each longitude in a row."""
        columns = self.columns[row]
        return self.starts[row] + np.floor(lon / _ROUND * columns).astype(np.int64) % columns


def _grid(cell_km: float) -> _Grid:
    rows = max(1, round(2 * _POLE * KM_PER_DEGREE / cell_km))
    height = 2 * _POLE / rows
    middles = (np.arange(rows) + 0.5) * height - _POLE
    columns = np.maximum(1, np.rint(_ROUND * np.cos(np.radians(middles)) / height))
    columns = columns.astype(np.int64)
    return _Grid(height=height, columns=columns, starts=np.cumsum(columns) - columns)


def _grown(
    boxes: NDArray[np.float64], *, km: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Grow boxes on all sides; gives west, south, width and north in degrees.

    Within `km` of a point at latitude b, longitudes differ by asin(sin(d) / cos(b)) at most, which
    is less than d / cos(b + d).
    """
    west, south, east, north = boxes.T
    degrees = km / KM_PER_DEGREE
    south, north = south - degrees, north + degrees
    steepest = np.minimum(np.maximum(np.abs(south), np.abs(north)), _POLE)
    aside = degrees / np.maximum(np.cos(np.radians(steepest)), 1e-9)
    width = (east - west) % _ROUND + 2 * aside
    return west - aside, south, np.where(steepest >= _POLE, _ROUND, width), north
