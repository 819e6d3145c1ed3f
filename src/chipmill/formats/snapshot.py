"""A snapshot: one immutable state of the merged chip index, named by its content."""

import hashlib
from collections.abc import Iterable
from typing import Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from chipmill.errors import StoreError


class Snapshot(BaseModel):
    """The document that names a snapshot's files; written last and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    snapshot: str
    chip_size: PositiveInt
    chips: NonNegativeInt
    scenes: NonNegativeInt
    chip_files: tuple[str, ...]
    """Keys of Parquet files with one row a chip, sorted by scene."""
    scene_files: tuple[str, ...]
    """Keys of Parquet files with one row a scene."""
    provenance_files: tuple[str, ...]
    """Keys of Parquet files with one row an asset."""
    created: AwareDatetime

    def encode(self) -> bytes:
        """Write the document as JSON."""
        return self.model_dump_json(indent=1).encode()


def snapshot_name(chip_size: int, digests: Iterable[str]) -> str:
    """Name a snapshot by its content, whatever the order and number of merges that led to it.

    Args:
        chip_size: Edge of its chips in pixels.
        digests: Digests of its scenes, in any order.

    Returns:
        The first 16 hex digits of a SHA-256.
    """
    content = hashlib.sha256(f"chips of {chip_size}".encode())
    for digest in sorted(digests):
        content.update(digest.encode())
    return content.hexdigest()[:16]


def decode_snapshot(data: bytes, *, where: str) -> Snapshot:
    """Read a snapshot's document.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    try:
        return Snapshot.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        message = f"{where} is not a snapshot that this version reads: {first['msg']}"
        raise StoreError(message) from err
