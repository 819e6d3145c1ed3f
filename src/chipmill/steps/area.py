"""Where a request looks: its tiles, and the name of its search."""

from collections.abc import Sequence

from pydantic import JsonValue

from chipmill.formats.signature import said, without_signature
from chipmill.io.documents import Documents
from chipmill.io.tiles import is_inline, read_area, read_tiles
from chipmill.model.acquisition import WHOLE_AREA
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.mgrs import grid_code, tile_area
from chipmill.model.tile import Tile, draw_tiles

_PLACE = {"sensor", "catalog", "bbox", "period", "ids", "grid_codes"}
_CHOICE = {"max_cloud", "max_nodata", "policy", "limit"}


def find_tiles(request: IngestRequest, documents: Documents) -> list[Tile]:
    """Find the areas that a request searches one by one; without tiles it is one.

    Raises:
        RequestError: A file cannot be used.
        CatalogError: A file cannot be reached.
        TransientError: Its server does not answer.
    """
    if request.mgrs:
        return [
            Tile(name=name, area=tile_area(name), grid_codes=(grid_code(name),))
            for name in request.mgrs
        ]
    if request.tiles.file:
        tiles = read_tiles(request.tiles, documents)
        if request.tiles.per_stratum is None:
            return tiles
        seed = request.policy.seed
        return draw_tiles(tiles, per_stratum=request.tiles.per_stratum, seed=seed)
    area = read_area(request.geometry, documents) if request.geometry else None
    return [Tile(name=WHOLE_AREA, area=area)]


def typed_addresses(request: IngestRequest) -> tuple[str, ...]:
    """List the files and servers that a request names, as whoever wrote it typed them."""
    file = request.geometry if request.geometry and not is_inline(request.geometry) else None
    return tuple(filter(None, (request.catalog, request.tiles.file, file)))


def search_parts(
    request: IngestRequest, tiles: Sequence[Tile], collections: Sequence[str]
) -> dict[str, JsonValue]:
    """Gather what decides the result of a search.

    Of files it is the content, not the name; the address of the catalogue goes without a
    signature, which is another one tomorrow.
    """
    asked = request.model_dump(mode="json", include=_PLACE | _CHOICE)
    places: list[JsonValue] = [
        [tile.name, tile.area.wkt if tile.area else None, list(tile.grid_codes)]
        for tile in sorted(tiles, key=lambda tile: tile.name)
    ]
    asked["catalog"] = without_signature(request.catalog)
    return {**asked, "collections": list(collections), "tiles": places}


def request_words(request: IngestRequest) -> str:
    """Say in words what a request looks for."""
    tiles = request.mgrs or ((said(request.tiles.file),) if request.tiles.file else ())
    words = {
        "bbox": request.bbox,
        "geometry": request.geometry and "given",
        "tiles": ", ".join(str(tile) for tile in tiles),
        "grid codes": ", ".join(request.grid_codes),
        "period": request.period,
        "ids": ", ".join(request.ids),
        "cloud": None if request.max_cloud is None else f"<= {request.max_cloud:g} %",
        "nodata": None if request.max_nodata is None else f"<= {request.max_nodata:g} %",
    }
    return ", ".join(f"{name} {value}" for name, value in words.items() if value) or "its sensor"
