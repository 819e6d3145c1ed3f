"""The chip index: one row a chip, as GeoParquet 1.1; a part holds one scene, a snapshot many.

The scene's columns are inlined as dictionaries, so that one table answers all questions; what is
said once a scene is also in the schema's metadata of a part, under `chipmill.scene`.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from io import BytesIO
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import AwareDatetime, BaseModel, ConfigDict, PositiveInt, ValidationError

from chipmill.errors import StoreError
from chipmill.formats.columns import back_to_back, numbers, word_column
from chipmill.model.box import Box, around, outward
from chipmill.model.wkb import Wkb

SCENE = b"chipmill.scene"
_GEO = b"geo"
_WORD = pa.dictionary(pa.int32(), pa.string())

SIDES = ("xmin", "ymin", "xmax", "ymax")
BOX = pa.struct([pa.field(name, pa.float32()) for name in SIDES])
"""Degrees, rounded outward: a box of single precision holds its geometry and costs a third."""

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
        pa.field("bbox", BOX, nullable=False),
        pa.field("part", pa.string(), nullable=False),
    ]
)

_SPLIT = ("cloud_fraction", "nodata_fraction", *(f"bbox.{side}" for side in SIDES))
WRITING: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": [
        name for name in CHIPS.names if name not in {"chip_id", "geometry", "bbox", *_SPLIT}
    ],
    # The assets of a row group of small scenes are more than the usual MiB; without a dictionary
    # they would be written once a chip.
    "dictionary_pagesize_limit": 2**30,
    "column_encoding": {
        "chip_id": "DELTA_BYTE_ARRAY",
        "geometry": "DELTA_BYTE_ARRAY",
        **dict.fromkeys(_SPLIT, "BYTE_STREAM_SPLIT"),
    },
    # Of texts of kilobytes, and of what is equal everywhere, the least and the largest say nothing.
    "write_statistics": ["scene", "collection", "datetime", "gsd", "platform", *_SPLIT],
}
"""How rows of chips are written: measured at 28 bytes a chip against 63 with the defaults."""
_PART: Final[dict[str, Any]] = WRITING | {"compression": "lz4", "write_statistics": False}
"""The same for one scene, of which much less is to be saved, and which is read as a whole: it is
written in half the time so."""


_DERIVED: Final = {"digest", "inputs", "assets", "bbox", "remainder_area"}
"""What a part says of its scene beside the content that gives a snapshot its name."""


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
    remainder_area: float | None = None
    """Their area in square metres; None: an older part does not say."""
    assets: str
    """The rewritten item's assets as JSON."""
    checksums: tuple[str, ...]
    """Of its files, as multihash, sorted."""
    inputs: str
    """SHA-256 of everything that the counts depend on; equal inputs give equal parts."""
    bbox: Box = (0.0, 0.0, 0.0, 0.0)
    """West, south, east, north of all chips in degrees; west > east across the antimeridian."""
    digest: str = ""
    """SHA-256 of the scene's rows: with it a snapshot gets its name."""

    @property
    def scene(self) -> str:
        """Name of the scene, unique in the archive."""
        return f"{self.collection}/{self.item}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipColumns:
    """The rows of one scene, row-major: all have the shape (rows * cols,)."""

    cloud_fraction: NDArray[np.float32]
    nodata_fraction: NDArray[np.float32]
    boxes: NDArray[np.float64]
    """Shape (chips, 4): west, south, east, north in degrees."""
    polygons: Wkb


def encode_part(scene: IndexedScene, chips: ChipColumns) -> tuple[IndexedScene, bytes]:
    """Write the index of one scene; gives the scene with its digest and its box, and the file."""
    said = {"digest": _digest(scene, chips), "bbox": around(chips.boxes)}
    scene = scene.model_copy(update=said)
    table = pa.Table.from_arrays(_arrays(scene, chips), schema=CHIPS)
    sink = BytesIO()
    # What stands in the schema is written twice: geopandas looks for its own there alone.
    with parquet.ParquetWriter(sink, CHIPS.with_metadata({_GEO: geo_metadata()}), **_PART) as file:
        file.write_table(table)
        file.add_key_value_metadata({SCENE.decode(): scene.model_dump_json()})
    return scene, sink.getvalue()


