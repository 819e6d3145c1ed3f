"""Filters: what they keep, against a loop over rows; what they refuse, and in which words."""

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import BaseModel, ValidationError

from chipmill.errors import RequestError
from chipmill.formats.chip_index import CHIPS
from chipmill.model.box import outward
from chipmill.model.chip_filter import ChipFilter

Row = dict[str, Any]
Test = Callable[[Row], bool | None]
NUMBERS = ("cloud", "nodata_fraction", "gsd", "row")
WORDS = ("collection", "platform")
SIGNS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FIELDS: list[Any] = [
    pa.field("scene", pa.dictionary(pa.int32(), pa.string())),
    CHIPS.field("collection"),
    CHIPS.field("platform"),
    CHIPS.field("row"),
    CHIPS.field("cloud_fraction"),
    CHIPS.field("nodata_fraction"),
    CHIPS.field("gsd"),
    CHIPS.field("datetime"),
    CHIPS.field("bbox"),
    CHIPS.field("geometry"),
]


def chips(count: int = 300) -> tuple[pa.Table, list[Row]]:
    """Make chips all over the map, some across the antimeridian; values that filters also name."""
    numbers = np.random.default_rng(7)
    rows: list[Row] = []
    for index in range(count):
        west = float(numbers.uniform(-180, 180))
        south = float(numbers.uniform(-80, 75))
        wide, high = numbers.uniform(0.1, 30, 2).tolist()
        east = west + wide
        shape = shapely.Polygon(
            [
                (west, south),
                (east, south + high / 4),
                (east - wide / 4, south + high),
                (west, south),
            ]
        )
        if east > 180:
            left = shapely.intersection(shape, shapely.box(-180, -90, 180, 90))
            right = shapely.intersection(shape, shapely.box(180, -90, 540, 90))
            shape = shapely.union(left, shapely.transform(right, lambda xy: xy - [360, 0]))
        rows.append(
            {
                "scene": f"s{index // 10}",
                "collection": ("naip", "sentinel-2-l2a", "it's")[index % 3],
                "platform": (None, "landsat-8", "landsat-9")[index % 7 % 3],
                "row": index % 5,
                "cloud_fraction": np.float32(index % 11 / 10),
                "nodata_fraction": np.float32(index % 4 / 4),
                "gsd": np.float32((0.6, 10, 30)[index % 3]),
                "datetime": datetime(2023, 1, 1 + index % 28, index % 24, tzinfo=UTC),
                "bbox": {
                    "xmin": west,
                    "ymin": south,
                    "xmax": east - 360 * (east > 180),
                    "ymax": south + high,
                },
                "geometry": shapely.to_wkb(shape),
            }
        )
    return pa.Table.from_pylist(rows, schema=pa.schema(FIELDS)), rows


TABLE, ROWS = chips()


def fragment_of(sink: BytesIO) -> Any:  # noqa: ANN401
    """Open a Parquet file in memory as a dataset does."""
    make = cast("Any", ds.ParquetFileFormat()).make_fragment
    return make(pa.BufferReader(sink.getvalue()))


def kept(said: ChipFilter, table: pa.Table = TABLE) -> list[Any]:
    """Filter as a reader of Parquet does: row groups, then rows, then polygons."""
    sink = BytesIO()
    numbered = table.append_column("number", pa.array(range(len(table))))
    parquet.write_table(numbered, sink, row_group_size=16)
    fragment = fragment_of(sink)
    columns = ["number", *said.exact_columns]
    found = fragment.to_table(columns=columns, filter=said.coarse(numbered.schema))
    return said.exact(found)["number"].to_pylist()


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Test]:
    """Draw a condition on one column, as text and as a function; None where it is not known."""
    kind = draw(st.sampled_from(("number", "word", "time", "list", "null", "area")))
    sign = draw(st.sampled_from(sorted(SIGNS)))
    if kind == "number":
        name = draw(st.sampled_from(NUMBERS))
        value = draw(st.sampled_from((0, 0.1, 0.25, 0.3, 0.6, 1, 3, 10, -1)))
        column = "cloud_fraction" if name == "cloud" else name
        rounded = value if name == "row" else np.float32(value)
        return f"{name} {sign} {value}", lambda row: SIGNS[sign](row[column], rounded)
    if kind == "word":
        name = draw(st.sampled_from(WORDS))
        value = draw(st.sampled_from(("naip", "landsat-8", "it's", "?")))
        text = value.replace("'", "''")
        return (
            f"{name} {sign} '{text}'",
            lambda row: None if row[name] is None else SIGNS[sign](row[name], value),
        )
    if kind == "time":
        day = draw(st.dates(date(2022, 12, 30), date(2023, 2, 2)))
        return f"date {sign} DATE('{day}')", lambda row: SIGNS[sign](row["datetime"].date(), day)
    if kind == "list":
        some = draw(st.lists(st.sampled_from(("naip", "it's", "x")), min_size=1))
        texts = ", ".join("'" + word.replace("'", "''") + "'" for word in some)
        return f"collection IN ({texts})", lambda row: row["collection"] in some
    if kind == "null":
        return "platform IS NULL", lambda row: row["platform"] is None
    return draw(areas())


