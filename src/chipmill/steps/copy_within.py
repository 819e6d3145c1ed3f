"""Let the archive's store copy an object of itself: no byte of it passes through this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from chipmill.errors import DamagedError, StoreError
from chipmill.formats.multihash import XXH3, Checksum, Digests
from chipmill.formats.signature import said
from chipmill.formats.stated import md5_of_etag, plain_etag, stated_checksums
from chipmill.io import s3, s3_copy
from chipmill.io.raster import is_geotiff
from chipmill.io.source import as_time
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.places import Place
from chipmill.model.scene import Asset
from chipmill.steps.transfer import Facts, Moved, promise

HEAD_BYTES = 16
"""Read to tell a TIFF; all else that comes here are headers."""


def copy_within(
    asset: Asset, place: Place, target: str, archive: Store, access: Access
) -> Moved | None:
    """Have a file copied by the store, and prove from what the store states that it is the same.

    What the item promises is compared with what the store states of the copy. Where the store
    states nothing that can be compared, the copy is read once.

    Args:
        asset: What the item says of the file.
        place: Where it is.
        target: Its key in the archive.
        archive: Where it goes.
        access: What may be reached.

    Returns:
        What was done; None: the store cannot copy this, and somebody must fetch it.

    Raises:
        DamagedError: The copy is not what was promised.
        MissingError: There is nothing at this place.
        TransientError: The store did not answer.
    """
    bucket = urlsplit(place.href).netloc
    same = place.href.startswith("s3://") and archive.url.startswith("s3://")
    if not same or access.store(bucket) is not None:
        return None
    pays = place.requester_pays
    source = s3.head(place.href, access, pays=pays)
    etag = plain_etag(source.get("etag"))
    if etag is None or not is_geotiff(
        s3.first_bytes(place.href, access, pays=pays, count=HEAD_BYTES)
    ):
        return None
    size = int(source["content-length"])
    try:
        s3_copy.copy(place.href, archive.href(target), access, pays=pays, size=size, etag=etag)
    except StoreError:
        return None  # one may read both buckets and still not copy between them
    return _proven(asset, place, source, _Target(archive, target, access))


@dataclass(frozen=True, slots=True)
class _Target:
    archive: Store
    key: str
    access: Access

    @property
    def href(self) -> str:
        return self.archive.href(self.key)


def _proven(asset: Asset, place: Place, source: Mapping[str, str], target: _Target) -> Moved:
    made = s3.head(target.href, target.access)
    size = int(source["content-length"])
    promised, how = promise(asset, stated_checksums(source), md5_of_etag(source), size)
    stated = _stated(made)
    # An ETag of parts is made of the parts' sums: where it is the same, they are.
    equal = source.get("etag") == made.get("etag")
    compared = promised is not None and promised.algorithm in stated
    enough = compared or (equal and how != "checksum") or promised is None
    if not enough or not stated.keys() & {"sha256", "md5"}:
        stated |= _read(target, promised)
    wrong = promised and stated.get(promised.algorithm, promised.digest) != promised.digest
    if wrong or int(made["content-length"]) != size or asset.size not in (None, size):
        target.archive.delete(target.key)
        raise DamagedError(
            f"the copy of {said(place.href)} has {made['content-length']} bytes and the sums "
            f"{stated}; {asset.size or size} bytes and {promised} were promised; drop the scene"
        )
    facts = Facts(
        size=size, sha256=stated.get("sha256"), md5=stated.get("md5"), xxh3=stated.get(XXH3)
    )
    return Moved(
        given=facts,
        kept=facts,
        verified="etag" if equal and how == "size" else how,
        etag=plain_etag(source.get("etag")),
        modified=as_time(source.get("last-modified")),
    )


def _stated(headers: Mapping[str, str]) -> dict[str, str]:
    """Give the digests that the store states of an object, by algorithm."""
    stated = {each.algorithm: each.digest for each in stated_checksums(headers)}
    md5 = md5_of_etag(headers)
    return stated if md5 is None else {"md5": md5, **stated}


def _read(target: _Target, promised: Checksum | None) -> dict[str, str]:
    """Read a copy once, for its digests."""
    names = {"sha256", "md5", XXH3, *([promised.algorithm] if promised else [])}
    digests = Digests(*names)
    for _ in digests.of(target.archive.stream(target.key)[1]):
        pass
    return {name: digests.hex(name) for name in names}
