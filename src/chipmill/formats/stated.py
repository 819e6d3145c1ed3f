"""What the headers of an answer say of the bytes: checksums, and whether an ETag is an MD5."""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator, Mapping

from chipmill.formats.multihash import Checksum

_LENGTHS = {"crc64nvme": 8, "sha256": 32, "sha1": 20, "crc32c": 4, "crc32": 4, "md5": 16}
_MD5 = re.compile(r"[0-9a-f]{32}")


def stated_checksums(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    """Read the checksums of the whole object, the best first.

    Understood are S3's `x-amz-checksum-…` where they are of the whole object and not of its parts,
    `x-goog-hash`, `Repr-Digest` (RFC 9530), and `Content-MD5` of an answer that is whole.

    Args:
        headers: Names in lower case.
    """
    said = dict(_said(headers))
    return tuple(Checksum(name, said[name]) for name in _LENGTHS if name in said)


def md5_of_etag(headers: Mapping[str, str]) -> str | None:
    """Give the MD5 that an ETag is, where it can be told that it is one.

    S3 makes the ETag of an object that was written in one piece and is encrypted with its own keys
    or not at all from its MD5; of parts, of KMS and of customers' keys it does not:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html. So this needs an answer of S3
    that names no such encryption, and 32 hex digits.

    Args:
        headers: Names in lower case.
    """
    etag = plain_etag(headers.get("etag"))
    is_s3 = "x-amz-request-id" in headers
    keys = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    own = "x-amz-server-side-encryption-customer-algorithm" in headers
    return etag if etag and is_s3 and not keys and not own and _MD5.fullmatch(etag) else None


def plain_etag(etag: str | None) -> str | None:
    """Drop the quotes of an ETag; a weak one says nothing of the bytes."""
    return None if etag is None or etag.startswith("W/") else etag.strip('"')


def _said(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in _encoded(headers):
        digest = _hex(value)
        if digest and len(digest) == 2 * _LENGTHS.get(name, 0):
            yield name, digest


def _encoded(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give algorithms and digests in base64."""
    # Stores of which each has its own form; the later one wins, none is known to state two.
    for pair in headers.get("x-goog-hash", "").split(","):
        name, _, value = pair.strip().partition("=")
        yield name, value
    for pair in headers.get("repr-digest", "").split(","):
        name, _, value = pair.strip().partition("=")
        yield name.lower().replace("sha-", "sha"), value.strip(":")
    if "content-range" not in headers:
        yield "md5", headers.get("content-md5", "")
    for name in _LENGTHS:
        value = headers.get(f"x-amz-checksum-{name}", "")
        if headers.get("x-amz-checksum-type", "") != "COMPOSITE" and "-" not in value:
            yield name, value


def _hex(value: str) -> str | None:
    try:
        return b64decode(value, validate=True).hex()
    except (Error, ValueError):
        return None