@st.composite
def areas(draw: st.DrawFn) -> tuple[str, Test]:
    """Draw a box, which may cross the antimeridian, or a triangle."""
    west, east = draw(st.integers(-180, 180)), draw(st.integers(-180, 180))
    south = draw(st.integers(-80, 40))
    if draw(st.booleans()):
        text = f"BBOX({west}, {south}, {east}, {south + 30})"
        parts = [(west, east)] if west <= east else [(west, 180), (-180, east)]
        shape = shapely.union_all([shapely.box(a, south, b, south + 30) for a, b in parts])
    else:
        west = min(west, 180 - 50)
        shape = shapely.Polygon([(west, south), (west + 50, south), (west, south + 40)])
        text = shape.wkt
    how = draw(st.sampled_from(("S_INTERSECTS", "S_DISJOINT", "S_WITHIN")))
    test: Callable[[Any], bool] = {
        "S_INTERSECTS": shape.intersects,
        "S_DISJOINT": shape.disjoint,
        "S_WITHIN": shape.covers,
    }[how]

    def holds(row: Row) -> bool:
        return test(shapely.from_wkb(cast("bytes", row["geometry"])))

    return f"{how}(geometry, {text})", holds


@st.composite
def filters(draw: st.DrawFn, depth: int = 2) -> tuple[str, Test]:
    """Draw conditions joined by AND, OR and NOT."""
    kind = draw(st.sampled_from(("one", "and", "or", "not"))) if depth else "one"
    if kind == "one":
        return draw(conditions())
    text, test = draw(filters(depth=depth - 1))
    if kind == "not":
        return f"NOT ({text})", denied(test)
    other, also = draw(filters(depth=depth - 1))
    if kind == "and":
        return f"({text}) AND ({other})", denied(either(denied(test), denied(also)))
    return f"({text}) OR ({other})", either(test, also)


def denied(test: Test) -> Test:
    """Deny a condition; what is not known stays so."""
    return lambda row: None if (value := test(row)) is None else not value


def either(one: Test, other: Test) -> Test:
    """Join two conditions; one that holds is enough, whether or not the other is known."""

    def holds(row: Row) -> bool | None:
        values = (one(row), other(row))
        return True if any(values) else None if None in values else False

    return holds


@given(drawn=filters())
def test_a_filter_keeps_what_a_loop_over_rows_keeps(drawn: tuple[str, Test]) -> None:
    """Whatever is joined: skipping row groups and boxes may lose no chip, polygons decide last."""
    text, test = drawn
    assert kept(ChipFilter(text)) == [n for n, row in enumerate(ROWS) if test(row)]


@given(drawn=filters())
def test_text_json_and_form_are_one_filter(drawn: tuple[str, Test]) -> None:
    """Python, command line and flow parameters name the same plan."""

    class Form(BaseModel):
        where: ChipFilter = ChipFilter()

    said = ChipFilter(drawn[0])
    form = Form.model_validate({"where": f"  {drawn[0]} "})
    assert form.where.canonical == said.canonical
    assert Form.model_validate_json(form.model_dump_json()) == form
    assert Form.model_json_schema()["$defs"]["ChipFilter"]["type"] == "string"


def test_json_is_taken_as_well() -> None:
    """STAC clients write filters as objects."""
    given_ = {"op": "<=", "args": [{"property": "cloud"}, 0.1]}
    assert ChipFilter.model_validate(given_).canonical == ChipFilter("cloud <= 0.1").canonical


