"""A sheaf: some hundred scenes of a snapshot, in three files that are written once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.box import Box

AT_ONCE = 16
"""Reads side by side."""
KNOWN = ("scene", "collection", "item", "digest", "part", "rows", "cols")
"""Columns of the table of scenes that tell whether a merge has something to do."""


_LEAST = 256


def weight(size: int) -> int:
    """Say for how many rows a scene of `size` chips counts where files are divided.

    What is said once a scene takes memory as well, so that a scene of few chips counts for more.
    """
    return max(size, _LEAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheaf:
    """Three files with the same scenes."""

    chips: str
    scenes: str
    provenance: str
    known: pa.Table
    """The columns `KNOWN`, one row a scene, in the order of the files."""

    @property
    def size(self) -> int:
        """Number of its chips."""
        return sum(self.sizes)

    @property
    def weight(self) -> int:
        """For how many rows it counts where files are divided."""
        return sum(map(weight, self.sizes))

    @property
    def sizes(self) -> list[int]:
        """Number of chips of each scene."""
        rows = self.known["rows"].to_numpy().astype(np.int64)
        return (rows * self.known["cols"].to_numpy()).tolist()

    def column(self, name: str) -> list[str]:
        """Give one of the columns of text of its scenes."""
        return cast("list[str]", self.known[name].to_pylist())


Rows = tuple[dict[str, Any], pa.Table]
"""Of one scene: its row in the table of scenes, and its chips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One scene on its way into a sheaf."""

    scene: str
    digest: str
    box: Box
    size: int
    """Number of its chips."""
    rows: Callable[[], Rows]
    assets: Callable[[], pa.Table]

    def read(self) -> Rows:
        """Read what the tables of scenes and of chips say of it."""
        return self.rows()

    def read_assets(self) -> pa.Table:
        """Read its rows of provenance."""
        return self.assets()


def sheaves(archive: Store, snapshot: Snapshot, *, but: Snapshot | None = None) -> list[Sheaf]:
    """Read which scenes a snapshot has, and in which files; without those that another has too."""
    others = but.scene_files if but else ()

    def known(files: tuple[str, str, str]) -> Sheaf:
        chips, scenes, provenance = files
        table = read_columns(archive, [scenes], list(KNOWN))
        return Sheaf(chips=chips, scenes=scenes, provenance=provenance, known=table)

    files = snapshot.chip_files, snapshot.scene_files, snapshot.provenance_files
    threes = [three for three in zip(*files, strict=True) if three[1] not in others]
    with ThreadPoolExecutor(archive.at_once(AT_ONCE)) as pool:
        return list(pool.map(known, threes))
