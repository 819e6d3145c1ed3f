"""Files of a local archive that are being written, and what killed writers have left of them."""

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from chipmill.io.direct import Direct

_WRITE_BYTES = 2**16
"""Bytes that are written to a file at once. Linux looks for a run of memory as long as a write;
up to about this many it finds one soon. Writes of 256 KiB and more took up to five times the CPU
where memory was in pieces."""
_NAME = re.compile(r".+#\d+")
"""obstore's own form of a file that is being written, which no listing shows: a number after the
sign."""


def write_file(path: Path, chunks: Iterable[bytes], *, cached: bool) -> None:
    """Write a file under a name that no listing shows, and rename it when it is whole.

    Unless it is to be cached, all but its end goes past the page cache.

    It is not synced. Where the power fails soon after, the file system has it shorter than it was,
    as a file's length follows its blocks; who compares the size, as a copy does, writes it again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}#{secrets.randbelow(10**12)}")
    try:
        if cached:
            _write_cached(part, chunks)
        else:
            with Direct(part) as file:
                for chunk in chunks:
                    file.write(chunk)
                file.finish()
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_cached(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            for start in range(0, len(chunk), _WRITE_BYTES):
                file.write(memoryview(chunk)[start : start + _WRITE_BYTES])


def unfinished(root: Path | None, before: datetime) -> Mapping[str, int]:
    """Find such files to which nobody has written since a time: their keys and bytes.

    Args:
        root: Where an archive lies; None: in a store, which shows only what is whole.
        before: The time.
    """
    found: dict[str, int] = {}
    if root is None:
        return found
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names if _NAME.fullmatch(name)):
            try:
                known = path.stat()
            except FileNotFoundError:  # its writer has just ended
                continue
            if known.st_mtime < before.timestamp():
                found[path.relative_to(root).as_posix()] = known.st_size
    return found