def test_the_empty_filter_keeps_all() -> None:
    """It asks for nothing, reads nothing more and says so."""
    assert not ChipFilter()
    assert ChipFilter("cloud < 1")
    assert kept(ChipFilter(" ")) == list(range(len(ROWS)))
    assert ChipFilter().exact_columns == []


def test_an_area_reads_geometry_and_nothing_else_does() -> None:
    """Geometries are nine tenths of the bytes of an index."""
    assert ChipFilter("cloud < 1 AND platform LIKE 'landsat%'").exact_columns == []
    both = ChipFilter("cloud < 1 AND NOT S_INTERSECTS(geometry, BBOX(0, 0, 1, 1))")
    assert both.exact_columns == ["bbox", "cloud_fraction", "geometry"]


AREAS = {
    "BBOX(10.5, 45.2, 11.3, 45.9)": shapely.box(10.5, 45.2, 11.3, 45.9),
    "BBOX(179.2, 44, -179.4, 46)": shapely.MultiPolygon(
        [shapely.box(179.2, 44, 180, 46), shapely.box(-180, 44, -179.4, 46)]
    ),
    "POLYGON((10.1 45.1, 11.9 45.4, 11.2 46.4, 10.1 45.1))": shapely.Polygon(
        [(10.1, 45.1), (11.9, 45.4), (11.2, 46.4)]
    ),
}


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("operator_", ["S_INTERSECTS", "S_WITHIN", "NOT S_INTERSECTS"])
def test_neighbours_that_are_decided_together_are_decided_right(area: str, operator_: str) -> None:
    """A box around many chips may speak for them only where each of them would say the same."""
    steps = np.linspace(0, 2, 61)
    corners = [
        (west, south)
        for start in (10.0, 179.0)
        for south in 45 + steps[:-1]
        for west in start + steps[:-1]
    ]
    side = steps[1]
    rows = [
        {
            **ROWS[0],
            "row": number % 5,
            "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)),
            "geometry": shapely.to_wkb(shape),
        }
        for number, (box, shape) in enumerate(
            _chip(west, south, west + side, south + side) for west, south in corners
        )
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema(FIELDS))
    plain = operator_.removeprefix("NOT ")
    shape = AREAS[area]
    test = shapely.covers if plain == "S_WITHIN" else shapely.intersects
    held = np.asarray(test(shape, shapely.from_wkb(table["geometry"].to_numpy())), np.bool_)
    wanted = np.flatnonzero(held if plain == operator_ else ~held).tolist()
    assert kept(ChipFilter(f"{operator_}(geometry, {area})"), table) == wanted
    assert wanted


def _chip(west: float, south: float, east: float, north: float) -> tuple[Any, shapely.Geometry]:
    """Make the box and the shape of a chip, which may cross the antimeridian."""
    if west > 180:
        west, east = west - 360, east - 360
    over = east > 180
    (box,) = outward(np.array([[west, south, east - 360 * over, north]]))
    if not over:
        return box.tolist(), shapely.box(west, south, east, north)
    halves = [shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)]
    return box.tolist(), shapely.MultiPolygon(halves)


def test_a_day_is_whole_and_a_time_exact() -> None:
    """`<= DATE` ends with the day; the same as a quoted text; a time is a moment."""
    last = [n for n, row in enumerate(ROWS) if row["datetime"].day <= 3]
    assert kept(ChipFilter("datetime <= DATE('2023-01-03')")) == last
    assert kept(ChipFilter("datetime <= '2023-01-03'")) == last
    assert kept(ChipFilter("date BETWEEN DATE('2022-01-01') AND DATE('2023-01-03')")) == last
    noon = datetime(2023, 1, 3, 12, tzinfo=UTC)
    before = [n for n, row in enumerate(ROWS) if row["datetime"] < noon]
    assert kept(ChipFilter("datetime < TIMESTAMP('2023-01-03T12:00:00Z')")) == before
    assert kept(ChipFilter("datetime <= DATE('9999-12-31')")) == list(range(len(ROWS)))
    assert kept(ChipFilter("datetime > DATE('9999-12-31')")) == []
    landsat = [n for n, row in enumerate(ROWS) if row["platform"] is not None]
    assert kept(ChipFilter("platform LIKE 'landsat-_'")) == landsat


