"""Read the Parquet tables of an archive: the named columns only, by ranges."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from chipmill.errors import StoreError
from chipmill.io.store import Store


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
