"""Read the usable chips of a snapshot: the narrow columns only, piece by piece."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.formats.chip_index import SIDES
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.io.tables import read_columns, scan, schema_of
from chipmill.model.plan_request import PlanRequest
from chipmill.model.split import SpatialSplit

# The geometries are nine tenths of the bytes: they are read where a filter asks for an area.
_NARROW = ["scene", "row", "col", "cloud_fraction", "nodata_fraction"]
_SCENES = ["scene", "collection", "item", "bands", "chip_bytes", "bbox"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Usable:
    """The usable chips of a snapshot, each scene's together and row-major."""

    scenes: pa.Table
    """All scenes of the snapshot by name, in whichever files they are."""
    counts: NDArray[np.int64]
    """Usable chips of each scene, shape (scenes,)."""
    starts: NDArray[np.int64]
    """Where the chips of each scene begin, shape (scenes,)."""
    row: NDArray[np.uint16]
    """Shape (chips,), as the next three."""
    col: NDArray[np.uint16]
    cloud_fraction: NDArray[np.float32]
    nodata_fraction: NDArray[np.float32]
    left_out: dict[str, int]
    """The other chips, each under its first reason."""


def read_usable(request: PlanRequest, archive: Store, snapshot: Snapshot) -> Usable:
    """Read which chips a request finds usable.

    Memory is 16 bytes for each usable chip, and what some pieces of the tables take.

    Raises:
        RequestError: The filter or the strata name a column that is not there.
    """
    scenes, chips = _scenes(request, archive, snapshot), _Chips.room(snapshot.chips)
    judge, reasons = _judge(request, scenes), _reasons(request)
    judged = np.zeros(len(reasons) + 1, np.int64)
    for piece in _pieces(request, archive, snapshot, scenes):
        verdict = judge.of(piece)
        judged += np.bincount(verdict, minlength=len(judged))
        chips.add(piece, verdict == 0)
    left_out = dict(zip(reasons, judged[1:].tolist(), strict=True))
    if request.filter:
        left_out = {"filter": snapshot.chips - int(judged.sum()), **left_out}
    return chips.sorted().usable(scenes, left_out)


def boxes_of(table: pa.Table) -> NDArray[np.float64]:
    """Give the boxes of rows, shape (rows, 4): west, south, east, north."""
    flat = table.select(["bbox"]).flatten()
    return np.stack([_numpy(flat, f"bbox.{side}") for side in SIDES], axis=1).astype(np.float64)


