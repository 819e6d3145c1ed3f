"""A frozen scene list: what a search found, kept so that it can be had again without a catalogue.

The documents are kept exactly, as JSON lines; the stac-geoparquet file beside them is for people
and tools. It alone would not do: of recorded documents hardly one comes back from it as it was
(times are written anew, absent and null fields become one, whole numbers become fractions).
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, Literal, cast

import pyarrow as pa
from pyarrow import parquet
from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, ValidationError

from chipmill.errors import StoreError
from chipmill.formats.signature import unsigned
from chipmill.model.acquisition import Candidate
from chipmill.model.changes import Changes

Item = Mapping[str, Any]
"""A STAC item as JSON."""

Packed = bytes
"""A STAC item as compressed JSON, as a list of thousands is held in memory."""

MATCHES = pa.schema(
    [
        ("id", pa.string()),
        ("tile", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("bbox", pa.list_(pa.float64(), 4)),
        ("cloud", pa.float64()),
        ("nodata", pa.float64()),
        ("grid", pa.string()),
        ("platform", pa.string()),
        ("datatake", pa.string()),
        ("version", pa.string()),
        ("updated", pa.string()),
        ("created", pa.string()),
        ("taken", pa.bool_()),
        ("newer_version", pa.string()),
        ("digest", pa.string()),
    ]
)
"""One row a scene that matched, taken or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A scene that matched a request."""

    candidate: Candidate
    taken: bool = False
    newer_version: str | None = None
    """Id of the version of its acquisition that was preferred."""
    digest: str | None = None
    """Of what the document of a scene that was taken says."""


class SceneList(BaseModel):
    """The document of a search; written last, and anew when the search is refreshed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    search: str
    request: dict[str, JsonValue]
    """What of the request decides what is found."""
    collections: tuple[str, ...]
    searched: AwareDatetime
    tiles: int
    matches: int
    duplicates: int
    """Older versions of acquisitions that were dropped; the table of matches names them."""
    left_out: dict[str, int]
    """How many matches were left out, by reason."""
    scenes: int
    failed: dict[str, str]
    """Tiles whose search failed, and why; searched when the request is run again."""
    cut: tuple[str, ...] = ()
    """Tiles of which the limit left something unread; a refresh reads them whole."""
    changes: Changes | None = None
    """What the last refresh found."""
    documents_file: str
    """Key of the documents as the catalogue gave them, JSON lines."""
    table_file: str | None
    """Key of the same as stac-geoparquet; None where they do not fit into one table."""
    matches_file: str
    """Key of the table of all that matched."""

    def encode(self) -> bytes:
        """Write the document as JSON."""
        return self.model_dump_json(indent=1).encode()


def decode_scene_list(data: bytes, *, where: str) -> SceneList:
    """Read the document of a search.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    try:
        return SceneList.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        message = f"{where} is not a scene list that this version reads: {first['msg']}"
        raise StoreError(message) from err


def search_name(parts: Mapping[str, JsonValue]) -> str:
    """Name a search by what decides its result: the first 16 hex digits of a SHA-256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def item_digest(item: Item) -> str:
    """Digest what a document says of its scene: neither its links nor a signature count."""
    said = {part: item.get(part) for part in ("properties", "geometry", "assets")}
    return hashlib.sha256(json.dumps(unsigned(said), sort_keys=True).encode()).hexdigest()


def pack_item(item: Item) -> Packed:
    """Keep an item, without signatures, in a fraction of the memory of a dictionary."""
    return zlib.compress(json.dumps(unsigned(item)).encode(), level=1)


def unpack_item(packed: Packed) -> dict[str, Any]:
    """Give the item again, exactly."""
    return cast("dict[str, Any]", json.loads(zlib.decompress(packed)))


def encode_documents(items: Mapping[str, Packed]) -> bytes:
    """Write items as JSON lines under zstd, sorted by id."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for _, packed in sorted(items.items()):
            stream.write(zlib.decompress(packed) + b"\n")
    return sink.getvalue().to_pybytes()


def decode_documents(data: bytes) -> dict[str, Packed]:
    """Read items, by id."""
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        lines = stream.read().splitlines()
    return {str(json.loads(line)["id"]): zlib.compress(line, level=1) for line in lines}


def encode_matches(matches: Sequence[Match]) -> bytes:
    """Write the table of all that matched."""
    rows = [
        {
            **asdict(match.candidate),
            "version": json.dumps(match.candidate.version),
            "taken": match.taken,
            "newer_version": match.newer_version,
            "digest": match.digest,
        }
        for match in sorted(matches, key=lambda each: (each.candidate.tile, each.candidate.id))
    ]
    sink = BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=MATCHES), sink, compression="zstd")
    return sink.getvalue()


def decode_matches(data: bytes) -> list[Match]:
    """Read the table of all that matched."""
    return [_match(row) for row in parquet.read_table(BytesIO(data)).to_pylist()]


def _match(row: dict[str, Any]) -> Match:
    own = {name: row.pop(name) for name in ("taken", "newer_version", "digest")}
    time = cast("datetime", row.pop("time"))
    baseline, processed, stated, document = json.loads(row.pop("version"))
    row["bbox"] = tuple(row["bbox"])
    version = (tuple(baseline), processed, stated, document)
    return Match(candidate=Candidate(**row, time=time, version=version), **own)
