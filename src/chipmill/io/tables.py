"""Read the Parquet tables of an archive: the named columns only, by ranges."""

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset, parquet

from chipmill.errors import StoreError, TransientError
from chipmill.io.store import Store

ROWS_AT_ONCE = 1 << 17
"""Rows of a piece of a table, at the most."""
SMALL = 2**20
"""Bytes of a file that one request reads; it would take three to read less of it."""


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
        TransientError: The store did not answer.
    """
    tables: list[pa.Table] = []
    for key in keys:
        with _opened(store, key) as file:
            tables.append(parquet.read_table(file, columns=columns, filters=filters))
    return pa.concat_tables(tables).unify_dictionaries()


def row_groups(store: Store, key: str) -> Iterator[pa.Table]:
    """Read a file row group by row group.

    Raises:
        MissingError: There is nothing at the key.
        StoreError: It is not Parquet.
        TransientError: The store did not answer.
    """
    with _opened(store, key) as source:
        file = parquet.ParquetFile(source)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def schema_of(store: Store, key: str) -> pa.Schema:
    """Read which columns a file has.

    Raises:
        MissingError: There is nothing at the key.
        StoreError: It is not Parquet.
    """
    with _opened(store, key) as file:
        return parquet.read_schema(file)


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
    with _opened(store, key) as file:
        fragment = form.make_fragment(file)
        pieces = fragment.to_batches(
            columns=columns, filter=where, batch_size=ROWS_AT_ONCE, batch_readahead=4
        )
        for piece in pieces:
            yield pa.Table.from_batches([piece])


@contextmanager
def _opened(store: Store, key: str) -> Generator[pa.NativeFile]:
    """Open a file, a small one whole, and turn what goes wrong into chipmill's errors."""
    reader = store.reader(key)
    try:
        if reader.seek(0, os.SEEK_END) <= SMALL:
            yield pa.BufferReader(store.get(key))
        else:
            yield pa.PythonFile(reader, mode="r")
    except (pa.ArrowInvalid, pa.ArrowKeyError) as err:
        raise StoreError(f"{store.href(key)} is not the table it should be ({err})") from err
    except OSError as err:
        raise TransientError(f"{store.href(key)} could not be read ({err}); try again") from err
