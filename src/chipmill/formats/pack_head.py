"""Where in a chip pack its parts lie, so that a reader of ranges needs few of them.

The footer of an Arrow IPC file is a flatbuffer that lists the record batches by first byte, bytes
of metadata and bytes of body. pyarrow reads it and does not give it away, so it is read here: the
fields of Footer and Block of apache/arrow, format/File.fbs, by the encoding of flatbuffers.dev
(internals).
"""

import struct
from dataclasses import dataclass

from chipmill.errors import PackError

MAGIC = b"ARROW1"
TAIL = 4 + len(MAGIC)
"""Bytes behind the footer: its length, and the magic word."""
_BATCHES = 3
"""Number of the field recordBatches of Footer: version, schema, dictionaries, recordBatches."""
_BLOCK = struct.Struct("<qi4xq")


@dataclass(frozen=True, slots=True)
class Block:
    """One record batch of an Arrow IPC file."""

    start: int
    """First byte in the file."""
    metadata: int
    """Bytes of its description; its columns follow."""
    body: int
    """Bytes of its columns."""


def footer_length(tail: bytes, *, where: str) -> int:
    """Read from the last TAIL bytes of a file how long its footer is.

    Raises:
        PackError: It is no Arrow IPC file; `where` names it.
    """
    if len(tail) != TAIL or not tail.endswith(MAGIC):
        raise PackError(f"{where} does not end as an Arrow file does; export it again")
    (length,) = struct.unpack("<i", tail[:4])
    return int(length)


def read_blocks(footer: bytes, *, where: str) -> list[Block]:
    """Read from the footer of a file where its record batches lie.

    Raises:
        PackError: The footer is damaged; `where` names the file.
    """
    try:
        table = _u32(footer, 0)
        layout = table - _i32(footer, table)
        place = 4 + 2 * _BATCHES
        if place >= _u16(footer, layout):
            return []
        field = table + _u16(footer, layout + place)
        vector = field + _u32(footer, field)
        count = _u32(footer, vector)
        blocks = [_BLOCK.unpack_from(footer, vector + 4 + 24 * n) for n in range(count)]
    except struct.error as err:
        raise PackError(f"{where} has a damaged Arrow footer ({err}); export it again") from err
    return [Block(*block) for block in blocks]


def _u16(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _i32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<i", data, at)[0])
