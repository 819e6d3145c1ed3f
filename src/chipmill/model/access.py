"""What a copy may reach: schemes, hosts, buckets and addresses; and how it gets there."""

import re
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self
from urllib.parse import urlsplit

from chipmill.errors import StoreError
from chipmill.settings import BucketSettings, Settings

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
"""A wider alphabet than AWS has today: old buckets have capitals, other stores underscores."""
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits
_WEB = ("http", "https")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules under which files of other people's catalogues are fetched."""

    schemes: tuple[str, ...] = ("https", "http", "s3", "gs", "az")
    hosts: tuple[str, ...] = ()
    """Hosts, with those below them; empty: all."""
    private: tuple[str, ...] = ()
    """Names, addresses or networks that may have private addresses."""
    buckets: tuple[str, ...] = ()
    """Empty: all."""
    files: bool = False
    """Whether `file://` is followed."""
    requester_pays: bool = False
    patience: float = 30
    """Seconds without a byte after which a connection is dead."""
    bandwidth: int | None = None
    """Bytes a second of this process."""
    signers: tuple[tuple[str, str], ...] = ()
    """Ends of hosts' names, and the URL of the token of a container there."""
    stores: tuple[tuple[str, BucketSettings], ...] = field(default=(), repr=False)
    """Buckets that are not reached by the usual variables."""
    endpoint: str | None = None
    """The team's own S3 server."""
    region: str | None = None

    @classmethod
    def of(cls, settings: Settings, *, local: bool = False) -> Self:
        """Take the rules from the settings; `local`: the catalogue is a file of this machine."""
        return cls(
            schemes=settings.source_schemes,
            hosts=settings.source_hosts,
            private=settings.private_hosts,
            buckets=settings.source_buckets,
            files=settings.local_sources or local,
            requester_pays=settings.requester_pays,
            patience=settings.patience,
            bandwidth=settings.bandwidth,
            signers=tuple(settings.signers.items()),
            stores=tuple(settings.buckets.items()),
            endpoint=settings.aws_endpoint,
            region=settings.aws_region,
        )

    def trusting(self, *addresses: str) -> Self:
        """Allow the hosts and buckets of addresses that the team itself typed, private ones too."""
        typed = [urlsplit(each) for each in addresses if _is_url(each)]
        hosts = tuple(each.hostname for each in typed if each.scheme in _WEB and each.hostname)
        buckets = tuple(each.netloc for each in typed if each.scheme not in (*_WEB, "file"))
        return replace(
            self,
            schemes=(*self.schemes, *(each.scheme for each in typed)),
            hosts=(*self.hosts, *hosts) if self.hosts else (),
            private=(*self.private, *hosts),
            buckets=(*self.buckets, *buckets) if self.buckets else (),
        )

    def check(self, href: str) -> None:
        """Refuse an href by what can be seen of it.

        Raises:
            StoreError: The scheme, the host or the bucket is not allowed; the message says which
                setting would allow it.
        """
        try:
            parts = urlsplit(href)
            host = (parts.hostname or "").rstrip(".")
        except ValueError as err:
            raise StoreError(f"an href of the item is no URL ({err}); drop the scene") from err
        if parts.scheme == "file":
            self._check_file(parts.netloc)
        elif parts.scheme not in self.schemes:
            raise StoreError(
                f"the scheme {parts.scheme[:20]!r} is not among {', '.join(self.schemes)}; "
                "CHIPMILL_SOURCE_SCHEMES would allow it"
            )
        elif parts.scheme in _WEB:
            self._check_host(host)
        else:
            self._check_bucket(parts.netloc)

    def admits(self, host: str, address: str) -> bool:
        """Tell whether a host may be reached at an address that its name resolved to."""
        found = inner_address(ip_address(address.split("%", 1)[0]))
        if found.is_global and not found.is_multicast:
            return True
        return any(_covers(allowed, host, found) for allowed in self.private)

    def store(self, bucket: str) -> BucketSettings | None:
        """Find what is set for a bucket."""
        return dict(self.stores).get(bucket)

    def _check_file(self, host: str) -> None:
        if not self.files or host:
            raise StoreError(
                "a catalogue that is not a local file names a file of this machine; "
                "CHIPMILL_LOCAL_SOURCES=true would allow it"
            )

    def _check_host(self, host: str) -> None:
        if not host:
            raise StoreError("an href of the item names no host; drop the scene")
        if self.hosts and not any(_is_below(host, allowed) for allowed in self.hosts):
            raise StoreError(f"the host {host!r} is not among CHIPMILL_SOURCE_HOSTS")

    def _check_bucket(self, bucket: str) -> None:
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            name = bucket.rpartition("@")[2][:80]  # before it there may be a password
            raise StoreError(f"{name!r} is not the name of a bucket; drop the scene")
        if self.buckets and bucket not in self.buckets:
            raise StoreError(f"the bucket {bucket!r} is not among CHIPMILL_SOURCE_BUCKETS")


OWN = Access(private=("0.0.0.0/0", "::/0"), files=True)
"""For addresses that the team itself typed, as that of a catalogue: no limits."""


def is_local(catalog: str) -> bool:
    """Tell whether a catalogue is a file of this machine: then its files may be, too."""
    return "://" not in catalog or catalog.startswith("file://")


def inner_address(address: Address) -> Address:
    """Give the IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address.packed[:12] == bytes(12) and int(address) > 1):
        return IPv4Address(address.packed[12:])
    return address


def _is_url(text: str) -> bool:
    """Tell whether an address can be read; what cannot is refused where it is opened."""
    try:
        return bool(urlsplit(text).netloc)
    except ValueError:
        return False


def _covers(allowed: str, host: str, address: Address) -> bool:
    try:
        return address in ip_network(allowed, strict=False)
    except ValueError:
        return _is_below(host, allowed)


def _is_below(host: str, allowed: str) -> bool:
    name, end = host.lower().rstrip("."), allowed.lower().strip(".")
    return name == end or name.endswith(f".{end}")