def _reasons(request: PlanRequest) -> list[str]:
    """List why a chip that passes the filter may be left out, in the order of asking."""
    split = ["other side of the split", "border of the split"] if request.split else []
    return ["other collection", *split, "nodata", "cloud"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """Some chips that pass the filter."""

    number: NDArray[np.int32]
    """Scene of each, shape (chips,)."""
    table: pa.Table


def _scenes(request: PlanRequest, archive: Store, snapshot: Snapshot) -> pa.Table:
    names = schema_of(archive, snapshot.scene_files[0]).names
    known = [name for name in names if name != "bbox"]
    if request.strata not in known:
        raise RequestError(
            f"strata cannot be made of {request.strata!r}, which scenes do not have; "
            f"they have {', '.join(known)}"
        )
    columns = [*dict.fromkeys([*_SCENES, request.strata])]
    return read_columns(archive, snapshot.scene_files, columns)


def _pieces(
    request: PlanRequest, archive: Store, snapshot: Snapshot, scenes: pa.Table
) -> Iterator[_Piece]:
    """Read the chips that pass the filter."""
    chosen = request.filter
    boxes = ["bbox"] if request.split else []
    columns = [*dict.fromkeys([*_NARROW, *boxes, *chosen.exact_columns])]
    numbers = _Numbers(scenes)
    for key in snapshot.chip_files:
        where = chosen.coarse(schema_of(archive, key)) if chosen else None
        for table in scan(archive, key, columns, where=where):
            passed = chosen.exact(table)
            yield _Piece(number=numbers.of(passed["scene"]), table=passed)


class _Numbers:
    """The place of each scene in the table of scenes."""

    def __init__(self, scenes: pa.Table) -> None:
        """Remember all names."""
        names = cast("list[str]", scenes["scene"].to_pylist())
        self._places = {name: place for place, name in enumerate(names)}

    def of(self, column: "pa.ChunkedArray[Any]") -> NDArray[np.int32]:
        """Give the place of each row's scene, shape (rows,)."""
        words = cast("pa.DictionaryArray[Any, Any]", column.combine_chunks())
        names = cast("list[str]", words.dictionary.to_pylist())
        places = [self._places[name] for name in names]
        return np.array(places, np.int32)[words.indices.to_numpy()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judge:
    """Says of chips why they are not usable; the arrays have the shape (scenes,)."""

    request: PlanRequest
    other: NDArray[np.bool_]
    """The scene is of a collection that is not asked for."""
    here: NDArray[np.bool_]
    """It is on the side of the split that is planned."""
    whole: NDArray[np.bool_]
    """All of its chips are."""

    def of(self, piece: _Piece) -> NDArray[np.int64]:
        """Number the first reason of each chip as `_reasons` does, from 1; 0 is usable."""
        request, number = self.request, piece.number
        tests = [self.other[number]]
        if request.split:
            tests += [~self.here[number], self._border(request.split, piece)]
        tests += [
            _numpy(piece.table, "nodata_fraction") > np.float32(request.max_nodata),
            _numpy(piece.table, "cloud_fraction") > np.float32(request.max_cloud),
        ]
        return np.select(tests, [*range(1, len(tests) + 1)], 0)

    def _border(self, split: SpatialSplit, piece: _Piece) -> NDArray[np.bool_]:
        """Tell which chips come too near to the other side."""
        near = np.zeros(len(piece.number), np.bool_)
        asked = np.flatnonzero(self.here[piece.number] & ~self.whole[piece.number])
        near[asked] = ~split.inside(boxes_of(piece.table)[asked])
        return near


def _judge(request: PlanRequest, scenes: pa.Table) -> _Judge:
    other, here = np.zeros((2, len(scenes)), np.bool_)
    whole = here
    if request.collections:
        wanted = pa.array(request.collections, pa.string())
        other = np.asarray(pc.is_in(scenes["collection"], wanted)) ^ True
    if request.split:
        boxes = boxes_of(scenes)
        here, whole = request.split.middles(boxes), request.split.inside(boxes)
    return _Judge(request=request, other=other, here=here, whole=whole)


@dataclass(slots=True, kw_only=True, eq=False)
class _Chips:
    """Room for all chips, filled piece by piece; what is not filled takes no memory."""

    columns: dict[str, NDArray[Any]]
    filled: int = 0

    @classmethod
    def room(cls, chips: int) -> "_Chips":
        """Make room."""
        kinds = {"number": np.int32, "row": np.uint16, "col": np.uint16}
        shares = dict.fromkeys(("cloud_fraction", "nodata_fraction"), np.float32)
        return cls(columns={name: np.empty(chips, kind) for name, kind in (kinds | shares).items()})

    def add(self, piece: _Piece, usable: NDArray[np.bool_]) -> None:
        """Keep the usable chips of a piece."""
        place = slice(self.filled, self.filled + int(np.count_nonzero(usable)))
        self.columns["number"][place] = piece.number[usable]
        for name in _NARROW[1:]:
            self.columns[name][place] = _numpy(piece.table, name)[usable]
        self.filled = place.stop

    def sorted(self) -> "_Chips":
        """Put scenes together and their chips in order, where the files have not."""
        found = {name: values[: self.filled] for name, values in self.columns.items()}
        places = (found["number"].astype(np.uint64) << np.uint64(32)) | (
            found["row"].astype(np.uint64) << np.uint64(16) | found["col"]
        )
        if len(places) > 1 and not (places[1:] > places[:-1]).all():
            order = np.argsort(places, kind="stable")
            found = {name: values[order] for name, values in found.items()}
        return _Chips(columns=found, filled=self.filled)

    def usable(self, scenes: pa.Table, left_out: dict[str, int]) -> Usable:
        """Find the chips of each scene."""
        columns = dict(self.columns)
        counts = np.bincount(columns.pop("number"), minlength=len(scenes))
        starts = np.cumsum(counts) - counts
        # Compaction moves scenes to other files, and a plan must not feel it.
        names = cast("list[str]", scenes["scene"].to_pylist())
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        return Usable(
            scenes=scenes.take(order),
            counts=counts[order],
            starts=starts[order],
            left_out=left_out,
            **columns,
        )


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    return table[name].to_numpy()
