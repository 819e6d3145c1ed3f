"""unbind: the scenes of a sheaf one by one again, to bind them anew."""

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from chipmill.formats.chip_index import SCENES
from chipmill.formats.columns import word_column
from chipmill.io.spool import Place, Spool
from chipmill.io.store import Store
from chipmill.io.tables import read_columns, row_groups
from chipmill.steps.sheaf import Piece, Rows, Sheaf


def unbind_scenes(
    archive: Store, sheaf: Sheaf, keep: Collection[str], *, spool: Spool
) -> list[Piece]:
    """Take scenes out of a sheaf.

    Args:
        archive: Where the sheaf is.
        sheaf: Whose scenes.
        keep: Names of the scenes to take.
        spool: Holds their rows until they are bound.
    """
    rows = read_columns(archive, [sheaf.scenes], SCENES.names).to_pylist()
    assets = read_columns(archive, [sheaf.provenance], None)
    return [
        Piece(
            scene=row["scene"],
            digest=row["digest"],
            box=tuple(row["bbox"].values()),
            size=len(chips),
            rows=partial(_rows, row, spool, spool.add(_encode(chips))),
            assets=partial(_of_scene, assets, row["scene"]),
        )
        for row, chips in zip(rows, _scenes(archive, sheaf), strict=True)
        if row["scene"] in keep
    ]


def _scenes(archive: Store, sheaf: Sheaf) -> Iterator[pa.Table]:
    """Read the rows of one scene after the other; none is divided among row groups."""
    sizes = iter(sheaf.sizes)
    for group in row_groups(archive, sheaf.chips):
        start = 0
        while start < len(group):
            size = next(sizes)
            yield group.slice(start, size)
            start += size


def _encode(chips: pa.Table) -> bytes:
    columns = [_alone(column) for column in chips.columns]
    table = pa.Table.from_arrays(columns, schema=chips.schema)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _rows(row: dict[str, Any], spool: Spool, place: Place) -> Rows:
    return row, pa.ipc.open_stream(spool.read(place)).read_all()


def _alone(column: "pa.ChunkedArray[Any]") -> "pa.Array[Any] | pa.ChunkedArray[Any]":
    """Leave in a dictionary the one word that a scene has, without those of its neighbours."""
    if not pa.types.is_dictionary(column.type):
        return column
    return word_column(column[0].as_py(), len(column))


def _of_scene(assets: pa.Table, scene: str) -> pa.Table:
    return assets.filter(pc.equal(assets["scene"], pa.scalar(scene)))
