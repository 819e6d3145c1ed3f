"""Write the chip pack of one scene of a plan onto fast storage, or its files and what they hold."""

import logging
from dataclasses import dataclass
from functools import partial
from io import RawIOBase
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from chipmill.errors import DamagedError, PackError, SceneError
from chipmill.formats import layout
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack import (
    PackHeader,
    encode_pixels,
    encoding_of,
    pack_schema,
    read_header,
    split_bytes,
    write_options,
)
from chipmill.formats.plan import PlannedScene
from chipmill.formats.statistics import DataStatistics
from chipmill.io.fast import Folder, Hashing
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedScene
from chipmill.model.footprint import lonlat_centres
from chipmill.model.grid import ChipGrid
from chipmill.model.manner import DEFAULT, Manner
from chipmill.steps.cut import Cut, Workbench, opened_cut, pack_header
from chipmill.steps.normalize import normalized
from chipmill.steps.verbatim import copy_files, load_archived

log = logging.getLogger(__name__)


def write_pack(
    planned: PlannedScene,
    *,
    chip_size: int,
    archive: Store,
    folder: Folder,
    fence: int,
    statistics: DataStatistics | None = None,
    manner: Manner = DEFAULT,
    bench: Workbench | None = None,
) -> tuple[ManifestPack, PackHeader]:
    """Write the pack of one scene, or find it whole from an earlier try that wanted the same.

    Args:
        planned: The scene and its chips.
        chip_size: Edge of a chip in pixels.
        archive: Where the scene is.
        folder: The megabatch's on fast storage.
        fence: Number of the lease.
        statistics: Of the plan's snapshot; None: the sensor's table says mean and deviation.
        manner: How it is compressed.
        bench: Decodes; None: one of its own.

    Raises:
        SceneError: A file of the scene is damaged, twice, or the files do not align.
        TransientError: Fast storage is full, or the archive does not answer.
    """
    scene = load_archived(planned, archive)
    header = pack_header(scene, ChipGrid(grid=scene.finest.file.grid, size=chip_size))
    work = partial(
        _write,
        scene,
        normalized(header, statistics),
        planned=planned,
        archive=archive,
        folder=folder,
        fence=fence,
        manner=manner,
        bench=bench,
    )
    try:
        return work()
    except DamagedError as err:
        log.warning("%s; it is read again", err)
    try:
        return work()
    except DamagedError as err:
        raise SceneError(f"{err} or drop it: it came wrong twice") from err


def _write(
    scene: ArchivedScene,
    header: PackHeader,
    *,
    planned: PlannedScene,
    archive: Store,
    folder: Folder,
    fence: int,
    manner: Manner,
    bench: Workbench | None,
) -> tuple[ManifestPack, PackHeader]:
    chips = ChipGrid(grid=scene.finest.file.grid, size=header.chip_size)
    if manner.form == "scenes":
        header = copy_files(
            scene, header, archive=archive, folder=folder, fence=fence, manner=manner
        )
    else:
        coding = {"codec": manner.codec, "encoding": encoding_of(manner.codec)}
        header = header.model_copy(update=coding)
    listed = _Rows(planned, lonlat_centres(chips)[planned.row, planned.col])
    name = layout.pack_file(planned.collection, planned.scene)
    if _is_whole(folder, name, header):
        written = folder.found(name)
    elif header.files:
        written = folder.write(name, partial(_list, header=header, rows=listed), fence=fence)
    else:
        rows, cols = planned.row, planned.col
        with opened_cut(scene, header, archive=archive, rows=rows, cols=cols, bench=bench) as cut:
            written = folder.write(name, partial(_fill, cut=cut, rows=listed), fence=fence)
    pack = ManifestPack(
        file=name,
        collection=planned.collection,
        scene=planned.scene,
        group=planned.group,
        chips=len(planned.row),
        size=written.size,
        checksum=written.checksum,
    )
    return pack, header


def _is_whole(folder: Folder, name: str, header: PackHeader) -> bool:
    """Tell whether an earlier try left this very pack: whole, and with the same header."""
    if folder.size(name) is None:
        return False
    try:
        with ipc.open_file(str(folder.path / name)) as reader:
            found = read_header(reader.schema, where=name)
            return found.model_copy(update={"proof": header.proof}) == header
    except (OSError, pa.ArrowException, PackError):
        return False


def _fill(file: Hashing, *, cut: Cut, rows: "_Rows") -> None:
    """Write the chips: a record batch for each row of them, or for each one where compressed."""
    header = cut.header
    schema, options = pack_schema(header), write_options(header.codec)
    with ipc.new_file(cast("RawIOBase", file), schema, options=options) as writer:
        for part, records in cut.stripes(reuse=True):
            columns = [*rows.columns(part), encode_pixels(_encoded(records, header))]
            batch = pa.RecordBatch.from_arrays(columns, schema=schema)
            step = len(records) if header.codec == "none" else 1
            for first in range(0, len(records), step):
                writer.write_batch(batch.slice(first, step))


def _list(file: Hashing, *, header: PackHeader, rows: "_Rows") -> None:
    """Write the chips without their pixels, which lie in the files of the scene."""
    schema = pack_schema(header)
    with ipc.new_file(cast("RawIOBase", file), schema) as writer:
        columns = rows.columns(slice(None))
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a pack says of each chip besides its pixels."""

    planned: PlannedScene
    centres: NDArray[np.float64]
    """Longitude and latitude, shape (chips, 2)."""

    def columns(self, part: slice) -> "list[pa.Array[Any]]":
        """Give the columns of some chips, in the order of the schema."""
        planned = self.planned
        places = zip(planned.row[part].tolist(), planned.col[part].tolist(), strict=True)
        return [
            pa.array([f"{planned.collection}/{planned.scene}/{row}-{col}" for row, col in places]),
            pa.array(planned.row[part]),
            pa.array(planned.col[part]),
            pa.array(np.ascontiguousarray(self.centres[part, 1])),
            pa.array(np.ascontiguousarray(self.centres[part, 0])),
            pa.array(planned.cloud_fraction[part]),
            pa.array(planned.nodata_fraction[part]),
        ]


def _encoded(records: NDArray[np.uint8], header: PackHeader) -> NDArray[np.uint8]:
    return records if header.encoding == "plain" else split_bytes(records, header.bands)
