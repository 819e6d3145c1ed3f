"""Columns of Arrow out of arrays and texts.

`pa.array` would do, but it loads pandas where that is installed: 50 MB, and time at each start.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def word_column(value: str | None, count: int) -> "pa.Array[Any]":
    """Repeat a word of a scene as a column."""
    codes = pa.nulls(count, pa.int32()) if value is None else numbers(np.zeros(count, np.int32))
    words = texts([] if value is None else [value.encode()], pa.string())
    return cast("pa.Array[Any]", pa.DictionaryArray.from_arrays(codes, words))


def numbers(values: NDArray[Any], kind: "pa.DataType | None" = None) -> "pa.Array[Any]":
    """View numbers as a column, by choice of another kind with as many bits."""
    data = pa.py_buffer(cast("Any", np.ascontiguousarray(values)))
    kind = kind or pa.from_numpy_dtype(values.dtype)
    return cast("Any", pa.Array).from_buffers(kind, len(values), [None, data])


def texts(values: Sequence[bytes], kind: "pa.DataType") -> "pa.Array[Any]":
    """Make a column of texts or bytes."""
    return back_to_back(b"".join(values), np.cumsum([0, *map(len, values)]), kind)


def back_to_back(
    data: bytes | NDArray[np.uint8], ends: NDArray[np.int64], kind: "pa.DataType"
) -> "pa.Array[Any]":
    """View texts or bytes, one behind the other, as a column.

    Args:
        data: All of them.
        ends: Shape (values + 1,): where the first begins, and where each ends.
        kind: What they are, texts or bytes.
    """
    buffers = [None, *(pa.py_buffer(cast("Any", each)) for each in (ends.astype(np.int32), data))]
    return cast("Any", pa.Array).from_buffers(kind, len(ends) - 1, buffers)
