"""filtered: the chips of a snapshot that a filter asks for."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from chipmill.io.store import Store
from chipmill.io.tables import read_columns, schema_of
from chipmill.model.chip_filter import ChipFilter


def read_filtered(
    store: Store,
    keys: Sequence[str],
    columns: Sequence[str],
    chosen: ChipFilter,
    *,
    where: "pc.Expression | None" = None,
) -> pa.Table:
    """Read columns of the chips that pass a filter, file after file.

    Args:
        store: Where the files are.
        keys: Of files of chips, one or more.
        columns: Names.
        chosen: The filter; the empty one holds for all.
        where: A condition besides.

    Raises:
        RequestError: The filter names a column that is not there, or what chipmill does not know.
        StoreError: A file is not of a chip index.
    """
    wanted = list(columns)
    if not chosen:
        return read_columns(store, keys, wanted, filters=where)
    read = [*dict.fromkeys([*wanted, *chosen.exact_columns])]
    tables: list[pa.Table] = []
    for key in keys:
        coarse = chosen.coarse(schema_of(store, key))
        both = coarse if where is None or coarse is None else coarse & where
        tables.append(chosen.exact(read_columns(store, [key], read, filters=both)).select(wanted))
    return pa.concat_tables(tables).unify_dictionaries()
