"""Which chips are wanted, said in CQL2: the same in Python, on the command line and in a form.

CQL2 is the filter language of STAC APIs (OGC 21-065r2). A filter is a text such as

    cloud <= 0.1 AND collection IN ('naip') AND datetime >= DATE('2023-01-01')
    AND S_INTERSECTS(geometry, BBOX(5, 47, 15, 55))

over the columns of the chip index. It says nothing of what the chips are wanted for.
"""

import json
import re
from typing import Any, cast

import cql2
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, RootModel, field_validator, model_validator

from chipmill.model.filter_area import AreaTest, area_of, is_area
from chipmill.model.filter_terms import (
    Leaf,
    Node,
    arguments,
    columns_of,
    constant,
    translate,
)

SHORT = {"cloud": "cloud_fraction", "nodata": "nodata_fraction", "date": "datetime"}
"""Names that stand for columns of the chip index."""

_DEEPEST = 50
"""Most brackets within brackets, and most NOTs: the parser's own stack is not checked by it."""
_PLACE = re.compile(r"--> (\d+):(\d+)")
_QUOTED = re.compile(r"'(?:[^']|'')*'")


class ChipFilter(RootModel[str]):
    """A condition on chips; the empty one holds for all."""

    model_config = ConfigDict(frozen=True)

    root: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        """Take CQL2 as JSON as well, as STAC clients write it."""
        return _as_text(cast("dict[str, Any]", value)) if isinstance(value, dict) else value

    @field_validator("root")
    @classmethod
    def _is_cql2(cls, value: str) -> str:
        if value.strip():
            _parsed(value)
        return value.strip()

    def __bool__(self) -> bool:
        """Say whether it asks for anything."""
        return bool(self.root)

    @property
    def canonical(self) -> str:
        """The same for filters that differ only in how they are written."""
        return json.dumps(_parsed(self.root), sort_keys=True) if self.root else ""

    @property
    def exact_columns(self) -> list[str]:
        """Columns that `exact` needs in its table, sorted; none unless an area is asked for."""
        if not self.root or not any(map(is_area, _leaves(_parsed(self.root)))):
            return []
        named = {SHORT.get(name, name) for name in columns_of(_parsed(self.root))}
        return sorted(named | {"bbox", "geometry"})

    def coarse(self, schema: pa.Schema) -> "pc.Expression | None":
        """Make a condition that a reader of Parquet skips row groups by; None for the empty filter.

        It holds for every chip for which the filter holds. Without an area it holds for no other;
        with one, `exact` tells what is left.

        Args:
            schema: Columns of the chip index.

        Raises:
            RequestError: The filter names a column that is not there, compares what cannot be
                compared, or uses what chipmill does not know.
        """

        def leaf(node: Node, *, positive: bool) -> "pc.Expression":
            # Where the filter says NOT, a box that touches proves nothing.
            return area_of(node).touches() if positive else constant(value=False)

        return self._translated(schema, leaf)

    def exact(self, table: pa.Table) -> pa.Table:
        """Keep the rows for which the filter holds.

        A chip intersects an area if its polygon touches it anywhere, as in a STAC search;
        `s_within` asks for the whole chip.

        Args:
            table: Rows of the chip index for which `coarse` holds, with `exact_columns`.
        """
        if not self.exact_columns:
            return table
        test, marked = AreaTest(table), table

        def leaf(node: Node, *, positive: bool) -> "pc.Expression":
            nonlocal marked
            del positive  # exact either way
            name = f"area {marked.num_columns}"
            marked = marked.append_column(name, pa.array(test.holds(area_of(node))))
            return pc.field(name)

        condition = self._translated(table.schema, leaf)
        return marked.filter(cast("pc.Expression", condition)).select(table.column_names)

    def _translated(self, schema: pa.Schema, leaf: Leaf) -> "pc.Expression | None":
        if not self.root:
            return None
        return translate(_parsed(self.root), schema, short=SHORT, area=leaf)


def _parsed(text: str) -> Node:
    """Read CQL2.

    Raises:
        ValueError: It is none; the message names the place.
    """
    bare = _QUOTED.sub("''", text)
    depth = deepest = 0
    for sign in re.findall(r"[()]", bare):
        depth += 1 if sign == "(" else -1
        deepest = max(deepest, depth)
    if max(deepest, len(re.findall(r"\bnot\b", bare, re.IGNORECASE))) > _DEEPEST:
        raise ValueError(
            f"the filter has more than {_DEEPEST} brackets in each other, or NOTs; write it flatter"
        )
    try:
        return cql2.parse_text(text).to_json()
    except cql2.ParseError as err:
        raise ValueError(_sentence(text, str(err))) from None


def _sentence(text: str, said: str) -> str:
    """Say where a text stops being CQL2."""
    found = _PLACE.search(said)
    line, place = (int(found[1]), int(found[2])) if found else (1, 1)
    lines = text.splitlines() or [""]
    rest = lines[min(line, len(lines)) - 1][place - 1 :].strip()
    where = f"character {place}" + (f" of line {line}" if len(lines) > 1 else "")
    what = f"{rest[:30]!r} does not fit there" if rest else "there it ends too early"
    return (
        f"the filter is not CQL2 at {where}: {what}; "
        "write it like cloud <= 0.1 AND collection IN ('naip')"
    )


def _as_text(value: dict[str, Any]) -> str:
    """Write CQL2 that came as JSON as text.

    Raises:
        ValueError: It is none.
    """
    try:
        nothing = _is_of_nothing(value)
        text = cql2.parse_json(json.dumps(value)).to_text()
    except (cql2.ParseError, TypeError, RecursionError):
        raise ValueError(
            "the filter is not CQL2 in JSON; give an object with op and args"
        ) from None
    if nothing:
        raise ValueError("the filter has an `and` or an `or` of nothing; give it conditions")
    return text


def _is_of_nothing(node: Node) -> bool:
    """Tell whether conditions are joined of which there are none; the parser drops these."""
    if node.get("op") in {"and", "or"} and not node.get("args"):
        return True
    return any(_is_of_nothing(part) for part in arguments(node))


def _leaves(node: Node) -> list[Node]:
    """List the conditions of a filter that are joined by AND, OR and NOT."""
    if node.get("op") in {"and", "or", "not"}:
        return [leaf for part in arguments(node) for leaf in _leaves(part)]
    return [node]
