"""Chip packs that lie in a store: what is where, and the pixels of single chips by range."""

from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from chipmill.errors import PackError
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack import PackHeader, decode_pixels, join_bytes, pack_schema
from chipmill.formats.pack_head import TAIL, footer_length, read_blocks
from chipmill.formats.pack_index import PackEntry
from chipmill.io.store import Store


class _Columns(Protocol):
    """A record batch of a pack, as far as pixels go."""

    def column(self, name: str) -> pa.FixedSizeBinaryArray:
        """Give the column."""
        ...


def index_pack(path: Path, pack: ManifestPack, header: PackHeader) -> PackEntry:
    """Say where each chip of a pack on this disk lies.

    Raises:
        PackError: The file is no chip pack.
    """
    with pa.memory_map(str(path)) as mapped:
        whole = mapped.read_buffer(pack.size)
        small = ipc.open_file(whole, options=ipc.IpcReadOptions(included_fields=list(range(1, 7))))
        table = small.read_all()
        reader = ipc.open_file(whole)
        if header.codec == "none":
            start, size = _plain(reader, whole)
        else:
            start, size = _batches(whole, where=str(path))
        columns = {name: np.array(table[name]) for name in table.column_names}
    return PackEntry(pack=pack, header=header, **cast("Any", columns), start=start, size=size)


def read_pixels(
    store: Store, key: str, entry: PackEntry, *, chip: int, start: int = 0, count: int | None = None
) -> NDArray[np.uint8]:
    """Read the pixels of one chip, or whole bands of them, by one request.

    Args:
        store: Where the pack is.
        key: Of the pack.
        entry: What the index says of it.
        chip: Row of the chip in the file.
        start: First byte of the chip that is wanted.
        count: How many bytes; None: to the chip's end.

    Returns:
        Shape (count,).

    Raises:
        PackError: The bytes there are not a chip.
        MissingError: There is no such object.
        TransientError: The store did not answer.
    """
    header = entry.header
    count = header.chip_bytes - start if count is None else count
    at, size = int(entry.start[chip]), int(entry.size[chip])
    if header.codec == "none":
        return np.frombuffer(_range(store, key, at + start, count), np.uint8)
    record = _decoded(_range(store, key, at, size), header, where=store.href(key))
    if header.encoding == "plain":
        return record[start : start + count]
    out = np.empty(count, np.uint8)
    join_bytes(record, header.bands, out, start=start)
    return out


def _range(store: Store, key: str, start: int, count: int) -> memoryview:
    """Read a range, all of it."""
    (data,) = store.ranges(key, [start], [start + count], gap=0)
    if len(data) != count:
        raise PackError(
            f"{store.href(key)} ends {count - len(data)} bytes too early; export it again"
        )
    return memoryview(data)


def _decoded(data: memoryview, header: PackHeader, *, where: str) -> NDArray[np.uint8]:
    """Decompress the pixels of a record batch of one chip, shape (bytes,)."""
    try:
        message = ipc.read_message(pa.py_buffer(data))
        batch = cast("_Columns", ipc.read_record_batch(message, pack_schema(header)))
        return decode_pixels(batch.column("pixels"))[0]
    except (pa.ArrowException, OSError, EOFError) as err:
        raise PackError(f"{where} holds a damaged chip ({err}); export it again") from err


def _plain(
    reader: ipc.RecordBatchFileReader, whole: pa.Buffer
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the pixels of each chip: they lie in the file as they are."""
    starts: list[NDArray[np.int64]] = []
    width = 0
    for number in range(reader.num_record_batches):
        pixels = decode_pixels(cast("_Columns", reader.get_batch(number)).column("pixels"))
        width = pixels.shape[1]
        first = pixels.ctypes.data - whole.address
        starts.append(first + np.arange(len(pixels), dtype=np.int64) * width)
    start = np.concatenate(starts)
    return start, np.full(len(start), width, np.int64)


def _batches(whole: pa.Buffer, *, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the record batch of each chip."""
    length = footer_length(bytes(whole[whole.size - TAIL :]), where=where)
    footer = bytes(whole[whole.size - TAIL - length : whole.size - TAIL])
    blocks = read_blocks(footer, where=where)
    start = np.array([block.start for block in blocks], np.int64)
    return start, np.array([block.metadata + block.body for block in blocks], np.int64)
