"""Move one file from a place of its provider into the archive, and prove that it arrived."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from chipmill.errors import DamagedError, MissingError, SceneError, StoreError
from chipmill.formats.multihash import XXH3, Checksum, Digests, decode_multihash
from chipmill.formats.signature import said
from chipmill.formats.stated import stated_checksums
from chipmill.io import s3
from chipmill.io.raster import is_geotiff, is_jpeg2000, transcode
from chipmill.io.source import open_source
from chipmill.io.store import PART_BYTES, Store
from chipmill.model.access import Access
from chipmill.model.places import Place
from chipmill.model.scene import Asset


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of bytes."""

    size: int
    sha256: str | None
    md5: str | None
    xxh3: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came, what is kept, and how it was checked."""

    given: Facts
    kept: Facts
    verified: str
    etag: str | None
    modified: datetime | None


def fetch(asset: Asset, place: Place, target: str, archive: Store, access: Access) -> Moved:
    """Bring a file through this machine into the archive.

    Args:
        asset: What the item says of the file.
        place: Where it is read.
        target: Its key in the archive.
        archive: Where it goes.
        access: What may be reached.

    Raises:
        DamagedError: The bytes are not those that were promised.
        SceneError: The file is no raster that the archive keeps.
        MissingError: There is nothing at this place.
        TransientError: The provider or the store did not answer.
        StoreError: The provider or the store refuses.
    """
    with open_source(place.href, access, pays=place.requester_pays) as source:
        promised, how = promise(asset, source.checksums, source.md5, source.size)
        given = Digests("sha256", XXH3, *_needed(promised, source.md5))
        head = next(source.pieces, b"")
        pieces = _checked(place, given, chain((head,), source.pieces), promised, asset.size)
        kept = _kept(place, head, given, pieces, _Target(archive, target, access))
        came = _facts(given, source.md5)
        return Moved(
            given=came,
            kept=came if kept is given else _facts(kept, None),
            verified=how,
            etag=source.etag,
            modified=source.modified,
        )


def promise(
    asset: Asset, stated: tuple[Checksum, ...], md5: str | None, size: int | None
) -> tuple[Checksum | None, str]:
    """Choose what the bytes must be: the item's word, else the provider's.

    Returns:
        The checksum, if there is any, and the word for it in the record.
    """
    if asset.checksum and (of_item := decode_multihash(asset.checksum)):
        return of_item, "checksum"
    if stated:
        return stated[0], "header"
    if md5:
        return Checksum("md5", md5), "etag"
    return None, "size" if size is not None or asset.size is not None else "none"


@dataclass(frozen=True, slots=True)
class _Target:
    archive: Store
    key: str
    access: Access


def _needed(promised: Checksum | None, md5: str | None) -> tuple[str, ...]:
    """Name the hashes beside SHA-256; MD5, the slowest of all, is taken where it is stated."""
    wanted = () if md5 else ("md5",)
    return (*wanted, promised.algorithm) if promised else wanted


def _facts(digests: Digests, md5: str | None) -> Facts:
    return Facts(
        size=digests.size,
        sha256=digests.hex("sha256"),
        md5=digests.get("md5") or md5,
        xxh3=digests.hex(XXH3),
    )


def _checked(
    place: Place,
    given: Digests,
    pieces: Iterable[bytes],
    promised: Checksum | None,
    size: int | None,
) -> Iterator[bytes]:
    """Pass the bytes on and refuse their end when they are not what was promised."""
    yield from given.of(pieces)
    if size is not None and given.size != size:
        raise DamagedError(
            f"{said(place.href)} has {given.size} bytes, its item says {size}; drop the scene"
        )
    if promised and given.hex(promised.algorithm) != promised.digest:
        raise DamagedError(
            f"{said(place.href)} has the {promised.algorithm} {given.hex(promised.algorithm)}, "
            f"{promised.digest} was promised; drop the scene"
        )


def _kept(
    place: Place, head: bytes, given: Digests, pieces: Iterator[bytes], target: _Target
) -> Digests:
    """Write what came, or what is made of it; gives the digests of what is written."""
    if is_geotiff(head):
        _write(target, pieces, given)
        return given
    if is_jpeg2000(head):
        return _transcoded(place, pieces, target)
    raise SceneError(
        f"{said(place.href)} begins with {head[:8]!r}: neither TIFF nor JPEG 2000; drop the scene"
    )


def _transcoded(place: Place, pieces: Iterator[bytes], target: _Target) -> Digests:
    """Keep a JPEG 2000 file as a tiled GeoTIFF: chips of it are read many times."""
    with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
        given, made = Path(folder, "given.jp2"), Path(folder, "made.tif")
        with given.open("wb") as file:
            file.writelines(pieces)
        sidecar = _sidecar(place, target.access)
        if sidecar is not None:
            Path(folder, "given.jp2.aux.xml").write_bytes(sidecar)
        transcode(given, made)
        kept = Digests("sha256", XXH3, "md5")
        with made.open("rb") as file:
            _write(target, kept.of(iter(lambda: file.read(PART_BYTES), b"")), kept)
        return kept


def _sidecar(place: Place, access: Access) -> bytes | None:
    """Read the georeference that some files have beside them.

    A bucket that may not be listed answers 403, not 404, for what it does not have.
    """
    parts = urlsplit(place.href)
    beside = urlunsplit(parts._replace(path=f"{parts.path}.aux.xml"))
    with (
        suppress(StoreError),
        open_source(beside, access, pays=place.requester_pays) as source,
    ):
        return b"".join(source.pieces)
    return None


def _write(target: _Target, pieces: Iterator[bytes], sent: Digests) -> None:
    """Write an object and make sure that the store has what was sent."""
    archive, key = target.archive, target.key
    archive.write(key, pieces, cached=False)
    if not _has_arrived(target, sent):
        archive.delete(key)
        raise DamagedError(
            f"{archive.href(key)} is not what was written to it; write again, or check the store"
        )


def _has_arrived(target: _Target, sent: Digests) -> bool:
    archive, key = target.archive, target.key
    if not archive.url.startswith("s3://"):
        return archive.size(key) == sent.size
    try:
        headers = s3.head(archive.href(key), target.access)
    except MissingError:
        return False
    if int(headers["content-length"]) != sent.size:
        return False
    stated = {each.algorithm: each.digest for each in stated_checksums(headers)}
    if "sha256" in stated:
        return stated["sha256"] == sent.hex("sha256")
    # A sum of sums: the store has compared each part with its own.
    return "x-amz-checksum-sha256" in headers or _read_back(archive, key) == sent.hex("sha256")


def _read_back(archive: Store, key: str) -> str:
    digests = Digests("sha256")
    for _ in digests.of(archive.stream(key)[1]):
        pass
    return digests.hex("sha256")
