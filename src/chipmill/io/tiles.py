"""Read areas: GeoJSON, and any file of tiles that geopandas reads."""

import json
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Any, cast
from urllib.parse import urlsplit

import geopandas
import shapely
from pyogrio.errors import DataSourceError
from pyproj.exceptions import CRSError
from shapely import MultiPolygon, Polygon, box
from shapely.errors import GEOSException
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from chipmill.errors import RequestError
from chipmill.formats.signature import said
from chipmill.io.documents import Documents, address
from chipmill.model.tile import Tile, TileFile
from chipmill.url import expanded


def read_area(text: str, documents: Documents) -> Polygon | MultiPolygon:
    """Read an area as GeoJSON.

    Args:
        text: GeoJSON, or the path or URL of a file of it.
        documents: Reads files.

    Raises:
        RequestError: It has no polygon.
        CatalogError: The file cannot be reached.
        TransientError: Its server does not answer.
    """
    inline = is_inline(text)
    where = "the area" if inline else said(text)
    data = text if inline else documents.read(address(text))
    try:
        return _polygons(_geometry(json.loads(data)), where)
    except (ValueError, KeyError, TypeError, AttributeError, GEOSException) as err:
        raise RequestError(f"{where} is no GeoJSON of polygons ({err}); check it") from err


def is_inline(text: str) -> bool:
    """Tell GeoJSON from the address of a file of it."""
    return text.lstrip().startswith("{")


def read_tiles(asked: TileFile, documents: Documents) -> list[Tile]:
    """Read a file of tiles.

    Returns:
        One tile a row, in the order of the file, its area in degrees.

    Raises:
        RequestError: The file is none, or lacks geometries, a CRS or a column.
        CatalogError: It cannot be reached.
        TransientError: Its server does not answer.
    """
    file = str(asked.file)
    frame = _frame(file, documents)
    for column in (asked.column, asked.stratum):
        if column is not None and column not in frame.columns:
            known = ", ".join(str(name) for name in frame.columns if name != "geometry")
            raise RequestError(f"{file} has no column {column!r}; its columns are {known}")
    names = _column(frame, asked.column) or [str(row) for row in range(len(frame))]
    strata = _column(frame, asked.stratum) or [""] * len(frame)
    tiles = [
        Tile(
            name=name,
            area=_polygons(cast("BaseGeometry | None", area), f"tile {name} of {file}"),
            grid_codes=_codes(name) if asked.names_are_grid_codes else (),
            stratum=stratum,
        )
        for name, stratum, area in zip(names, strata, frame.geometry, strict=True)
    ]
    _check_names(file, tiles)
    return tiles


def _column(frame: geopandas.GeoDataFrame, name: str | None) -> list[str]:
    values = cast("list[object]", cast("Any", frame)[name].tolist()) if name else []
    return ["" if value is None else str(value) for value in values]


def _codes(name: str) -> tuple[str, ...]:
    """Give the code of a tile, which a file of Sentinel-2 tiles writes without its grid."""
    return (name,) if "-" in name else (f"MGRS-{name}",)


def _check_names(file: str, tiles: Sequence[Tile]) -> None:
    if not tiles:
        raise RequestError(f"{file} has no rows; name a file with tiles")
    names = Counter(tile.name for tile in tiles)
    if double := next((name for name, count in names.items() if count > 1), None):
        raise RequestError(f"{file} has several tiles {double!r}; name a column of unique names")
    if "" in names:
        raise RequestError(f"{file} has a tile without a name; name another column")


def _frame(file: str, documents: Documents) -> geopandas.GeoDataFrame:
    remote = "://" in file
    if not remote and not expanded(file).exists():
        raise RequestError(f"there is no file {file}; name a file of tiles")
    place = cast("Any", BytesIO(documents.read(file)) if remote else expanded(file))
    path = urlsplit(file).path if remote else file
    try:
        if path.endswith((".parquet", ".geoparquet")):
            frame = geopandas.read_parquet(place)
        else:
            frame = geopandas.read_file(place)
        if not hasattr(frame, "geometry") or frame.geometry.isna().all():
            raise RequestError(f"{file} has no geometries; name a file of polygons")
        if frame.crs is None:
            raise RequestError(f"{file} does not say its CRS; write it into the file")
        return frame.to_crs("OGC:CRS84")
    except (DataSourceError, CRSError, ValueError, AttributeError, OSError) as err:
        reason = " ".join(str(err).split())[:200]
        raise RequestError(f"{file} is no file of tiles that can be read ({reason})") from err


def _geometry(document: dict[str, Any]) -> BaseGeometry:
    match document.get("type"):
        case "FeatureCollection":
            return shapely.union_all([_geometry(each) for each in document["features"]])
        case "Feature":
            return shape(document["geometry"])
        case _:
            return shape(document)


def _polygons(geometry: BaseGeometry | None, where: str) -> Polygon | MultiPolygon:
    """Keep the polygons of a geometry, flat: tile grids also hold middles and heights."""
    if geometry is None or geometry.is_empty:
        raise RequestError(f"{where} has no geometry; leave it out")
    parts = cast("list[BaseGeometry]", list(shapely.get_parts(shapely.force_2d(geometry))))
    found = [each for each in parts if isinstance(each, Polygon | MultiPolygon)]
    if not found:
        raise RequestError(f"{where} is a {geometry.geom_type}; an area has polygons")
    if not box(-180, -90, 180, 90).covers(shapely.union_all([part.envelope for part in found])):
        raise RequestError(
            f"{where} goes beyond longitude and latitude in degrees; write it in OGC:CRS84, "
            "divided at the antimeridian"
        )
    union = shapely.union_all([shapely.make_valid(each) for each in found])
    return cast("Polygon | MultiPolygon", union)
