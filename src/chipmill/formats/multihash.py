"""Digests of bytes that pass by, and checksums as STAC's file extension has them (multihash).

Codes: multiformats table, https://github.com/multiformats/multicodec.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_CODES = {
    "11": ("sha1", 20),
    "12": ("sha256", 32),
    "13": ("sha512", 64),
    "16": ("sha3_256", 32),
    "d501": ("md5", 16),
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest and the name of its hash, as `hashlib` knows it."""

    algorithm: str
    digest: str
    """Lower-case hex."""


class Digests:
    """Sizes and hashes a stream in the pass that moves it."""

    def __init__(self, *algorithms: str) -> None:
        """Begin; SHA-256 and MD5 are always among the algorithms."""
        self.size = 0
        names = {"sha256", "md5", *algorithms}
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the pieces on unchanged."""
        for piece in pieces:
            self.size += len(piece)
            for running in self._hashes.values():
                running.update(piece)
            yield piece

    def hex(self, algorithm: str) -> str:
        """Give the digest of what has passed, in lower-case hex."""
        return self._hashes[algorithm].hexdigest()


def decode_multihash(text: str) -> Checksum | None:
    """Read a multihash; a bare MD5 is understood too. None: of a form that is not known."""
    text = text.lower()
    for code, (algorithm, length) in _CODES.items():
        head = f"{code}{length:02x}"
        if text.startswith(head) and len(text) == len(head) + 2 * length:
            return Checksum(algorithm, text[len(head) :])
    if len(text) == 2 * hashlib.md5(usedforsecurity=False).digest_size:
        return Checksum("md5", text)
    return None


def encode_sha256(digest: str) -> str:
    """Write a SHA-256 digest in hex as a multihash."""
    return f"1220{digest}"
