"""The terms of a filter as conditions of Arrow: columns compared with values of their kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc

from chipmill.errors import RequestError
from chipmill.model.filter_area import OPERATORS, is_area

Node = dict[str, Any]
"""A condition in CQL2 as JSON: `op` and `args`."""


class Leaf(Protocol):
    """Makes the condition of an area."""

    def __call__(self, node: Node, *, positive: bool) -> "pc.Expression":
        """Make it; `positive` is False where it stands under an odd number of NOTs."""
        ...


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": eq,
    "<>": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}
_TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_KNOWN = ("and", "or", "not", *_COMPARE, "in", "between", "like", "isNull", *OPERATORS)
_DAY = timedelta(days=1)
_BEYOND = 2.0**63
"""No whole number of a column is as large."""
_DATE_LENGTH = len("2023-01-01")


def translate(
    node: Node, schema: pa.Schema, *, short: Mapping[str, str], area: Leaf
) -> "pc.Expression":
    """Turn a filter into a condition of Arrow.

    Args:
        node: The filter.
        schema: The columns that there are.
        short: Other names of columns.
        area: What to make of the conditions on areas.

    Raises:
        RequestError: A column is not there, a value is not of its kind, or an operator is unknown.
    """
    return _Terms(schema=schema, short=short, area=area).of(node, positive=True)


def columns_of(node: Node) -> set[str]:
    """Name the columns of a filter, as they are written."""
    if "property" in node:
        return {str(node["property"])}
    return {name for part in arguments(node) for name in columns_of(part)}


def arguments(node: Node) -> list[Node]:
    """List the arguments of a condition that are conditions, columns or lists of them."""
    args = cast("list[object]", node.get("args", []))
    return [cast("Node", arg) for arg in args if isinstance(arg, dict)]


def constant(*, value: object) -> "pc.Expression":
    """Make an expression of a value."""
    make: Any = pc.scalar  # its stubs know fewer kinds
    return make(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """The columns that a filter is translated for."""

    schema: pa.Schema
    short: Mapping[str, str]
    area: Leaf

    def of(self, node: object, *, positive: bool) -> "pc.Expression":
        """Translate a condition."""
        said = _node(node)
        name, args = str(said.get("op")), cast("list[Any]", said.get("args", []))
        if name not in _KNOWN:
            raise RequestError(
                f"the filter has {_word(node)} where a condition should be; chipmill knows "
                f"{', '.join(_KNOWN)}"
            )
        if name in {"and", "or"}:
            parts = [self.of(part, positive=positive) for part in args]
            return _all(parts) if name == "and" else _any(parts)
        if name == "not":
            return ~self.of(args[0], positive=not positive)
        if is_area(said):
            denied = name == "s_disjoint"
            found = self.area(said, positive=positive != denied)
            return ~found if denied else found
        return self._term(name, args)

    def _term(self, name: str, args: list[Any]) -> "pc.Expression":
        """Translate a condition on one column."""
        if name in _TURNED and not _is_column(args[0]) and _is_column(args[1]):
            name, args = _TURNED[name], args[::-1]
        column, kind = self._column(args[0])
        if name == "isNull":
            return column.is_null()
        compare = _Column(field=column, kind=kind, name=args[0]["property"])
        if name == "between":
            return compare.as_(">=", args[1]) & compare.as_("<=", args[2])
        if name == "in":
            return _any([compare.as_("=", value) for value in args[1]])
        return compare.like(args[1]) if name == "like" else compare.as_(name, args[1])

    def _column(self, node: object) -> "tuple[pc.Expression, pa.DataType]":
        if not _is_column(node):
            raise RequestError(
                f"the filter compares {_word(node)} with a value; on one side must be a column"
            )
        said = str(cast("Node", node)["property"])
        name = self.short.get(said, said)
        if name not in self.schema.names:
            raise RequestError(
                f"the filter asks for the column {said!r}, which chips do not have; they have "
                f"{', '.join([*self.short, *self.schema.names])}"
            )
        kind = cast("Any", self.schema.field(name)).type
        return pc.field(name), kind.value_type if pa.types.is_dictionary(kind) else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column that is compared with values."""

    field: "pc.Expression"
    kind: pa.DataType
    name: str

    def as_(self, name: str, value: object) -> "pc.Expression":
        """Compare with one value of the column's kind."""
        if pa.types.is_timestamp(self.kind):
            return self._time(name, value)
        if pa.types.is_string(self.kind) and isinstance(value, str):
            return _COMPARE[name](self.field, constant(value=value))
        if _is_number(self.kind) and isinstance(value, float):
            return _COMPARE[name](self.field, constant(value=self._number(value)))
        raise self._unlike(value)

    def like(self, value: object) -> "pc.Expression":
        """Compare a text with a pattern: % is any text, _ any character."""
        if not pa.types.is_string(self.kind) or not isinstance(value, str):
            raise self._unlike(value)
        text = self.field.cast(pa.string())
        return cast("Any", pc.match_like)(text, value)

    def _number(self, value: float) -> "pa.Scalar[Any]":
        """Round a number as the column's are: a chip of 0.1 has the float32 next to 0.1."""
        if pa.types.is_floating(self.kind):
            return pa.scalar(value, self.kind)
        whole = abs(value) < _BEYOND and value == int(value)
        return pa.scalar(int(value), pa.int64()) if whole else pa.scalar(value)

    def _time(self, name: str, value: object) -> "pc.Expression":
        """Compare with a time, or with a day from its beginning to its end in UTC."""
        start, end = self._span(value)
        if name in {"=", "<>"} and end > start:
            inside = (self.field >= self._at(start)) & (self.field < self._at(end))
            return inside if name == "=" else ~inside
        if name == "<=" and end > start:
            return self.field < self._at(end)
        if name == ">" and end > start:
            return self.field >= self._at(end)
        return _COMPARE[name](self.field, self._at(start))

    def _span(self, value: object) -> tuple[datetime, datetime]:
        said = _node(value)
        text = said.get("date") or said.get("timestamp") or (value if not said else None)
        try:
            start = datetime.fromisoformat(cast("str", text))
        except (TypeError, ValueError):
            raise self._unlike(value) from None
        start = start if start.tzinfo else start.replace(tzinfo=UTC)
        if len(str(text)) != _DATE_LENGTH:
            return start, start
        return start, start + min(_DAY, datetime.max.replace(tzinfo=UTC) - start)

    def _at(self, when: datetime) -> "pc.Expression":
        return constant(value=pa.scalar(when, self.kind))

    def _unlike(self, value: object) -> RequestError:
        if pa.types.is_timestamp(self.kind):
            kind, hint = "times", "DATE('2023-01-01')"
        elif pa.types.is_string(self.kind):
            kind, hint = "texts", "a text in single quotes: 'naip'"
        elif _is_number(self.kind):
            kind, hint = "numbers", "a number: 0.1"
        else:
            kind, hint = "no single values", "conditions on the other columns, or s_intersects"
        return RequestError(
            f"the filter compares the column {self.name!r}, which has {kind}, with {_word(value)}; "
            f"write {hint}"
        )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _all(parts: "list[pc.Expression]") -> "pc.Expression":
    return reduce(lambda one, other: one & other, parts)


def _any(parts: "list[pc.Expression]") -> "pc.Expression":
    return reduce(lambda one, other: one | other, parts)


def _node(value: object) -> Node:
    """Give a node as it is, and an empty one for what is none."""
    return cast("Node", value) if isinstance(value, dict) else {}


def _is_column(node: object) -> bool:
    return "property" in _node(node)


def _word(node: object) -> str:
    """Show a part of a filter in a message."""
    said = _node(node)
    if "property" in said:
        return f"the name {said['property']}"
    if "op" in said:
        return f"the operator {said['op']}"
    return repr(next(iter(said.values()), node))[:60]
