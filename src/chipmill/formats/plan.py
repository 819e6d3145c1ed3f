"""A plan as the archive keeps it: a summary as JSON, the scenes with their chips as Parquet."""

import operator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from chipmill.errors import PackError


class PlannedShare(BaseModel):
    """What a collection gives to a megabatch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: PositiveInt
    chips: PositiveInt


class PlannedMegabatch(BaseModel):
    """What one megabatch will hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: PositiveInt
    chips: PositiveInt
    minibatches: NonNegativeInt
    collections: dict[str, PlannedShare] = {}
    """What each collection gives."""
    left_over: NonNegativeInt
    """Usable chips that no minibatch takes, because a parent scene would repeat."""
    size: PositiveInt
    """Bytes it may need on fast storage, an upper bound."""


class Plan(BaseModel):
    """What a training run will see: a pure function of a snapshot and a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    plan: str
    """Name: the first 16 hex digits of the hash of everything that decides it."""
    snapshot: str
    seed: int
    epoch: NonNegativeInt
    minibatch: PositiveInt
    megabatch_scenes: PositiveInt
    leftover: Literal["drop", "spread"]
    mixed: bool = Field(default=False, exclude_if=operator.not_)
    """Whether a minibatch has chips of several groups; written only where it has."""
    order_version: PositiveInt
    chip_size: PositiveInt
    usable: NonNegativeInt
    """Chips in the megabatches."""
    left_out: dict[str, NonNegativeInt]
    """Chips of the snapshot that are in no megabatch, by reason."""
    request: dict[str, JsonValue] = {}
    """All that decides the plan; its hash is the plan's name."""
    megabatches: tuple[PlannedMegabatch, ...]

    def encode(self) -> bytes:
        """Write the plan; the same plan always gives the same bytes."""
        return self.model_dump_json(indent=1).encode()


def decode_plan(data: bytes, *, where: str) -> Plan:
    """Read a plan.

    Raises:
        PackError: The bytes are not a plan that this version reads; `where` names the object.
    """
    try:
        return Plan.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        said = f"{where} is not a plan: {first['msg']}; remove it and plan again"
        raise PackError(said) from err


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedScene:
    """A scene of a plan, with the usable chips of it; arrays have the shape (chips,), row-major."""

    megabatch: int
    collection: str
    scene: str
    """Id of the item."""
    group: int
    """Number of its collection and set of bands in the plan."""
    chip_bytes: int
    row: NDArray[np.uint16]
    col: NDArray[np.uint16]
    cloud_fraction: NDArray[np.float32]
    nodata_fraction: NDArray[np.float32]


PLAN_SCENES = pa.schema(
    [
        pa.field("megabatch", pa.int32(), nullable=False),
        pa.field("collection", pa.string(), nullable=False),
        pa.field("scene", pa.string(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("chip_bytes", pa.int64(), nullable=False),
        pa.field("chips", pa.int32(), nullable=False),
        pa.field("lon", pa.float32(), nullable=False),
        pa.field("lat", pa.float32(), nullable=False),
        pa.field("row", pa.list_(pa.uint16()), nullable=False),
        pa.field("col", pa.list_(pa.uint16()), nullable=False),
        pa.field("cloud_fraction", pa.list_(pa.float32()), nullable=False),
        pa.field("nodata_fraction", pa.list_(pa.float32()), nullable=False),
    ]
)
"""One row a scene, sorted by megabatch, collection, scene; its usable chips as lists, row-major."""

WRITING: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": ["megabatch", "collection", "group", "chip_bytes"],
    # Rows and columns are near each other, and shares have few bytes that differ.
    "column_encoding": {
        "row.list.element": "DELTA_BINARY_PACKED",
        "col.list.element": "DELTA_BINARY_PACKED",
        "cloud_fraction.list.element": "BYTE_STREAM_SPLIT",
        "nodata_fraction.list.element": "BYTE_STREAM_SPLIT",
    },
}
"""How the scenes of a plan are written; a megabatch is a row group."""


def decode_scenes(table: pa.Table) -> list[PlannedScene]:
    """Read rows of `PLAN_SCENES`."""
    lists = [_split(table[name]) for name in _LISTS]
    rows = table.select(_ABOUT).to_pylist()
    return [
        PlannedScene(**about, **dict(zip(_LISTS, chips, strict=True)))
        for about, *chips in zip(rows, *lists, strict=True)
    ]


_ABOUT = ["megabatch", "collection", "scene", "group", "chip_bytes"]
_LISTS = ["row", "col", "cloud_fraction", "nodata_fraction"]


def _split(column: "pa.ChunkedArray[Any]") -> list[Any]:
    """Give the lists of a column as arrays that share its memory."""
    lists = cast("Any", column).combine_chunks()
    bounds = lists.offsets.to_numpy()
    values = lists.values.to_numpy()
    return [values[start:stop] for start, stop in pairwise(bounds.tolist())]
