"""A plan as the archive keeps it: a summary as JSON, the scenes with their chips as Parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from chipmill.errors import PackError


class PlannedMegabatch(BaseModel):
    """What one megabatch will hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenes: PositiveInt
    chips: PositiveInt
    minibatches: NonNegativeInt
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
    order_version: PositiveInt
    chip_size: PositiveInt
    usable: NonNegativeInt
    """Chips of the snapshot that pass the filters."""
    left_out: dict[str, NonNegativeInt]
    """Chips that do not pass, by reason."""
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
        raise PackError(f"{where} is not a plan: {first['msg']}; plan again") from err


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
        pa.field("row", pa.list_(pa.uint16()), nullable=False),
        pa.field("col", pa.list_(pa.uint16()), nullable=False),
        pa.field("cloud_fraction", pa.list_(pa.float32()), nullable=False),
        pa.field("nodata_fraction", pa.list_(pa.float32()), nullable=False),
    ]
)
"""One row a scene, sorted by megabatch, collection, scene; its usable chips as lists, row-major."""


def encode_scenes(scenes: Sequence[PlannedScene]) -> bytes:
    """Write the scenes of a plan, one row a scene."""
    table = pa.Table.from_pylist(
        [{name: getattr(scene, name) for name in PLAN_SCENES.names} for scene in scenes],
        schema=PLAN_SCENES,
    )
    sink = BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode_scenes(data: bytes, *, megabatch: int) -> list[PlannedScene]:
    """Read the scenes of one megabatch."""
    table = parquet.read_table(BytesIO(data), filters=pc.field("megabatch") == megabatch)
    return [
        PlannedScene(
            megabatch=megabatch,
            collection=row["collection"],
            scene=row["scene"],
            group=row["group"],
            chip_bytes=row["chip_bytes"],
            row=np.array(row["row"], np.uint16),
            col=np.array(row["col"], np.uint16),
            cloud_fraction=np.array(row["cloud_fraction"], np.float32),
            nodata_fraction=np.array(row["nodata_fraction"], np.float32),
        )
        for row in table.to_pylist()
    ]
