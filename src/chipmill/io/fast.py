"""Fast storage: a file is either whole and durable under its name, or it is not there."""

import errno
import hashlib
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chipmill.errors import StoreError, TransientError
from chipmill.formats import layout

_FULL = {errno.ENOSPC, errno.EDQUOT}
_TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one megabatch."""

    path: Path

    @classmethod
    def of(cls, root: Path, *, plan: str, number: int) -> "Folder":
        """Name the folder of a megabatch below the root of fast storage."""
        return cls(root / layout.megabatch_folder(plan, number))

    def prepare(self) -> None:
        """Make the folder and remove what an interrupted worker left half written."""
        with _translated(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(f"{_TEMPORARY}*"):
                left.unlink()

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when it is not there."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def write(self, name: str, fill: Callable[[BinaryIO], None], *, fence: int) -> None:
        """Write a file whole: under a temporary name, to the disk, then under its own name.

        Args:
            name: File name in the folder.
            fill: Writes the content.
            fence: Number of the lease, part of the temporary name.

        Raises:
            TransientError: There is no space left; nothing of the file stays.
            StoreError: The disk fails.
        """
        temporary = self.path / f"{_TEMPORARY}{fence}-{name}"
        with _translated(temporary):
            try:
                with temporary.open("wb") as file:
                    fill(file)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path / name)
            finally:
                temporary.unlink(missing_ok=True)

    def digest(self, name: str) -> str:
        """Hash a file as it lies on the disk: SHA-256 in hex."""
        with _translated(self.path / name), (self.path / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def sync(self) -> None:
        """Make the names in the folder durable."""
        with _translated(self.path):
            for folder in (self.path, self.path.parent):
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def remove(self) -> int:
        """Remove the folder and what chipmill wrote into it, the manifest first.

        Returns:
            Bytes that were freed; 0 when it was gone already.

        Raises:
            StoreError: Something lies there that chipmill did not write; it stays.
        """
        if not self.path.exists():
            return 0
        freed = 0
        with _translated(self.path):
            (self.path / layout.MANIFEST).unlink(missing_ok=True)
            for file in sorted(self.path.iterdir()):
                if file.suffix != ".arrow" and not file.name.startswith(_TEMPORARY):
                    raise StoreError(f"{file} is not chipmill's; remove it by hand")
                freed += file.stat().st_size
                file.unlink()
            self.path.rmdir()
        return freed


@contextmanager
def _translated(where: Path) -> Generator[None]:
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise TransientError(f"no space left for {where}; free some on fast storage") from err
        raise StoreError(f"{where} cannot be written or read ({err.strerror})") from err