def read_part(data: bytes, *, where: str) -> tuple[IndexedScene, pa.Table]:
    """Read the index of one scene.

    Raises:
        StoreError: The bytes are not a part that this version reads; `where` names the object.
    """
    try:
        file = parquet.ParquetFile(BytesIO(data))
        table = file.read(use_threads=False)
        scene = _scene(file.metadata)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValidationError) as err:
        raise _no_part(where) from err
    if not table.schema.equals(CHIPS) or len(table) != scene.rows * scene.cols:
        raise _no_part(where)
    return scene, table


def read_part_scene(data: bytes, *, where: str) -> IndexedScene:
    """Read what a part says of its scene, and none of its rows.

    Raises:
        StoreError: The bytes are not a part that this version reads; `where` names the object.
    """
    try:
        return _scene(parquet.read_metadata(BytesIO(data)))
    except (pa.ArrowException, OSError, KeyError, ValidationError) as err:
        raise _no_part(where) from err


def _scene(file: parquet.FileMetaData) -> IndexedScene:
    return IndexedScene.model_validate_json((file.metadata or {})[SCENE])


def scene_row(scene: IndexedScene, *, part: str) -> dict[str, Any]:
    """Give the row of a scene in the table of scenes; `part` is the version of its part."""
    values = scene.model_dump() | {"scene": scene.scene, "bands": list(scene.bands), "part": part}
    values["bbox"] = dict(zip(SIDES, scene.bbox, strict=True))
    return {name: values[name] for name in SCENES.names}


def geo_metadata() -> bytes:
    """Describe the geometry column as GeoParquet 1.1 has it; longitude and latitude (OGC:CRS84)."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "orientation": "counterclockwise",
        "covering": {"bbox": {name: ["bbox", name] for name in SIDES}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return json.dumps(geo).encode()


def _arrays(scene: IndexedScene, chips: ChipColumns) -> "list[pa.Array[Any]]":
    """Give the columns of one scene in the order of the schema."""
    row, col = (
        axis.reshape(-1).astype(np.uint16)
        for axis in np.meshgrid(np.arange(scene.rows), np.arange(scene.cols), indexing="ij")
    )
    count = len(row)
    boxes = outward(chips.boxes)
    sides = [numbers(boxes[:, side]) for side in range(len(SIDES))]
    moment = np.datetime64(scene.datetime.astimezone(UTC).replace(tzinfo=None), "us")
    return [
        _ids(scene),
        word_column(scene.scene, count),
        word_column(scene.collection, count),
        numbers(row),
        numbers(col),
        numbers(chips.cloud_fraction),
        numbers(chips.nodata_fraction),
        numbers(np.full(count, moment.astype(np.int64)), pa.timestamp("us", tz="UTC")),
        numbers(np.full(count, scene.gsd, np.float32)),
        word_column(scene.platform, count),
        word_column(",".join(scene.bands), count),
        word_column(scene.item_key, count),
        word_column(scene.assets, count),
        pa.StructArray.from_arrays(sides, fields=list(BOX)),
        back_to_back(chips.polygons.data, chips.polygons.ends, pa.binary()),
    ]


def _ids(scene: IndexedScene) -> "pa.Array[Any]":
    heads = [f"{scene.scene}/{row}-".encode() for row in range(scene.rows)]
    tails = [str(col).encode() for col in range(scene.cols)]
    lengths = np.add.outer([len(head) for head in heads], [len(tail) for tail in tails])
    data = b"".join(head + head.join(tails) for head in heads)
    return back_to_back(data, np.append(0, lengths.cumsum()), pa.string())


def _digest(scene: IndexedScene, chips: ChipColumns) -> str:
    """Hash the content of a scene, whatever wrote it, when, and in which archive."""
    said = scene.model_dump_json(exclude=_DERIVED)
    content = hashlib.sha256(said.encode())
    content.update(chips.cloud_fraction.astype("<f4").tobytes())
    content.update(chips.nodata_fraction.astype("<f4").tobytes())
    return content.hexdigest()


def _no_part(where: str) -> StoreError:
    return StoreError(f"{where} is not a part of a chip index; index the scene again")
