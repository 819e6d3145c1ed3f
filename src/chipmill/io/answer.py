"""What a provider answers when it is asked for a file, whatever it speaks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PIECE_BYTES = 2**20
"""Bytes that are read at once: few enough to be in a core's cache still when they are hashed and
written. With a quarter of it threads that copy side by side waited more for Python's lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The headers of an answer and its bytes."""

    size: int | None
    """Bytes of the whole file, where the provider says it."""
    headers: Mapping[str, str]
    """Names in lower case."""
    pieces: Iterator[bytes]
    resumable: bool
    """Whether the same file can be asked for from a later byte on."""
