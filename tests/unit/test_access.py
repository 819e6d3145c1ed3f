"""What a copy may reach: other people's hrefs lead nowhere that is not allowed."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chipmill.errors import StoreError
from chipmill.formats.signature import said, unsigned, without_signature
from chipmill.model.access import OWN, Access
from chipmill.model.places import places
from chipmill.model.scene import Alternate, Asset

PUBLIC = Access()
_INSIDE_4 = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"]
INSIDE = [
    *_INSIDE_4,
    "0.0.0.0",  # noqa: S104
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
]


@given(number=st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0x7F000001, 0xA9FEA9FE])))
def test_an_address_within_an_address_is_seen(number: int) -> None:
    """IPv6 has four ways to write an IPv4 address: none leads past the rule for the latter."""
    plain = IPv4Address(number)
    forms = [
        IPv6Address((0xFFFF << 32) | number),  # mapped, RFC 4291
        IPv6Address((0x2002 << 112) | (number << 80)),  # 6to4, RFC 3056
        IPv6Address((0x64FF9B << 96) | number),  # NAT64, RFC 6052
    ]
    for form in forms:
        assert PUBLIC.admits("example.org", str(form)) == PUBLIC.admits("example.org", str(plain))


@pytest.mark.parametrize("address", INSIDE)
def test_private_addresses_are_refused_unless_named(address: str) -> None:
    """The metadata of a cloud machine, with its credentials, is at such an address."""
    assert not PUBLIC.admits("example.org", address)
    assert Access(private=("files.example.org",)).admits("a.files.example.org", address)
    assert not Access(private=("files.example.org",)).admits("other-files.example.org", address)
    assert Access(private=(address,)).admits("example.org", address)
    assert PUBLIC.admits("example.org", "93.184.215.14")
    assert OWN.admits("localhost", address)


hosts = st.one_of(
    st.sampled_from(["example.org", "a.example.org", "example.org.evil.net", "evilexample.org"]),
    st.ip_addresses().map(lambda a: f"[{a}]" if a.version == 6 else str(a)),
    st.from_regex(r"[a-z.@:\\/#?-]{0,20}", fullmatch=True),
)
schemes = st.sampled_from(
    ["https", "http", "s3", "gs", "file", "ftp", "gopher", "vsicurl", "", "S3"]
)


@given(scheme=schemes, host=hosts, path=st.text(max_size=20))
@example(scheme="https", host="example.org@127.0.0.1", path="")
@example(scheme="https", host="example.org\\@127.0.0.1", path="")
def test_only_listed_places_pass(scheme: str, host: str, path: str) -> None:
    """An href passes when its scheme is listed, and its host or bucket where there is a list."""
    rules = Access(schemes=("https", "s3"), hosts=("example.org",), buckets=("ours",))
    try:
        rules.check(f"{scheme}://{host}/{path}")
    except StoreError:
        return
    assert scheme.lower() in ("https", "s3")
    if scheme == "https":
        name = host.rpartition("@")[2].partition(":")[0].rstrip(".")
        assert name == "example.org" or name.endswith(".example.org")
    else:
        assert host == "ours"


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("file:///etc/passwd", "CHIPMILL_LOCAL_SOURCES"),
        ("ftp://example.org/a", "CHIPMILL_SOURCE_SCHEMES"),
        ("/vsicurl/http://example.org/a", "CHIPMILL_SOURCE_SCHEMES"),
        ("https:///a", "names no host"),
        ("https://[::1/a", "no URL"),
        ("s3://127.0.0.1:9000/a", "not the name of a bucket"),
        ("s3://key:secret@bucket/a", "not the name of a bucket"),
        ("s3://a..b/a", "not the name of a bucket"),
    ],
)
def test_a_refusal_says_what_would_allow_it(href: str, why: str) -> None:
    """Whoever meant it must not search for the setting."""
    with pytest.raises(StoreError, match=why) as raised:
        PUBLIC.check(href)
    assert "secret" not in str(raised.value)


def test_a_file_of_another_host_is_no_local_file() -> None:
    """On some systems file://host/share opens a connection."""
    with pytest.raises(StoreError, match="names a file"):
        Access(files=True).check("file://server/share/a.tif")
    Access(files=True).check("file:///data/a.tif")


marks = [f"{name}=SECRET" for name in ("sig", "SIG", "Signature", "Key-Pair-Id", "access_token")]
marks += [f"{name}=SECRET" for name in ("X-Amz-Signature", "x-amz-security-token")]
marks += ["X-Goog-Signature=SECRET"]
secrets = st.sampled_from(marks)
words = st.dictionaries(st.sampled_from(["v", "se", "sp", "date"]), st.text("xyz", min_size=1))


@given(
    mark=secrets, others=words, place=st.integers(0, 3), user=st.sampled_from(["", "me:SECRET@"])
)
def test_no_signature_stays_in_a_document(
    mark: str, others: dict[str, str], place: int, user: str
) -> None:
    """Wherever in a catalogue's document it is: more people read an archive than its owner."""
    query = [f"{key}={value}" for key, value in others.items()]
    query.insert(min(place, len(query)), mark)
    href = f"https://{user}example.org/a.tif?{'&'.join(query)}"
    document = {"links": [{"href": href}], "assets": {"red": {"href": href, "alternate": [href]}}}
    assert "SECRET" not in str(unsigned(document))
    assert said(href) == without_signature(href) == "https://example.org/a.tif"


def test_other_queries_stay() -> None:
    """A version in a query is part of the address."""
    for href in ("https://example.org/a.tif?versionId=7", "s3://bucket/a b@c.tif", "a.tif", ""):
        assert without_signature(href) == href


def asset(href: str, *others: Alternate, pays: bool = False) -> Asset:
    """Make an asset with its places."""
    return Asset(key="red", href=href, alternates=others, requester_pays=pays)


WEB, BUCKET = "https://example.org/a.tif", "s3://bucket/a.tif"
LOGIN = "https://landsatlook.usgs.gov/data/a.tif"
COSTS = Alternate(href="s3://usgs-landsat/a.tif", requester_pays=True)


@pytest.mark.parametrize(
    ("given", "archive", "wanted"),
    [
        (asset(WEB, Alternate(href=BUCKET)), "s3://ours", [BUCKET, WEB]),
        (asset(WEB, Alternate(href=BUCKET)), "file:///a", [WEB, BUCKET]),
        (asset(BUCKET, Alternate(href=WEB)), "file:///a", [WEB, BUCKET]),
        (asset(LOGIN, COSTS), "s3://ours", [COSTS.href, LOGIN]),
        (asset(LOGIN, COSTS), "file:///a", [COSTS.href, LOGIN]),
        (asset(LOGIN), "file:///a", [LOGIN]),
        (asset(WEB, Alternate(href="ftp://example.org/a.tif")), "file:///a", [WEB]),
    ],
)
def test_the_nearest_place_comes_first(given: Asset, archive: str, wanted: list[str]) -> None:
    """A bucket beside the archive's costs nothing to copy from; a login page is no file."""
    found = places(given, archive=archive, access=Access(requester_pays=True))
    assert [place.href for place in found] == wanted
    assert all(place.why for place in found)


def test_nobody_pays_who_has_not_said_so() -> None:
    """The bill of a month of reading comes later than the ingest."""
    with pytest.raises(StoreError, match="CHIPMILL_REQUESTER_PAYS"):
        places(asset(LOGIN, COSTS), archive="s3://ours", access=PUBLIC)
    with pytest.raises(StoreError, match="CHIPMILL_REQUESTER_PAYS"):
        places(asset(BUCKET, pays=True), archive="s3://ours", access=PUBLIC)
