# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# DuckDB and pyarrow.dataset ship no types.
"""The files of a snapshot: GeoParquet that other tools read, and read little of."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import dataset, parquet

from chipmill.formats.chip_index import CHIPS, IndexedScene
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.model.box import around, outward
from chipmill.model.curve import BITS, along_curve
from chipmill.steps.bind import ROWS_PER_GROUP, ROWS_PER_SHEAF
from chipmill.steps.merge import merge_index

PutPart = Callable[..., IndexedScene]
Wide = tuple[Store, Snapshot]
SIZE = 16
SHAPE = (170, 180)
"""Chips of a scene; 36 of them fill more than one sheaf."""
group = pytest.mark.xdist_group("wide")

# What the specification of GeoParquet 1.1.0 asks of the metadata `geo`, of its version 1.1.0:
# geoparquet.org/releases/v1.1.0.
_SIDE = [{"type": "string"}, {"enum": ["xmin", "ymin", "xmax", "ymax"]}]
GEO: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["version", "primary_column", "columns"],
    "properties": {
        "version": {"const": "1.1.0"},
        "primary_column": {"const": "geometry"},
        "columns": {
            "type": "object",
            "required": ["geometry"],
            "additionalProperties": {
                "type": "object",
                "required": ["encoding", "geometry_types"],
                # Without `crs` it is OGC:CRS84.
                "additionalProperties": False,
                "properties": {
                    "encoding": {"const": "WKB"},
                    "geometry_types": {
                        "type": "array",
                        "uniqueItems": True,
                        "items": {"enum": ["Polygon", "MultiPolygon"]},
                    },
                    "orientation": {"const": "counterclockwise"},
                    "edges": {"enum": ["planar", "spherical"]},
                    "covering": {
                        "type": "object",
                        "required": ["bbox"],
                        "additionalProperties": False,
                        "properties": {
                            "bbox": {
                                "type": "object",
                                "required": ["xmin", "ymin", "xmax", "ymax"],
                                "additionalProperties": {
                                    "type": "array",
                                    "prefixItems": _SIDE,
                                    "minItems": 2,
                                    "maxItems": 2,
                                },
                            }
                        },
                    },
                },
            },
        },
    },
}


def named(x: int, y: int) -> str:
    """Give scenes names in an order that is not that of places."""
    return hashlib.sha256(f"{x} {y}".encode()).hexdigest()[:8]


@pytest.fixture(scope="module")
def wide(put_part: PutPart, tmp_path_factory: pytest.TempPathFactory) -> Wide:
    """Merge a snapshot of 1.1 million chips all over the northern half of the earth."""
    archive = Store.open(tmp_path_factory.mktemp("wide").as_uri())
    for x in range(6):
        for y in range(6):
            put_part(archive, named(x, y), shape=SHAPE, corner=(-170 + 50.0 * x, 85 - 14.0 * y))
    return archive, merge_index(archive, chip_size=SIZE)


def paths(wide: Wide) -> list[Path]:
    """Give the paths of the chip files."""
    archive, snapshot = wide
    found = [archive.local_path(key) for key in snapshot.chip_files]
    return [path for path in found if path is not None]


@group
def test_the_metadata_are_geoparquet(wide: Wide) -> None:
    """Checked against the specification; the column is what it says, of the kind that it names."""
    for path in paths(wide):
        metadata = parquet.read_schema(path).metadata
        geo = json.loads(metadata[b"geo"])
        jsonschema.validate(geo, GEO, cls=jsonschema.Draft202012Validator)
        column = parquet.ParquetFile(path).schema.column(CHIPS.names.index("geometry") + 3)
        assert (column.path, column.physical_type) == ("geometry", "BYTE_ARRAY")
        broken = geo | {"version": "1.0.0"}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, GEO, cls=jsonschema.Draft202012Validator)


@group
def test_a_sheaf_is_of_bounded_size_and_divides_no_scene(wide: Wide) -> None:
    """What is written again when one scene changes is bounded; a scene is read at one place."""
    files = [parquet.ParquetFile(path) for path in paths(wide)]
    assert len(files) == 2
    seen: list[str] = []
    for file in files:
        assert file.metadata.num_rows <= ROWS_PER_SHEAF
        for number in range(file.num_row_groups):
            names = file.read_row_group(number, columns=["scene"])["scene"]
            assert len(names) < ROWS_PER_GROUP + SHAPE[0] * SHAPE[1]
            seen += [str(name) for name in pc.unique(names.cast(pa.string()))]
    assert len(seen) == len(set(seen)) == 36


@group
def test_a_box_reads_few_row_groups(wide: Wide) -> None:
    """Place by place along the curve: what a box needs lies together, and statistics say where."""
    data = dataset.dataset([str(path) for path in paths(wide)])
    box = (-20.0, 40.0, 0.0, 60.0)
    sides = [pc.field("bbox", side) for side in ("xmin", "ymin", "xmax", "ymax")]
    within = (sides[0] <= box[2]) & (sides[2] >= box[0])
    within &= (sides[1] <= box[3]) & (sides[3] >= box[1])
    groups = sum(len(each.row_groups) for each in data.get_fragments())
    read = sum(len(each.subset(within).row_groups) for each in data.get_fragments())
    assert 0 < read <= groups // 4
    shapes = shapely.from_wkb(data.to_table(columns=["geometry"])["geometry"].to_numpy())
    touched = shapely.intersects(shapes, shapely.box(*box))
    found = data.to_table(columns=["chip_id"], filter=within)["chip_id"].to_pylist()
    ids = np.array(data.to_table(columns=["chip_id"])["chip_id"].to_pylist())
    assert set(ids[touched]) <= set(found)
    assert len(found) <= touched.sum() + 4 * sum(SHAPE)


@group
def test_a_scene_reads_few_row_groups(wide: Wide) -> None:
    """Names are in no order within the files: a filter of each row group tells where a scene is."""
    question = "SELECT bloom_filter_excludes FROM parquet_bloom_probe(?, 'scene', ?)"
    files = [str(path) for path in paths(wide)]
    probed = duckdb.connect().execute(question, [files, f"sentinel-2-l2a/{named(3, 2)}"]).fetchall()
    assert [excluded for (excluded,) in probed].count(False) == 1
    assert len(probed) > 10


@group
def test_other_tools_read_the_same(wide: Wide) -> None:
    """geopandas, DuckDB and pyarrow.dataset agree on every column, whatever the encoding."""
    files = [str(path) for path in paths(wide)]
    table = dataset.dataset(files).to_table()
    assert table.schema.remove_metadata().equals(CHIPS.remove_metadata())
    frame = geopandas.read_parquet(files[0])
    assert frame.crs == "OGC:CRS84"
    first = table.slice(0, len(frame))
    assert frame["chip_id"].tolist() == first["chip_id"].to_pylist()
    np.testing.assert_array_equal(shapely.to_wkb(frame.geometry.to_numpy()), first["geometry"])
    question = (
        "SELECT count(*), count(DISTINCT chip_id), sum(cloud_fraction::DOUBLE), "
        "sum(bbox.xmin::DOUBLE), count(DISTINCT scene), count(geometry), sum(row * col::BIGINT) "
        "FROM read_parquet(?)"
    )
    said = duckdb.connect().execute(question, [files]).fetchone()
    assert said is not None
    product = table["row"].to_numpy().astype(np.int64) * table["col"].to_numpy()
    west = pc.struct_field(table["bbox"], "xmin").to_numpy().astype(np.float64)
    assert said[:2] == (len(table), len(table))
    assert said[2] == pytest.approx(table["cloud_fraction"].to_numpy().astype(np.float64).sum())
    assert said[3] == pytest.approx(west.sum())
    assert said[4:] == (36, len(table), product.sum())


@given(
    sides=hnp.arrays(np.float64, (5, 2), elements=st.floats(-180, 180, width=64)),
)
def test_a_rounded_box_holds_the_box(sides: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    """Readers skip by the box: it may be larger than what it covers, never smaller."""
    low, high = sides.min(axis=1), sides.max(axis=1)
    boxes = np.stack([low, low, high, high], axis=1)
    rounded = outward(boxes)
    assert (rounded[:, :2] <= boxes[:, :2]).all()
    assert (rounded[:, 2:] >= boxes[:, 2:]).all()
    np.testing.assert_allclose(rounded, boxes, rtol=2.0**-23, atol=1e-44)


def test_a_box_around_chips() -> None:
    """Also where they lie on both sides of the antimeridian, and around a pole."""
    plain = np.array([[10.0, 1, 11, 2], [11, 0, 12.5, 1]])
    assert around(plain) == (10, 0, 12.5, 2)
    beside = np.array([[179.0, 1, 180, 2], [-180, 1, -179, 2]])
    assert around(beside) == (179, 1, -179, 2)
    across = np.array([[179.0, 1, -179.5, 2], [-179.5, 1, -179, 2]])
    assert around(across) == (179, 1, -179, 2)
    pole = np.array([[170.0, 80, -170, 85], [-10, 80, 10, 85], [80, 80, 100, 85]])
    assert around(pole) == (-180, 80, 180, 85)


def test_the_curve_goes_through_all_places_step_by_step() -> None:
    """Each cell once, and from each to a neighbour: near on the curve is near on earth."""
    edge = 64
    step = 2**BITS // edge
    x, y = (axis.reshape(-1) for axis in np.meshgrid(np.arange(edge), np.arange(edge)))
    place = along_curve((x + 0.5) / edge * 360 - 180, (y + 0.5) / edge * 180 - 90)
    order = np.argsort(place // step**2)
    assert (np.sort(place // step**2) == np.arange(edge**2)).all()
    assert (np.abs(np.diff(x[order])) + np.abs(np.diff(y[order])) == 1).all()
    corners = along_curve(np.array([-180.0, 180.0]), np.array([-90.0, 90.0]))
    assert ((corners >= 0) & (corners < 4**BITS)).all()
