"""map: the chip index as one page that opens without a server and without a network."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.formats.map_page import CORNERS, UNIT, Quads, pack_columns, packed, quads, render
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.model.chip_filter import ChipFilter
from chipmill.steps.filtered import read_filtered

ALL = ChipFilter()
USABLE, CLOUD, NODATA = range(3)
"""What a chip is good for, as the page's script numbers it."""
SHARES = 10_000
"""A share of pixels is shown in steps of a hundredth of a percent."""
_COLUMNS = ["scene", "collection", "row", "col", "cloud_fraction", "nodata_fraction", "geometry"]


def index_map(
    archive: Store,
    snapshot: Snapshot,
    *,
    max_cloud: float = 0.30,
    max_nodata: float = 0.0,
    chosen: ChipFilter = ALL,
) -> str:
    """Draw the chips of a snapshot on a map that can be moved, coloured by what they are good for.

    Args:
        archive: Where the snapshot's files are.
        snapshot: Which chips there are.
        max_cloud: Largest share of cloud of a usable chip.
        max_nodata: Largest share of nodata of a usable chip.
        chosen: Which chips are drawn.

    Returns:
        A self-contained HTML page.

    Raises:
        RequestError: The filter cannot be used, or holds for no chip.
    """
    table = read_filtered(archive, snapshot.chip_files, _COLUMNS, chosen)
    title = f"chipmill snapshot {snapshot.snapshot}"
    return chips_map(table, title=title, max_cloud=max_cloud, max_nodata=max_nodata)


def parts_map(
    paths: Sequence[Path],
    *,
    max_cloud: float = 0.30,
    max_nodata: float = 0.0,
    chosen: ChipFilter = ALL,
) -> str:
    """Draw the chips of index parts on disk; as `index_map`.

    Raises:
        MissingError: There is no such file.
        StoreError: A file is not a part of a chip index.
    """
    tables = [
        read_filtered(Store.open(path.resolve().parent.as_uri()), [path.name], _COLUMNS, chosen)
        for path in paths
    ]
    table = pa.concat_tables(tables).unify_dictionaries()
    title = paths[0].name if len(paths) == 1 else f"{len(paths)} parts of a chip index"
    return chips_map(table, title=title, max_cloud=max_cloud, max_nodata=max_nodata)


def chips_map(table: pa.Table, *, title: str, max_cloud: float, max_nodata: float) -> str:
    """Draw the chips of a table; as `index_map`.

    Raises:
        RequestError: The table is empty.
    """
    if len(table) == 0:
        raise RequestError("there is no chip to draw; index a scene, or ask for other chips")
    shapes = np.asarray(shapely.from_wkb(table["geometry"].to_numpy()))
    cover, codes = quads(shapes), _codes(table["scene"])
    cloud = table["cloud_fraction"].to_numpy()
    nodata = table["nodata_fraction"].to_numpy()
    judged = np.select(
        [nodata > np.float32(max_nodata), cloud > np.float32(max_cloud)], [NODATA, CLOUD], USABLE
    )
    whole = np.round(cover.corners / UNIT).astype(np.int64)
    columns = {
        **{f"x{corner}": whole[:, corner, 0] for corner in range(CORNERS)},
        **{f"y{corner}": whole[:, corner, 1] for corner in range(CORNERS)},
        "owner": cover.owner[len(table) :],
        "scene": codes,
        "row": table["row"].to_numpy().astype(np.int64),
        "col": table["col"].to_numpy().astype(np.int64),
        "cloud": np.round(cloud * SHARES).astype(np.int64),
        "nodata": np.round(nodata * SHARES).astype(np.int64),
        "judged": judged.astype(np.int64),
    }
    listed, chips = pack_columns(columns)
    collections = sorted(
        str(name) for name in table["collection"].cast(pa.string()).unique().to_pylist()
    )
    scenes = _scenes(table, codes, cover, collections)
    about = {
        "title": title,
        "told": f"{len(table):,} chips in {len(scenes):,} scenes",
        "chips": len(table),
        "columns": listed,
        "judged": np.bincount(judged, minlength=NODATA + 1).tolist(),
        "collections": collections,
        "scenes": scenes,
        "bounds": _bounds(cover.corners),
    }
    return render(_page("map.html"), about=about, parts={"chips": chips, **_packed()})


def _codes(column: "pa.ChunkedArray[Any]") -> NDArray[np.int64]:
    """Number the scenes in the order of their first chips."""
    names = column.cast(pa.string()).dictionary_encode().combine_chunks()
    return cast("pa.DictionaryArray[Any, Any]", names).indices.to_numpy().astype(np.int64)


def _scenes(
    table: pa.Table, codes: NDArray[np.int64], cover: Quads, collections: Sequence[str]
) -> list[tuple[str, int, list[float]]]:
    """List the scenes by number: name, number of the collection, box in degrees."""
    firsts = np.unique(codes, return_index=True)[1]
    names = table["scene"].take(firsts).to_pylist()
    kinds = table["collection"].take(firsts).to_pylist()
    order = np.argsort(codes[cover.owner], kind="stable")
    starts = np.searchsorted(codes[cover.owner][order], np.arange(len(firsts)))
    corners = cover.corners[order]
    low = np.minimum.reduceat(corners.min(axis=1), starts)
    high = np.maximum.reduceat(corners.max(axis=1), starts)
    boxes = np.concatenate([low, high], axis=1).round(6).tolist()
    return [
        (str(name), collections.index(str(kind)), box)
        for name, kind, box in zip(names, kinds, boxes, strict=True)
    ]


def _bounds(corners: NDArray[np.float64]) -> list[float]:
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    return [*low.tolist(), *high.tolist()]


def _page(name: str) -> str:
    """Read a file of the page, as it lies in the package."""
    return files("chipmill").joinpath("page", name).read_text(encoding="utf-8")


@cache
def _packed() -> dict[str, str]:
    """Give what is the same on every page: the script, the land and deck.gl as pydeck brings it."""
    bundle = files("pydeck").joinpath("nbextension", "static", "index.js").read_bytes()
    land = _page("land.geojson").encode()
    return {"script": _page("map.js"), "land": packed(land), "deck": packed(bundle)}
