"""What a provider answers when it is asked for a file, whatever it speaks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PIECE_BYTES = 2**21
"""Bytes that are read at once."""


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
