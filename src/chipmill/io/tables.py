"""Parquet tables: read those of an archive by ranges, write items as stac-geoparquet."""

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import stac_geoparquet.arrow
from pyarrow import parquet

from chipmill.errors import StoreError
from chipmill.io.store import Store

log = logging.getLogger(__name__)


def read_columns(
    store: Store,
    keys: Sequence[str],
    columns: list[str],
    *,
    filters: "pc.Expression | None" = None,
) -> pa.Table:
    """Read some columns of several files as one table, its dictionaries unified.

    Raises:
        MissingError: There is nothing at one of the keys.
        StoreError: One is not Parquet, or lacks a column.
    """
    tables: list[pa.Table] = []
    for key in keys:
        file = pa.PythonFile(store.reader(key), mode="r")
        try:
            tables.append(parquet.read_table(file, columns=columns, filters=filters))
        except (pa.ArrowInvalid, pa.ArrowKeyError) as err:
            raise StoreError(f"{store.href(key)} is not the table it should be ({err})") from err
    return pa.concat_tables(tables).unify_dictionaries()


def stac_geoparquet_file(items: Iterable[Mapping[str, Any]]) -> bytes | None:
    """Write items as stac-geoparquet; None where their fields contradict one another."""
    try:
        table = stac_geoparquet.arrow.parse_stac_items_to_arrow([dict(item) for item in items])
        with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
            path = Path(folder, "items.parquet")  # the library writes to paths only
            stac_geoparquet.arrow.to_parquet(table, path, compression="zstd")
            return path.read_bytes()
    except (pa.ArrowException, ValueError, TypeError, KeyError) as err:
        log.warning("these items do not fit into one stac-geoparquet file: %s", err)
        return None
