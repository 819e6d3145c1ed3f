"""A megabatch on fast storage, as its reader sees it: the manifest, and its packs on demand."""

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import PackError, TransientError
from chipmill.formats.layout import MANIFEST
from chipmill.formats.manifest import Manifest, ManifestPack, decode_manifest
from chipmill.formats.multihash import Checksum, digest_of
from chipmill.formats.pack import PackBand
from chipmill.model.order import Order, minibatch_order
from chipmill.train.packs import Pack


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a megabatch; None while there is none: it is not ready.

    Raises:
        PackError: The file is not a manifest, or its parts do not fit together.
        TransientError: Fast storage does not answer.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise TransientError(f"{path} cannot be read ({err}); look at fast storage") from err
    manifest = decode_manifest(data, where=str(path))
    check_packs(manifest, where=str(path))
    return manifest


def check_packs(manifest: Manifest, *, where: str) -> None:
    """Refuse a manifest whose parts do not fit together.

    Raises:
        PackError: A pack is of no group, or not a plain file name; `where` names the manifest.
    """
    for pack in manifest.packs:
        if pack.group >= len(manifest.groups) or Path(pack.file).name != pack.file:
            raise PackError(
                f"{where} names the pack {pack.file!r} of group {pack.group}, which cannot be "
                f"({len(manifest.groups)} groups, plain file names only); stage it again"
            )


def _file_limit() -> int:
    """A quarter of the files that this process may have open, 4096 at the most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(4096, soft // 4)) if soft > 0 else 4096


@dataclass(eq=False)
class MegabatchFolder:
    """An opened megabatch; safe for several threads, no part of it for several processes."""

    path: Path
    manifest: Manifest
    keep_open: int = field(default_factory=_file_limit)
    """Packs that stay open at the same time; the one used longest ago is closed first."""
    opener: Callable[[ManifestPack], Pack] | None = None
    """Opens a pack that is no file in `path`."""
    _open: "OrderedDict[int, Pack]" = field(init=False, default_factory=OrderedDict[int, Pack])
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _gates: dict[int, threading.Lock] = field(init=False, default_factory=dict[int, threading.Lock])

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a megabatch that is ready.

        Raises:
            PackError: There is no manifest, or it is damaged.
            TransientError: Fast storage does not answer.
        """
        manifest = read_manifest(path)
        if manifest is None:
            raise PackError(f"there is no {MANIFEST} in {path}; stage the megabatch first")
        return cls(path, manifest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest."""
        return self.manifest.digest

    def order(self) -> Order:
        """Work out the order of the chips; a scene's number is the index of its pack."""
        manifest = self.manifest
        return minibatch_order(
            np.array([pack.chips for pack in manifest.packs], np.int64),
            np.array([pack.group for pack in manifest.packs], np.int64),
            size=manifest.minibatch,
            seed=manifest.seed,
            epoch=manifest.epoch,
            megabatch=manifest.megabatch,
            leftover=manifest.leftover,
            mixed=manifest.mixed,
        )

    def pack(self, index: int) -> Pack:
        """Open a pack, or give the one that is open.

        Raises:
            PackError: The file is damaged, or another than the manifest says.
        """
        with self._lock:
            gate = self._gates.setdefault(index, threading.Lock())
        with gate:  # two threads that want it open it once
            found = self.open_pack(index)
            if found is not None:
                return found
            opened = self._checked(self.manifest.packs[index])
            with self._lock:
                self._open[index] = opened
                while len(self._open) > self.keep_open:
                    self._open.popitem(last=False)
            return opened

    def open_pack(self, index: int) -> Pack | None:
        """Give a pack if it is open."""
        with self._lock:
            found = self._open.get(index)
            if found is not None:
                self._open.move_to_end(index)
            return found

    def pixels(self, index: int, chips: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Copy the pixels of some chips of a pack as records, shape (chips, bytes).

        Args:
            index: Index of the pack in the manifest.
            chips: Row numbers in the pack, shape (chips,).

        Raises:
            PackError: The pack is damaged, or has no such chip.
        """
        pack = self.pack(index)
        records = np.empty((len(chips), pack.header.chip_bytes), np.uint8)
        for chip, record in zip(chips.tolist(), records, strict=True):
            pack.read(chip, [record])
        return records

    def verify(self) -> None:
        """Hash every pack again and open it.

        Raises:
            PackError: A pack differs from the manifest; the message names the file.
        """
        for index, entry in enumerate(self.manifest.packs):
            pack = self.pack(index)
            _compare(self.path / entry.file, entry.stated)
            for beside in pack.header.files:
                _compare(self.path / beside.file, beside.stated)

    def close(self) -> None:
        """Let go of all packs; files close when the last reader is done with them."""
        with self._lock:
            self._open.clear()

    def _checked(self, entry: ManifestPack) -> Pack:
        """Open a pack and hold it against what the manifest says of it."""
        if self.opener is None:
            pack = Pack.open(self.path / entry.file, size=entry.size)
        else:
            pack = self.opener(entry)
        header, manifest = pack.header, self.manifest
        found = (header.collection, header.scene, len(pack), header.chip_size)
        expected = (entry.collection, entry.scene, entry.chips, manifest.chip_size)
        if found != expected:
            raise PackError(
                f"{pack.path} holds (collection, scene, chips, chip size) {found} where the "
                f"manifest says {expected}; stage its megabatch again"
            )
        if _places(header.bands) != _places(manifest.groups[entry.group].bands):
            raise PackError(
                f"{pack.path} has other bands than its group in the manifest; "
                "stage its megabatch again"
            )
        return pack


def _compare(path: Path, stated: Checksum) -> None:
    with path.open("rb") as file:
        found = digest_of(file, stated.algorithm)
    if found != stated.digest:
        raise PackError(
            f"{path} has the {stated.algorithm} {found[:12]}… where the manifest says "
            f"{stated.digest[:12]}…; stage its megabatch again"
        )


def _places(bands: tuple[PackBand, ...]) -> list[tuple[object, ...]]:
    """Give what decides where bands lie in a chip."""
    return [(band.name, band.dtype, band.shape, band.start) for band in bands]
