"""The table of assets of a snapshot: the scene, and the fields of its record of a copied asset."""

from collections.abc import Iterable
from types import NoneType
from typing import Any, get_args

import pyarrow as pa
from pydantic import AwareDatetime

from chipmill.formats.provenance import AssetRecord

_ARROW: dict[Any, "pa.DataType"] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    AwareDatetime: pa.timestamp("us", tz="UTC"),
}

_LEFT_OUT = {"xxh3"}
"""Who looks for the origin of bytes has SHA-256."""


def _column(name: str, said: Any) -> "pa.Field[Any]":  # noqa: ANN401  an annotation has no type
    kinds = [kind for kind in get_args(said) or (said,) if kind is not NoneType]
    return pa.field(name, _ARROW[kinds[0]])


ASSETS = pa.schema(
    [
        pa.field("scene", pa.string(), nullable=False),
        *(
            _column(name, field.annotation)
            for name, field in AssetRecord.model_fields.items()
            if name not in _LEFT_OUT
        ),
    ]
)


def asset_table(scene: str, records: Iterable[AssetRecord]) -> pa.Table:
    """Give one row for each copied asset of a scene."""
    rows = [{"scene": scene, **asset.model_dump()} for asset in records]
    return pa.Table.from_pylist(rows, schema=ASSETS)
