"""Digests of bytes that pass by, and checksums as STAC's file extension has them (multihash).

Codes: multiformats table, https://github.com/multiformats/multicodec.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Protocol, cast

import xxhash

XXH3 = "xxh3_128"
"""Shows damage as surely as SHA-256 and costs a fifteenth of it; it is no proof against malice."""
_CODES = {
    "11": ("sha1", 20),
    "12": ("sha256", 32),
    "13": ("sha512", 64),
    "16": ("sha3_256", 32),
    "d501": ("md5", 16),
    "e4e702": (XXH3, 16),
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest and the name of its hash: as `hashlib` knows it, or one of the CRCs of S3."""

    algorithm: str
    digest: str
    """Lower-case hex."""


class Digests:
    """Sizes and hashes a stream in the pass that moves it."""

    def __init__(self, *algorithms: str) -> None:
        """Begin; each algorithm is computed once, however often it is named."""
        self.size = 0
        self._hashes = {name: running(name) for name in dict.fromkeys(algorithms)}

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

    def get(self, algorithm: str) -> str | None:
        """Give the digest where this algorithm was asked for."""
        return self.hex(algorithm) if algorithm in self._hashes else None


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


def lacking(value: object) -> bool:
    """Tell that a field has no value: then it is not written."""
    return value is None


def stated(checksum: str | None, sha256: str | None) -> Checksum:
    """Read the checksum of a file of a megabatch, or the SHA-256 that older ones have instead.

    Raises:
        ValueError: There is neither, or both, or it is of a form that is not known.
    """
    found = decode_multihash(checksum or f"1220{sha256}")
    if found is None or (checksum and sha256):
        msg = f"a checksum {checksum} beside a SHA-256 {sha256}; one of them is needed"
        raise ValueError(msg)
    return found


def encode_multihash(checksum: Checksum) -> str:
    """Write a digest as a multihash.

    Raises:
        StopIteration: Multihash has no code for the algorithm.
    """
    code, length = next(
        (code, length) for code, (name, length) in _CODES.items() if name == checksum.algorithm
    )
    return f"{code}{length:02x}{checksum.digest}"


def digest_of(file: BinaryIO, algorithm: str) -> str:
    """Hash what is left of an open file; gives lower-case hex."""
    begin = cast("Any", partial(running, algorithm))  # asked for `update` and `hexdigest` alone
    return hashlib.file_digest(cast("Any", file), begin).hexdigest()


class Running(Protocol):
    """A digest of what has passed so far."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""
        ...

    def hexdigest(self) -> str:
        """Give the digest in lower-case hex."""
        ...


class _Crc:
    """A cyclic checksum with the manners of `hashlib`."""

    def __init__(self, step: Callable[[bytes | memoryview, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._step(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{2 * self._size}x}"


def running(algorithm: str) -> Running:
    """Begin a digest: of a hash that `hashlib` has, of XXH3, or of one of the CRCs of S3."""
    if algorithm == XXH3:
        return xxhash.xxh3_128()
    if algorithm == "crc32":
        return _Crc(zlib.crc32, 4)
    if algorithm in ("crc32c", "crc64nvme"):
        # Compiled, and of the pipeline's part of the package alone: trainers import this module.
        from awscrt import checksums  # noqa: PLC0415

        step = checksums.crc32c if algorithm == "crc32c" else checksums.crc64nvme
        return _Crc(cast("Any", step), 4 if algorithm == "crc32c" else 8)
    return hashlib.new(algorithm, usedforsecurity=False)
