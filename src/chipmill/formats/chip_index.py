"""The chip index: one row a chip, as GeoParquet 1.1; a part holds one scene, a snapshot many.

The columns of the scene are inlined as dictionaries, so that one table answers all questions; what
is said once a scene is also in the schema's metadata of a part, under `chipmill.scene`.
"""

import hashlib
import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import AwareDatetime, BaseModel, ConfigDict, PositiveInt, ValidationError

from chipmill.errors import StoreError

SCENE = b"chipmill.scene"
_GEO = b"geo"
_WORD = pa.dictionary(pa.int32(), pa.string())

BOX = pa.struct([pa.field(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])

CHIPS = pa.schema(
    [
        pa.field("chip_id", pa.string(), nullable=False),
        pa.field("scene", _WORD, nullable=False),
        pa.field("collection", _WORD, nullable=False),
        pa.field("row", pa.uint16(), nullable=False),
        pa.field("col", pa.uint16(), nullable=False),
        pa.field("cloud_fraction", pa.float32(), nullable=False),
        pa.field("nodata_fraction", pa.float32(), nullable=False),
        pa.field("datetime", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("gsd", pa.float32(), nullable=False),
        pa.field("platform", _WORD),
        pa.field("bands", _WORD, nullable=False),
        pa.field("item_key", _WORD, nullable=False),
        pa.field("assets", _WORD, nullable=False),
        pa.field("bbox", BOX, nullable=False),
        pa.field("geometry", pa.binary(), nullable=False),
    ]
)

SCENES = pa.schema(
    [
        pa.field("scene", pa.string(), nullable=False),
        pa.field("collection", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("item_key", pa.string(), nullable=False),
        pa.field("datetime", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("platform", pa.string()),
        pa.field("gsd", pa.float32(), nullable=False),
        pa.field("bands", pa.list_(pa.string()), nullable=False),
        pa.field("rows", pa.uint16(), nullable=False),
        pa.field("cols", pa.uint16(), nullable=False),
        pa.field("chip_bytes", pa.int64(), nullable=False),
        pa.field("remainder", pa.float32(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("assets", pa.string(), nullable=False),
    ]
)


class IndexedScene(BaseModel):
    """What a part says once of its scene."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    collection: str
    item: str
    item_key: str
    datetime: AwareDatetime
    platform: str | None
    gsd: float
    """Pixel size of the finest grid in metres."""
    bands: tuple[str, ...]
    chip_size: PositiveInt
    rows: PositiveInt
    cols: PositiveInt
    chip_bytes: PositiveInt
    """Bytes of one chip in a pack."""
    remainder: float
    """Share of the scene's pixels at the right and bottom that belong to no chip."""
    assets: str
    """The rewritten item's assets as JSON."""
    checksums: tuple[str, ...]
    """Of its files, as multihash, sorted."""
    inputs: str
    """SHA-256 of everything that the counts depend on; equal inputs give equal parts."""
    digest: str = ""
    """SHA-256 of the scene's rows: with it a snapshot gets its name."""

    @property
    def scene(self) -> str:
        """Name of the scene, unique in the archive."""
        return f"{self.collection}/{self.item}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipColumns:
    """The rows of one scene, row-major: all arrays have the shape (rows * cols,)."""

    cloud_fraction: NDArray[np.float32]
    nodata_fraction: NDArray[np.float32]
    boxes: NDArray[np.float64]
    """Shape (chips, 4): west, south, east, north in degrees."""
    polygons: NDArray[np.object_]


def encode_part(scene: IndexedScene, chips: ChipColumns) -> tuple[IndexedScene, bytes]:
    """Write the index of one scene; gives the scene with its digest, and the file."""
    row, col = (
        axis.reshape(-1).astype(np.uint16)
        for axis in np.meshgrid(np.arange(scene.rows), np.arange(scene.cols), indexing="ij")
    )
    scene = scene.model_copy(update={"digest": _digest(scene, chips)})
    count = len(row)
    names = ("xmin", "ymin", "xmax", "ymax")
    box = pa.StructArray.from_arrays(
        [pa.array(chips.boxes[:, side]) for side in range(4)], names=list(names)
    )
    ids = [f"{scene.scene}/{r}-{c}" for r, c in zip(row.tolist(), col.tolist(), strict=True)]
    columns: list[pa.Array[Any]] = [
        pa.array(ids),
        _word(scene.scene, count),
        _word(scene.collection, count),
        pa.array(row),
        pa.array(col),
        pa.array(chips.cloud_fraction),
        pa.array(chips.nodata_fraction),
        pa.array([scene.datetime] * count, pa.timestamp("us", tz="UTC")),
        pa.array(np.full(count, scene.gsd, np.float32)),
        _word(scene.platform, count),
        _word(",".join(scene.bands), count),
        _word(scene.item_key, count),
        _word(scene.assets, count),
        box,
        pa.array(shapely.to_wkb(chips.polygons).tolist(), pa.binary()),
    ]
    metadata = {SCENE: scene.model_dump_json().encode(), _GEO: geo_metadata()}
    table = pa.Table.from_arrays(columns, schema=CHIPS.with_metadata(metadata))
    sink = BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return scene, sink.getvalue()


def read_part(data: bytes, *, where: str) -> tuple[IndexedScene, pa.Table]:
    """Read the index of one scene.

    Raises:
        StoreError: The bytes are not a part that this version reads; `where` names the object.
    """
    try:
        table = parquet.read_table(BytesIO(data))
        return IndexedScene.model_validate_json(table.schema.metadata[SCENE]), table
    except (pa.ArrowInvalid, KeyError, TypeError, ValidationError) as err:
        raise StoreError(f"{where} is not a part of a chip index; index the scene again") from err


def scene_row(scene: IndexedScene) -> dict[str, Any]:
    """Give the row of a scene in the table of scenes."""
    values = scene.model_dump() | {"scene": scene.scene, "bands": list(scene.bands)}
    return {name: values[name] for name in SCENES.names}


def geo_metadata() -> bytes:
    """Describe the geometry column as GeoParquet 1.1 has it; longitude and latitude (OGC:CRS84)."""
    corners = {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "orientation": "counterclockwise",
        "covering": {"bbox": corners},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return json.dumps(geo).encode()


def _word(value: str | None, count: int) -> "pa.Array[Any]":
    """Repeat one word as a dictionary column."""
    return pa.array([value] * count, pa.string()).cast(_WORD)


def _digest(scene: IndexedScene, chips: ChipColumns) -> str:
    """Hash the content of a scene, whatever wrote it, when, and in which archive."""
    said = scene.model_dump_json(exclude={"digest", "inputs", "assets"})
    content = hashlib.sha256(said.encode())
    content.update(chips.cloud_fraction.astype("<f4").tobytes())
    content.update(chips.nodata_fraction.astype("<f4").tobytes())
    return content.hexdigest()
