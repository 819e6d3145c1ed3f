"""Tiles: the areas that a request searches one by one, and the form that names a file of them."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, model_validator
from shapely import MultiPolygon, Polygon

from chipmill.model.acquisition import WHOLE_AREA


class TileFile(BaseModel):
    """A file of tiles: each row is searched by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Tiles of a file")

    file: str | None = Field(
        default=None,
        title="File of tiles",
        description="Path or URL of any file that geopandas reads: GeoPackage, GeoJSON, "
        "GeoParquet, Shapefile, FlatGeobuf.",
    )
    column: str | None = Field(
        default=None,
        title="Column of names",
        description="Names each tile; empty: the rows are counted from 0.",
    )
    names_are_grid_codes: bool = Field(
        default=False,
        title="Names are grid codes",
        description="Takes only scenes of the grid tile of this name (33TWM, MGRS-33TWM, "
        "WRS2-189027), not those of its neighbours that overlap it.",
    )
    stratum: str | None = Field(
        default=None,
        title="Column of strata",
        description="Such as the main land cover of each tile.",
    )
    per_stratum: int | None = Field(
        default=None,
        ge=1,
        title="Tiles per stratum",
        description="Draws this many tiles of each stratum, by the seed of the policy.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "TileFile":
        others = (self.column, self.stratum, self.per_stratum, self.names_are_grid_codes)
        if not self.file and any(others):
            raise ValueError("the tiles have no file; name one or leave the tiles out")
        if (self.stratum is None) != (self.per_stratum is None):
            raise ValueError("stratum and per_stratum belong together; give both or neither")
        if self.names_are_grid_codes and self.column is None:
            raise ValueError("names_are_grid_codes needs a column that has the names; name it")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One area that is searched by itself."""

    name: str
    area: Polygon | MultiPolygon | None = None
    """In degrees (OGC:CRS84), divided at the antimeridian; None: everywhere."""
    grid_codes: tuple[str, ...] = ()
    """Patterns of grid codes as `MGRS-33T*`, one of which a scene must have; empty: any."""
    stratum: str = ""

    @property
    def is_whole_area(self) -> bool:
        """Whether the request names no tiles: scenes are then told apart by their own grid."""
        return self.name == WHOLE_AREA


def draw_tiles(tiles: Sequence[Tile], *, per_stratum: int, seed: int) -> list[Tile]:
    """Draw tiles of each stratum at random.

    Args:
        tiles: Tiles of different names, in any order.
        per_stratum: At most this many of each stratum.
        seed: Another seed draws others; adding tiles to a file moves few of those drawn.

    Returns:
        The tiles, sorted by name.
    """
    strata = defaultdict[str, list[Tile]](list)
    for tile in tiles:
        strata[tile.stratum].append(tile)

    def lot(tile: Tile) -> bytes:
        return hashlib.sha256(f"{seed}\0{tile.name}".encode()).digest()

    drawn = [tile for each in strata.values() for tile in sorted(each, key=lot)[:per_stratum]]
    return sorted(drawn, key=lambda tile: tile.name)
