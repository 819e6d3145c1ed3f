"""Read the Parquet tables of an archive: the named columns only, by ranges."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset, parquet

from chipmill.errors import StoreError
from chipmill.io.store import Store

ROWS_AT_ONCE = 1 << 17
"""Rows of a piece of a table, at the most."""


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


def schema_of(store: Store, key: str) -> pa.Schema:
    """Read which columns a file has.

    Raises:
        MissingError: There is nothing at the key.
        StoreError: It is not Parquet.
    """
    with _translated(store, key):
        return parquet.read_schema(pa.PythonFile(store.reader(key), mode="r"))


def scan(
    store: Store, key: str, columns: list[str], *, where: "pc.Expression | None" = None
) -> Iterator[pa.Table]:
    """Read columns of a file piece by piece, so that memory holds some pieces and no more.

    Args:
        store: Where the file is.
        key: Of the file.
        columns: Names; of a column in a column as bbox.xmin.
        where: Which rows; row groups that have none are not read.

    Raises:
        MissingError: There is nothing at the key.
        StoreError: It is not Parquet, or lacks a column.
    """
    form: Any = dataset.ParquetFileFormat()  # its stubs know no file objects
    with _translated(store, key):
        fragment = form.make_fragment(pa.PythonFile(store.reader(key), mode="r"))
        pieces = fragment.to_batches(
            columns=columns, filter=where, batch_size=ROWS_AT_ONCE, batch_readahead=4
        )
        for piece in pieces:
            yield pa.Table.from_batches([piece])


@contextmanager
def _translated(store: Store, key: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowKeyError) as err:
        raise StoreError(f"{store.href(key)} is not the table it should be ({err})") from err
