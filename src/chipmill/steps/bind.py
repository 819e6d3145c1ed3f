"""bind: scenes into sheaves, along a curve over the earth.

Scenes that are near on earth lie near in the files, so that a box reads few row groups; a scene is
never divided.
"""

import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from chipmill.formats import layout
from chipmill.formats.asset_table import ASSETS
from chipmill.formats.chip_index import CHIPS, SCENES, WRITING, geo_metadata
from chipmill.formats.snapshot import Snapshot, snapshot_name
from chipmill.io.store import PART_BYTES, Store
from chipmill.model.curve import along_curve
from chipmill.steps.sheaf import AT_ONCE, KNOWN, Piece, Sheaf, weight

ROWS_PER_GROUP = 64_000
"""Rows of a row group, about."""
ROWS_PER_SHEAF = 2**20
"""Rows of a sheaf, about: 30 MB, which is what is written again when one of its scenes changes."""
_DECODED_AT_ONCE = 4
"""Scenes that are decoded side by side; their bytes are on the disk already."""
_FULL_CIRCLE, _HALF = 360, 180


def bind_snapshot(
    archive: Store,
    newest: Snapshot | None,
    whole: Sequence[Sheaf],
    pieces: Sequence[Piece],
    *,
    chip_size: int,
) -> Snapshot:
    """Write scenes into as few sheaves as hold them; give the snapshot that they and others make.

    Args:
        archive: Where the files go.
        newest: The snapshot that this one follows.
        whole: Sheaves that are in this snapshot as they are.
        pieces: The other scenes; each is read once.
        chip_size: Edge of a chip in pixels.
    """
    digests = [digest for sheaf in whole for digest in sheaf.column("digest")]
    digests += [piece.digest for piece in pieces]
    name = snapshot_name(chip_size, digests)
    bound = [*whole, *_bound(archive, name, pieces)]
    return Snapshot(
        snapshot=name,
        number=newest.number + 1 if newest else 1,
        chip_size=chip_size,
        chips=sum(sheaf.size for sheaf in bound),
        scenes=len(digests),
        chip_files=tuple(sheaf.chips for sheaf in bound),
        scene_files=tuple(sheaf.scenes for sheaf in bound),
        provenance_files=tuple(sheaf.provenance for sheaf in bound),
        created=datetime.now(UTC),
    )


def _bound(archive: Store, name: str, pieces: Sequence[Piece]) -> Iterator[Sheaf]:
    places = _places(pieces)
    order = sorted(range(len(pieces)), key=lambda n: (places[n], pieces[n].scene))
    rows = sum(weight(piece.size) for piece in pieces)
    alike = -(-rows // max(1, -(-rows // ROWS_PER_SHEAF)))
    for part in _cut((pieces[n] for n in order), alike):
        yield _bind(archive, name, part)


def _places(pieces: Sequence[Piece]) -> list[int]:
    """Give the place of the middle of each scene on the curve."""
    west, south, east, north = np.array([piece.box for piece in pieces]).reshape(-1, 4).T
    lon = (west + east + np.where(west > east, _FULL_CIRCLE, 0)) / 2
    lon = np.where(lon > _HALF, lon - _FULL_CIRCLE, lon)
    return along_curve(lon, (south + north) / 2).tolist()


def _cut(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Divide scenes into runs of `size` chips or a little more; small scenes count for more."""
    part: list[Piece] = []
    rows = 0
    for piece in pieces:
        part.append(piece)
        rows += weight(piece.size)
        if rows >= size:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _bind(archive: Store, name: str, pieces: list[Piece]) -> Sheaf:
    # A file that nobody writes a second time: what garbage collection takes for old, stays old.
    file = secrets.token_hex(16)
    chips, scenes, provenance = (
        layout.snapshot_file_key(name, table, file) for table in ("chips", "scenes", "provenance")
    )
    with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
        path = Path(folder, "chips.parquet")
        rows = _write_chips(path, pieces)
        with path.open("rb") as written:
            archive.write(chips, iter(lambda: written.read(PART_BYTES), b""))
    table = pa.Table.from_pylist(rows, schema=SCENES)
    archive.put(scenes, _parquet(table))
    archive.put(provenance, _parquet(_assets(pieces, archive.at_once(AT_ONCE))))
    known = table.select(list(KNOWN))
    return Sheaf(chips=chips, scenes=scenes, provenance=provenance, known=known)


def _write_chips(path: Path, pieces: list[Piece]) -> list[dict[str, Any]]:
    """Write the chips of scenes; gives the rows of the scenes."""
    groups = list(_cut(pieces, ROWS_PER_GROUP))
    # The names in a row group are those of a place, not of a letter: a filter tells which they are.
    filters = {"scene": {"ndv": max(len(group) for group in groups), "fpp": 0.01}}
    schema = CHIPS.with_metadata({b"geo": geo_metadata()})
    scenes: list[dict[str, Any]] = []
    with (
        parquet.ParquetWriter(path, schema, bloom_filter_options=filters, **WRITING) as writer,
        ThreadPoolExecutor(_DECODED_AT_ONCE) as pool,
    ):
        for group in groups:
            read = list(pool.map(Piece.read, group))
            scenes += [scene for scene, _ in read]
            tables = [chips.replace_schema_metadata(schema.metadata) for _, chips in read]
            rows = pa.concat_tables(tables).unify_dictionaries()
            writer.write_table(rows, row_group_size=len(rows))
    return scenes


def _assets(pieces: list[Piece], at_once: int) -> pa.Table:
    with ThreadPoolExecutor(at_once) as pool:
        tables = list(pool.map(Piece.read_assets, pieces))
    return pa.concat_tables([ASSETS.empty_table(), *tables], promote_options="default")


def _parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()