@pytest.mark.parametrize("number", ["1e20", "9223372036854775808", "1e400"])
def test_a_number_may_be_larger_than_any_of_a_column(number: str) -> None:
    """What no row reaches is no mistake."""
    assert kept(ChipFilter(f"row < {number}")) == list(range(len(ROWS)))
    assert kept(ChipFilter(f"row >= {number}")) == []


def test_row_groups_are_skipped() -> None:
    """A filter on what row groups are sorted by opens only the groups that may hold it."""
    sink = BytesIO()
    parquet.write_table(TABLE.append_column("n", pa.array(range(300))), sink, row_group_size=10)
    fragment = fragment_of(sink)
    schema = fragment.physical_schema
    assert len(fragment.split_by_row_group(ChipFilter("n < 25").coarse(schema), schema)) == 3
    west = min(row["bbox"]["xmin"] for row in ROWS)
    area = ChipFilter(f"S_INTERSECTS(geometry, BBOX(0, 85, 1, 90)) AND n >= {int(west)}")
    assert len(fragment.split_by_row_group(area.coarse(schema), schema)) < 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cloud <=", "at character 9: there it ends too early"),
        ("cloud <= 0.1 garbage", "at character 14: 'garbage' does not fit there"),
        ("cloud < 1\nAND gsd ? 3", "character 9 of line 2: '\\? 3' does not fit"),
        ("(" * 60 + "cloud < 1" + ")" * 60, "more than 50 brackets in each other"),
        ("NOT " * 60 + "cloud < 1", "more than 50 brackets in each other, or NOTs"),
    ],
)
def test_what_is_no_cql2_is_said_with_its_place(text: str, said: str) -> None:
    """Before anything is read, and in one sentence; the parser alone would crash on the deepest."""
    with pytest.raises(ValidationError, match=said):
        ChipFilter(text)
    with pytest.raises(ValidationError, match="not CQL2 in JSON"):
        ChipFilter.model_validate({"foo": text})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clouds < 1", "the column 'clouds', which chips do not have; they have cloud, nodata"),
        (
            "collection IN (naip)",
            "which has texts, with the name naip; write a text in single quot",
        ),
        (
            "date >= 2023-01-01",
            "which has times, with the operator -; write DATE\\('2023-01-01'\\)",
        ),
        ("date >= DATE('2023-13-01')", "with '2023-13-01'; write DATE"),
        ("cloud < 'x'", "which has numbers, with 'x'; write a number"),
        ("cloud < TRUE", "which has numbers, with True; write a number"),
        ("geometry = 'x'", "has no single values, with 'x'; write conditions on the other"),
        ("row LIKE '1%'", "which has numbers, with '1%'"),
        ("CASEI(collection) = 'x'", "compares the operator casei with a value"),
        ("T_AFTER(datetime, DATE('2023-01-01'))", "has the operator t_after where a condition"),
        ("cloud", "has the name cloud where a condition"),
        ("1 < 2", "compares 1.0 with a value; on one side must be a column"),
        ("S_INTERSECTS(geometry, BBOX(0, 10, 1, 5))", "area .* is none; give BBOX"),
        ("S_INTERSECTS(geometry, BBOX(179, 10, 181, 15))", "between 180 degrees west and east"),
        ("S_INTERSECTS(bbox, BBOX(0, 1, 1, 5))", "needs the column geometry and one area"),
        ("S_INTERSECTS(geometry, POLYGON((0 0, 1 1, 1 0, 0 1, 0 0)))", "whose sides do not cross"),
    ],
)
def test_what_makes_no_sense_for_chips_is_refused(text: str, said: str) -> None:
    """The columns are known once a snapshot is read; the message says what to write instead."""
    with pytest.raises(RequestError, match=said):
        ChipFilter(text).coarse(TABLE.schema)


@pytest.mark.parametrize("name", ["and", "or"])
def test_conditions_of_nothing_are_refused(name: str) -> None:
    """In JSON they can be written; whoever meant something else would get all chips."""
    nothing: dict[str, Any] = {"op": name, "args": []}
    for said in (nothing, {"op": "not", "args": [nothing]}):
        with pytest.raises(ValidationError, match="of nothing"):
            ChipFilter.model_validate(said)
