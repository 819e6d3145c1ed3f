"""Where bytes of chips go, and in whose memory they lie."""

import gc
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from numpy.typing import NDArray

from chipmill.formats.pack import PackBand, band_view, lay_out
from chipmill.train import Batch, ChipDataset
from chipmill.train.memory import ReusedMemory
from chipmill.train.resize import to_finest
from chipmill.train.route import Desk, find_route

PLAN = "0123456789abcdef"
SIZE = 8
kinds = st.tuples(
    st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    st.sampled_from([(8, 8), (4, 4), (2, 2), (3, 5), (1, 1)]),
)


def filled(bands: list[PackBand], dtype: str, resize: str, record: NDArray[np.uint8]) -> object:
    """Read a chip by its route, in the parts that the route asks for."""
    route = find_route(bands, size=SIZE, dtype=np.dtype(dtype), resize=resize)  # pyright: ignore[reportArgumentType]
    out = np.empty((len(bands), SIZE, SIZE), dtype)
    desk = Desk(route, np.empty(route.scratch, np.uint8))
    at = route.start
    for part in desk.parts(out):
        part[:] = record[at : at + len(part)]
        at += len(part)
    desk.spread(out)
    return out


@given(
    described=st.lists(kinds, min_size=1, max_size=7),
    resize=st.sampled_from(["nearest", "bilinear"]),
    data=st.data(),
)
def test_every_band_reaches_its_place(
    described: list[tuple[str, tuple[int, int]]], resize: str, data: st.DataObject
) -> None:
    """Any bands in any order, some twice: each is that band of the pack, on the finest grid."""
    bands = lay_out(
        [
            PackBand(name=str(n), gsd=10, dtype=dtype, shape=shape, start=0)  # pyright: ignore[reportArgumentType]
            for n, (dtype, shape) in enumerate(described)
        ]
    )
    record = np.arange(sum(band.size for band in bands), dtype=np.uint8) % 61
    chosen = data.draw(st.lists(st.sampled_from(bands), min_size=1, max_size=9))
    dtype = data.draw(
        st.sampled_from([np.result_type(*(band.dtype for band in chosen)).name, "float64"])
    )
    expected = [
        to_finest(band_view(record[np.newaxis], band)[0], size=SIZE, resize=resize)  # pyright: ignore[reportArgumentType]
        for band in chosen
    ]
    np.testing.assert_array_equal(filled(chosen, dtype, resize, record), np.stack(expected))


def test_memory_is_used_again_once_nobody_has_it(tmp_path: Path) -> None:
    """Who keeps a part of a batch keeps its pixels; who lets go gives the room to the next."""
    memory = ReusedMemory()
    first = memory.empty((2, 3), np.dtype("uint16"))
    place = first.ctypes.data
    part = first[1:, ::2]
    part[...] = 7
    del first
    gc.collect()
    other = memory.empty((2, 3), np.dtype("uint16"))
    assert other.ctypes.data != place
    other[...] = 9
    assert (part == 7).all()
    del part
    gc.collect()
    assert memory.empty((4,), np.dtype("uint8")).ctypes.data == place


def test_batches_that_are_kept_stay_as_they_were(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    """A loop may collect batches: reading on never changes one that somebody still has."""
    root = build(tmp_path, [[(0, 9), (0, 8), (0, 7)]], minibatch=2)
    dataset = ChipDataset(
        root / "archive", plan=PLAN, fast=root / "fast", as_torch=False, wait_seconds=0
    )
    kept: list[tuple[Batch, NDArray[np.generic]]] = []
    for batch in dataset:
        assert isinstance(batch, Batch)
        kept.append((batch, batch.pixels.copy()))
    assert len(kept) > 8
    for batch, pixels in kept:
        np.testing.assert_array_equal(batch.pixels, pixels)
