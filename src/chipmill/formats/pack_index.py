"""Where each chip of an export lies: one row a pack, so that one read finds all of a megabatch.

A reader of an object store would else ask each pack for its footer and each of its record batches
for its small columns, tens of requests a scene. The packs themselves stay whole: this says again
what they hold, and at which byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import ValidationError

from chipmill.errors import PackError
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack import PackHeader


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackEntry:
    """One pack and its chips; arrays have the shape (chips,), in the order of the file."""

    pack: ManifestPack
    header: PackHeader
    row: NDArray[np.uint16]
    col: NDArray[np.uint16]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    cloud_fraction: NDArray[np.float32]
    nodata_fraction: NDArray[np.float32]
    start: NDArray[np.int64]
    """First byte of a chip's pixels; where they are compressed, of the chip's record batch."""
    size: NDArray[np.int64]
    """Bytes from there on."""

    def chip_id(self, chip: int) -> str:
        """Name a chip, by its row in the file."""
        place = f"{self.row[chip]}-{self.col[chip]}"
        return f"{self.header.collection}/{self.header.scene}/{place}"


_LISTS: Final[dict[str, Any]] = {
    "row": pa.uint16(),
    "col": pa.uint16(),
    "lat": pa.float64(),
    "lon": pa.float64(),
    "cloud_fraction": pa.float32(),
    "nodata_fraction": pa.float32(),
    "start": pa.int64(),
    "size": pa.int64(),
}
_TEXTS = {"pack": ManifestPack, "header": PackHeader}
PACK_INDEX = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXTS),
        *(pa.field(name, pa.list_(kind), nullable=False) for name, kind in _LISTS.items()),
    ]
)
_WRITING: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": False,
    "column_encoding": {
        f"{name}.list.element": "BYTE_STREAM_SPLIT"
        if pa.types.is_floating(kind)
        else "DELTA_BINARY_PACKED"
        for name, kind in _LISTS.items()
    },
}


def encode_index(entries: Sequence[PackEntry]) -> bytes:
    """Write the rows of some packs as Parquet; the same rows always give the same bytes."""
    texts = [
        pa.array([getattr(entry, name).model_dump_json() for entry in entries]) for name in _TEXTS
    ]
    bounds = pa.array(np.cumsum([0, *(len(entry.row) for entry in entries)]), pa.int32())
    make = cast("Any", pa.ListArray).from_arrays  # the stubs do not tell kinds of arrays apart
    lists = [make(bounds, pa.array(_joined(entries, name), kind)) for name, kind in _LISTS.items()]
    file = BytesIO()
    parquet.write_table(pa.Table.from_arrays([*texts, *lists], schema=PACK_INDEX), file, **_WRITING)
    return file.getvalue()


def decode_index(data: bytes, *, where: str) -> list[PackEntry]:
    """Read the rows of packs.

    Raises:
        PackError: It is no such table; `where` names the object.
    """
    try:
        table = parquet.read_table(BytesIO(data))
        if not table.schema.equals(PACK_INDEX):
            raise PackError(f"{where} has other columns than an index of packs; export it again")
        lists = [_split(table[name]) for name in _LISTS]
        return [
            PackEntry(
                pack=ManifestPack.model_validate_json(pack),
                header=PackHeader.model_validate_json(header),
                **dict(zip(_LISTS, values, strict=True)),
            )
            for pack, header, *values in zip(
                table["pack"].to_pylist(), table["header"].to_pylist(), *lists, strict=True
            )
        ]
    except (pa.ArrowException, ValidationError) as err:
        raise PackError(f"{where} is no index of packs ({err}); export it again") from err


def _joined(entries: Sequence[PackEntry], name: str) -> Any:  # noqa: ANN401  # any data type
    return np.concatenate([getattr(entry, name) for entry in entries])


def _split(column: Any) -> list[Any]:  # noqa: ANN401  # the stubs do not tell kinds of arrays apart
    """Give the lists of a column as arrays that share its memory."""
    lists = column.combine_chunks()
    bounds = lists.offsets.to_numpy()
    values = lists.values.to_numpy()
    return [values[start:stop] for start, stop in pairwise(bounds.tolist())]
