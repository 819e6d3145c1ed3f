"""Where the chips of a scene lie in one of its files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipmill.model.archived import ArchivedFile
from chipmill.model.grid import ChipGrid, Grid, Ratio, nearest, ratio

Window = tuple[int, int, int, int]
"""First row, last row, first column, last column; the last ones are outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How the chips of a scene lie in one of its files."""

    chips: ChipGrid
    grid: Grid
    ratio: Ratio
    edge: int | None
    """Pixels of a chip along each axis, where they fall evenly; None: the nearest is taken."""

    @classmethod
    def of(cls, file: ArchivedFile, chips: ChipGrid, *, edge: int) -> "Frame":
        """Compare a file with the grid of the chips; `edge` is that of a chip in a pack.

        Raises:
            SceneError: They do not align.
        """
        found = ratio(file.grid, fine=chips.grid, where=f"{file.key} and the finest band")
        even = found.whole is not None and edge * found.whole == chips.size
        return cls(chips=chips, grid=file.grid, ratio=found, edge=edge if even else None)

    def pixels(self, row: int, col: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the rows and the columns of the file that a chip takes its pixels from."""
        size, grid, (down, right) = self.chips.size, self.grid, self.ratio.inset
        return (
            nearest(row, size=size, ratio=self.ratio.y, limit=grid.height, inset=down),
            nearest(col, size=size, ratio=self.ratio.x, limit=grid.width, inset=right),
        )

    def window(self, row: int, col: int) -> Window:
        """Give the part of the file that a chip lies in."""
        if self.edge:
            top, left = row * self.edge, col * self.edge
            return top, top + self.edge, left, left + self.edge
        y, x = self.pixels(row, col)
        return int(y[0]), int(y[-1]) + 1, int(x[0]), int(x[-1]) + 1
