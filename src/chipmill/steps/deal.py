"""Deal the usable scenes of a snapshot to megabatches, and write which chips each has."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from chipmill.errors import RequestError
from chipmill.formats.plan import PLAN_SCENES, WRITING
from chipmill.model.box import middles
from chipmill.model.deal import deal_scenes
from chipmill.model.mix import mixed_scenes
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.usable import Usable, boxes_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deal:
    """The scenes of a plan, sorted by megabatch, collection and scene; arrays are (scenes,)."""

    scenes: pa.Table
    megabatch: NDArray[np.int32]
    group: NDArray[np.int32]
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    """Where the chips of each scene begin among the usable ones."""
    usable: Usable
    left_out: dict[str, int]

    def members(self) -> Iterator[slice]:
        """Give the scenes of one megabatch after the other."""
        stops = np.cumsum(np.bincount(self.megabatch)).tolist()
        return (slice(start, stop) for start, stop in pairwise([0, *stops]))


def deal_usable(request: PlanRequest, usable: Usable, *, megabatch: int) -> Deal:
    """Choose the scenes, deal them to megabatches and put them in order.

    A group is a collection with one set of bands of one size: its chips have one shape.

    Args:
        request: The strata and their mix, the seed and the epoch.
        usable: The chips that there are.
        megabatch: The most scenes of a megabatch.

    Raises:
        RequestError: No chip is usable, or the mix does not fit the strata.
    """
    left_out = dict(usable.left_out)
    chosen = usable.counts > 0
    if not chosen.any():
        raise RequestError(
            f"no chip of the snapshot is usable ({_words(left_out)}); allow more "
            "cloud, name other collections or ingest other scenes"
        )
    strata, names = numbered(usable.scenes.select([request.strata]))
    if request.mix:
        key = (request.seed, request.epoch)
        used = mixed_scenes(strata, usable.counts, names=names, mix=request.mix, key=key)
        left_out["mix"] = int(usable.counts[~used].sum())
        chosen &= used
    places = np.flatnonzero(chosen)
    scenes = usable.scenes.take(_array(places))
    group = numbered(scenes.select(["collection", "bands", "chip_bytes"]))[0]
    dealt = deal_scenes(
        # Group by group, and in each stratum by stratum: both are dealt evenly.
        group.astype(np.int64) * len(names) + strata[places],
        megabatch=megabatch,
        seed=request.seed,
        epoch=request.epoch,
    )
    rank = _ranked(scenes.append_column("megabatch", _array(dealt)))
    return Deal(
        scenes=scenes.take(_array(rank)),
        megabatch=dealt[rank],
        group=group[rank],
        counts=usable.counts[places][rank],
        starts=usable.starts[places][rank],
        usable=usable,
        left_out=left_out,
    )


def write_scenes(path: Path, planned: Deal) -> None:
    """Write the scenes with their chips, a megabatch at a time; memory holds one."""
    with parquet.ParquetWriter(path, PLAN_SCENES, **WRITING) as writer:
        for part in planned.members():
            table = _scenes(planned, part)
            writer.write_table(table, row_group_size=len(table))


def _scenes(planned: Deal, part: slice) -> pa.Table:
    """Gather the scenes of one megabatch."""
    counts, usable = planned.counts[part], planned.usable
    scenes = planned.scenes.slice(part.start, len(counts))
    offsets = np.concatenate(([0], np.cumsum(counts)))
    chips = np.arange(int(offsets[-1])) + np.repeat(planned.starts[part] - offsets[:-1], counts)
    lon, lat = middles(boxes_of(scenes)).astype(np.float32).T
    ends = _array(offsets.astype(np.int32))
    lists = [
        pa.ListArray.from_arrays(ends, _array(values[chips]))
        for values in (usable.row, usable.col, usable.cloud_fraction, usable.nodata_fraction)
    ]
    columns = [
        _array(planned.megabatch[part]),
        scenes["collection"],
        scenes["item"],
        _array(planned.group[part]),
        scenes["chip_bytes"],
        _array(counts.astype(np.int32)),
        _array(lon),
        _array(lat),
        *lists,
    ]
    return pa.Table.from_arrays(columns, schema=PLAN_SCENES)


def numbered(table: pa.Table) -> tuple[NDArray[np.int32], list[str]]:
    """Number the different rows of a table in the order of their texts; gives the texts too."""
    columns = [
        pc.binary_join(column, ",") if pa.types.is_list(column.type) else column.cast(pa.string())
        for column in table.columns
    ]
    text: Any = cast("Any", pc.binary_join_element_wise)(
        *columns, "\x1f", null_handling="replace", null_replacement=""
    )
    words = text.combine_chunks().dictionary_encode()
    names = words.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    numbers = np.empty(len(names), np.int32)
    numbers[order] = np.arange(len(names))
    return numbers[words.indices.to_numpy()], [names[place] for place in order]


def _ranked(scenes: pa.Table) -> NDArray[np.int64]:
    """Give the places of scenes, sorted by megabatch, collection and scene."""
    sort = cast("Any", pc).sort_indices
    keys = [(name, "ascending") for name in ("megabatch", "collection", "item")]
    return sort(scenes, sort_keys=keys).to_numpy().astype(np.int64)


def _array(values: NDArray[Any]) -> Any:  # noqa: ANN401
    """View an array as one of Arrow, whose stubs do not tell the kinds of arrays apart."""
    return pa.array(values)


def _words(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} left out for {reason}" for reason, count in left_out.items())
