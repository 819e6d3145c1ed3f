"""Choose where a file is fetched from, of all the places that its item names."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from chipmill.errors import StoreError
from chipmill.model.access import Access
from chipmill.model.scene import Alternate, Asset

_LOGINS = ("landsatlook.usgs.gov",)
"""Hosts that answer a page for logging in; the files lie in a bucket, too:
https://www.usgs.gov/landsat-missions/landsat-commercial-cloud-data-access."""
_STORES = ("s3", "gs", "az")
_LOGIN = 3
"""Rank of a host that asks for a login: the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place of a file."""

    href: str
    requester_pays: bool = False
    why: str = ""
    """Why it is chosen, for the log."""


def places(asset: Asset, *, archive: str, access: Access) -> tuple[Place, ...]:
    """List the places of an asset that may be read, the best first.

    The best is a bucket of the archive's own kind of store: there the store copies by itself. Then
    come the web, other buckets, and hosts that need a login. Equals stay in the item's order.

    Args:
        asset: An asset as its item describes it.
        archive: URL of the archive.
        access: What may be reached.

    Raises:
        StoreError: Not one of them may be read; the message says why of the first.
    """
    ranked: list[tuple[int, Place]] = []
    refusals: list[str] = []
    for place in map(_place, (asset, *asset.alternates)):
        try:
            access.check(place.href)
            _check_cost(place, access)
        except StoreError as err:
            refusals.append(str(err))
        else:
            rank, why = _rank(place, archive)
            ranked.append(
                (rank, Place(href=place.href, requester_pays=place.requester_pays, why=why))
            )
    best = min((rank for rank, _ in ranked), default=_LOGIN)
    if best == _LOGIN and (refusals or not ranked):
        raise StoreError(f"asset {asset.key!r} may not be fetched: {refusals[0]}")
    return tuple(place for _, place in sorted(ranked, key=lambda each: each[0]))


def _place(given: Asset | Alternate) -> Place:
    """Items say of a whole asset that the reader pays; it is so in its bucket alone."""
    in_bucket = urlsplit(given.href).scheme in _STORES
    return Place(href=given.href, requester_pays=given.requester_pays and in_bucket)


def _rank(place: Place, archive: str) -> tuple[int, str]:
    parts = urlsplit(place.href)
    if parts.scheme == "file":
        return 0, "it is a file of this machine"
    if parts.scheme == urlsplit(archive).scheme:
        return 0, "it lies in the archive's kind of store"
    if parts.hostname in _LOGINS:
        return _LOGIN, "there is no other place, though its host asks for a login"
    if parts.scheme in _STORES:
        return 2, "no other place is nearer"
    return 1, "it is on the web"


def _check_cost(place: Place, access: Access) -> None:
    if place.requester_pays and not access.requester_pays:
        raise StoreError(
            f"who reads the bucket {urlsplit(place.href).netloc!r} pays for the transfer; "
            "CHIPMILL_REQUESTER_PAYS=true would allow it"
        )
