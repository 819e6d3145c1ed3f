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
    ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
    buffers = [None, pa.py_buffer(cast("Any", ends)), pa.py_buffer(b"".join(values))]
    return cast("Any", pa.Array).from_buffers(kind, len(values), buffers)
