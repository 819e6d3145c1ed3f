"""A snapshot: one immutable state of the merged chip index, named by its content."""

import hashlib
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from chipmill.errors import StoreError


class Snapshot(BaseModel):
    """The document that names a snapshot's files; written last and never changed.

    The files belong together in threes, of the same place in the three lists: a sheaf has the same
    scenes in all three, and no scene is in two sheaves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    snapshot: str
    number: PositiveInt
    """Step of the history of the index, from 1. Compaction takes a step and keeps the name."""
    chip_size: PositiveInt
    chips: NonNegativeInt
    scenes: NonNegativeInt
    chip_files: tuple[str, ...]
    """Keys of Parquet files with one row a chip: all rows of a scene together, row-major."""
    scene_files: tuple[str, ...]
    """Keys of Parquet files with one row a scene, in the order of the rows of their chips."""
    provenance_files: tuple[str, ...]
    """Keys of Parquet files with one row an asset."""
    created: AwareDatetime

    @model_validator(mode="after")
    def _in_threes(self) -> Self:
        if not len(self.chip_files) == len(self.scene_files) == len(self.provenance_files):
            raise ValueError("the files do not belong together in threes")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Keys of all files."""
        return self.chip_files + self.scene_files + self.provenance_files

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


class _Names(BaseModel):
    """A document that names a snapshot, whatever else it says."""

    snapshot: str


def named_snapshot(data: bytes, *, where: str) -> str:
    """Read which snapshot a plan names, of any version of the plan.

    Raises:
        StoreError: The bytes name none; `where` names the object.
    """
    try:
        return _Names.model_validate_json(data).snapshot
    except ValidationError as err:
        raise StoreError(f"{where} names no snapshot; remove it if it is no plan") from err
