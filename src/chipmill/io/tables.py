"""Read the Parquet tables of an archive: the named columns only, by ranges."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from chipmill.errors import StoreError
from chipmill.io.store import Store


def read_columns(
    store: Store,
    keys: Sequence[str],
    columns: list[str] | None,
    *,
    filters: "pc.Expression | None" = None,
) -> pa.Table:
    """Read columns of several files as one table, its dictionaries unified.

    Args:
        store: Where the files are.
        keys: Of the files, one or more; their rows come in this order.
        columns: Names; None is all.
        filters: Which rows; row groups that have none are not read.

    Raises:
        MissingError: There is nothing at one of the keys.
        StoreError: One is not Parquet, or lacks a column.
    """
    tables: list[pa.Table] = []
    for key in keys:
        file = pa.PythonFile(store.reader(key), mode="r")
        with _translated(store, key):
            tables.append(parquet.read_table(file, columns=columns, filters=filters))
    return pa.concat_tables(tables).unify_dictionaries()


def row_groups(store: Store, key: str) -> Iterator[pa.Table]:
    """Read a file row group by row group.

    Raises:
        MissingError: There is nothing at the key.
        StoreError: It is not Parquet.
    """
    source = pa.PythonFile(store.reader(key), mode="r")
    with _translated(store, key):
        file = parquet.ParquetFile(source)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


@contextmanager
def _translated(store: Store, key: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError) as err:
        raise StoreError(f"{store.href(key)} is not the table it should be ({err})") from err
