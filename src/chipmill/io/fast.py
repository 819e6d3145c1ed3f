"""Fast storage: a file is either whole and durable under its name, or it is not there."""

import errno
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chipmill.errors import StoreError, TransientError
from chipmill.formats import layout
from chipmill.formats.multihash import XXH3, Checksum, digest_of, encode_multihash, running
from chipmill.io.direct import Cached, Direct, Writer
from chipmill.io.lustre import Lustre

_FULL = {errno.ENOSPC, errno.EDQUOT}
_TEMPORARY = ".tmp-"
RELEASE_SECONDS = 3600.0
"""So long a task that frees files of a linked bucket may take."""
_PIECE = 1 << 18
"""Bytes that are hashed and copied while they are in the processor's cache."""


class Hashing:
    """A file that is written: counts and hashes what passes, as far as Arrow needs a file."""

    closed = False

    def __init__(self, file: Writer) -> None:
        """Begin at the beginning of `file`."""
        self._file = file
        self._hash = running(XXH3)
        self._size = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Write, and hash in the same pass."""
        whole = memoryview(data).cast("B")
        for start in range(0, len(whole), _PIECE):
            piece = whole[start : start + _PIECE]
            self._hash.update(piece)
            self._file.write(piece)
        self._size += len(whole)
        return len(whole)

    def tell(self) -> int:
        """Say how many bytes are written."""
        return self._size

    def flush(self) -> None:
        """Do nothing: the folder flushes what it has opened."""

    def written(self) -> "Written":
        """Say what has passed."""
        found = Checksum(XXH3, self._hash.hexdigest())
        return Written(size=self._size, checksum=encode_multihash(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that is whole."""

    size: int
    """Bytes."""
    checksum: str
    """A multihash."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one megabatch."""

    path: Path
    cached: bool = True
    """Whether what is written stays in the page cache as well."""
    fsx: str | None = None
    """Id of the FSx for Lustre file system that it lies on: its tasks free what links stand for
    where Lustre's command may not."""

    @classmethod
    def of(
        cls,
        root: Path,
        *,
        plan: str,
        number: int,
        cached: bool = True,
        fsx: str | None = None,
    ) -> "Folder":
        """Name the folder of a megabatch below the root of fast storage."""
        return cls(root / layout.megabatch_folder(plan, number), cached, fsx)

    def prepare(self, fence: int) -> None:
        """Make the folder, and remove what workers under earlier leases left half written."""
        with _translated(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(f"{_TEMPORARY}*"):
                number = left.name.removeprefix(_TEMPORARY).partition("-")[0]
                if not number.isdecimal() or int(number) <= fence:
                    left.unlink(missing_ok=True)

    def keep_free(self, floor: int, *, need: int) -> None:
        """Refuse to write what would leave less than `floor` bytes free on the disk.

        Raises:
            TransientError: There is not so much room; something else fills the disk.
        """
        with _translated(self.path):
            disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize
        if free - need < floor:
            raise TransientError(
                f"{self.path} has {free:,} bytes free, {need:,} are to be written and {floor:,} "
                "stay free; free some, or lower CHIPMILL_BUDGET or CHIPMILL_FREE_FLOOR"
            )

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when it is not there."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def write(self, name: str, fill: Callable[[Hashing], None], *, fence: int) -> Written:
        """Write a file whole: under a temporary name, to the disk, then under its own name.

        Args:
            name: File name in the folder.
            fill: Writes the content.
            fence: Number of the lease, part of the temporary name.

        Returns:
            Size and hash of what was written, without reading it again.

        Raises:
            TransientError: There is no space left, or the disk fails; nothing of the file stays.
            StoreError: It cannot be written, for another reason.
        """
        temporary = self.path / f"{_TEMPORARY}{fence}-{name}"
        with _translated(temporary):
            try:
                with (Cached if self.cached else Direct)(temporary) as file:
                    hashing = Hashing(file)
                    fill(hashing)
                    file.sync()
                temporary.replace(self.path / name)
                return hashing.written()
            finally:
                temporary.unlink(missing_ok=True)

    def found(self, name: str, algorithm: str = XXH3) -> Written:
        """Measure and hash a file as it lies on the disk."""
        with _translated(self.path / name), (self.path / name).open("rb") as file:
            found = Checksum(algorithm, digest_of(file, algorithm))
            return Written(size=file.tell(), checksum=encode_multihash(found))

    def link(self, name: str, target: Path) -> None:
        """Let a name stand for a file of a linked bucket, elsewhere on the same file system."""
        with _translated(self.path / name):
            (self.path / name).unlink(missing_ok=True)
            (self.path / name).symlink_to(target)

    def _release_links(self) -> None:
        """Let Lustre free what links of this folder, and of no other megabatch's, stand for."""
        links = [path for path in self.path.glob("*.tif") if path.is_symlink()]
        root = self.path.parent.parent
        mine = [link.readlink() for link in links if len([*root.glob(f"*/*/{link.name}")]) == 1]
        if there := [target for target in mine if target.exists()]:
            try:
                Lustre().release(there)
            except (StoreError, TransientError):
                if self.fsx is None:
                    raise
                from chipmill.io.fsx_tasks import FsxTasks  # noqa: PLC0415  # loads boto3

                FsxTasks(self.fsx).release(there, seconds=RELEASE_SECONDS)

    def sync(self) -> None:
        """Make the names in the folder durable, and the names that lead to it."""
        with _translated(self.path):
            for folder in self._way():
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def _way(self) -> tuple[Path, ...]:
        """Name the folder, that of the plan, the root, and what has the root's name."""
        return (self.path, *list(self.path.parents)[:3])

    def remove(self, *, check: Callable[[], None] = lambda: None) -> int:
        """Remove the folder and what chipmill wrote into it, the manifest first.

        Links are never followed: what is deleted lies in this folder. Where they stand for files of
        a linked bucket, Lustre frees the bytes of those first. Interrupted and called again
        it goes on with what is left.

        Args:
            check: Called before each file; what it raises stops the work there.

        Returns:
            Bytes that were freed; 0 when it was gone already.

        Raises:
            StoreError: Something lies there that chipmill did not write; it stays.
        """
        freed, foreign = 0, ""
        self._release_links()
        with _translated(self.path), ExitStack() as stack:
            try:
                plan = stack.enter_context(_opened(self.path.parent))
                folder = stack.enter_context(_opened(self.path.name, within=plan))
            except FileNotFoundError:
                return 0
            names = sorted(os.listdir(folder), key=lambda name: (name != layout.MANIFEST, name))  # noqa: PTH208  an open one
            for name in names:
                if not _is_ours(name):
                    foreign = name
                    continue
                check()
                freed += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                os.unlink(name, dir_fd=folder)
            if foreign:
                raise StoreError(f"{self.path / foreign} is not chipmill's; remove it by hand")
            os.rmdir(self.path.name, dir_fd=plan)
            os.fsync(plan)  # a name that came back would be bytes that nobody counts
        return freed


def _is_ours(name: str) -> bool:
    """Tell whether chipmill gives files in a megabatch's folder this name."""
    return layout.is_staged(name) or name.endswith(".arrow") or name.startswith(_TEMPORARY)


@contextmanager
def _opened(path: Path | str, *, within: int | None = None) -> Generator[int]:
    """Hold a folder open; a link in its place is an error."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _translated(where: Path) -> Generator[None]:
    try:
        yield
    except OSError as err:
        if err.errno in _FULL:
            raise TransientError(f"no space left for {where}; free some on fast storage") from err
        if err.errno == errno.EIO:
            raise TransientError(f"the disk of {where} fails ({err.strerror}); look at it") from err
        raise StoreError(f"{where} cannot be written or read ({err.strerror})") from err
