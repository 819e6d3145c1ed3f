"""Items as a table: stac-geoparquet."""

import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import stac_geoparquet.arrow
from shapely.errors import ShapelyError

from chipmill.formats.item_reading import BROKEN

log = logging.getLogger(__name__)


def stac_geoparquet_file(items: Iterable[Mapping[str, Any]]) -> bytes | None:
    """Write items as stac-geoparquet.

    Returns:
        The file; None where fields contradict one another or an item has no geometry, which the
        library cannot write.
    """
    documents = [dict(item) for item in items]
    if any(item.get("geometry") is None for item in documents):
        log.warning("items without a geometry do not fit into a stac-geoparquet file")
        return None
    try:
        table = stac_geoparquet.arrow.parse_stac_items_to_arrow(documents)
        with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
            path = Path(folder, "items.parquet")  # the library writes to paths only
            stac_geoparquet.arrow.to_parquet(table, path, compression="zstd")
            return path.read_bytes()
    except (pa.ArrowException, ShapelyError, *BROKEN) as err:
        log.warning("these items do not fit into one stac-geoparquet file: %s", err)
        return None
