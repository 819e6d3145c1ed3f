"""merge: all parts of the index into one snapshot, named by its content."""

import logging
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from chipmill.errors import AlreadyThereError, MissingError, RequestError
from chipmill.formats import layout
from chipmill.formats.chip_index import (
    CHIPS,
    SCENES,
    IndexedScene,
    geo_metadata,
    read_part,
    scene_row,
)
from chipmill.formats.provenance import PROVENANCE, AssetRecord
from chipmill.formats.snapshot import Snapshot, decode_snapshot, snapshot_name
from chipmill.io.records import read_records
from chipmill.io.store import PART_BYTES, Store
from chipmill.model.scene import SceneRef

log = logging.getLogger(__name__)

READS_AT_ONCE = 16
ROWS_PER_GROUP = 64_000
"""Rows of a row group, about; a scene is never split."""


def merge_index(archive: Store, *, chip_size: int = 256) -> Snapshot:
    """Merge all parts of one chip size; the same parts always give the same snapshot.

    Raises:
        RequestError: There is no part.
    """
    keys = sorted(archive.keys(layout.parts_prefix(chip_size)))
    if not keys:
        raise RequestError(
            f"no scene is indexed with chips of {chip_size} px in {archive.url}; ingest some first"
        )
    with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
        path = Path(folder, "chips.parquet")
        scenes = _write_chips(archive, keys, path)
        snapshot = _publish(archive, scenes, path, chip_size)
    log.info("snapshot %s: %d scenes, %d chips", snapshot.snapshot, len(scenes), snapshot.chips)
    return snapshot


def load_snapshot(archive: Store, name: str, *, chip_size: int = 256) -> Snapshot:
    """Read a snapshot's document; `latest` is the newest one of this chip size.

    Raises:
        RequestError: There is none, or none of this name.
    """
    if name != "latest":
        key = layout.snapshot_key(name)
        try:
            return decode_snapshot(archive.get(key), where=archive.href(key))
        except MissingError:
            raise RequestError(
                f"there is no snapshot {name!r} in {archive.url}; take the name that a merge gave, "
                "or 'latest'"
            ) from None
    documents = [
        decode_snapshot(archive.get(key), where=archive.href(key))
        for key in archive.keys("index/snapshots/")
        if key.endswith("/snapshot.json")
    ]
    fitting = [snapshot for snapshot in documents if snapshot.chip_size == chip_size]
    if not fitting:
        raise RequestError(
            f"{archive.url} has no snapshot with chips of {chip_size} px; merge the index first"
        )
    return max(fitting, key=lambda snapshot: snapshot.created)


def _write_chips(archive: Store, keys: list[str], path: Path) -> list[IndexedScene]:
    """Write the rows of all parts into one file, scene after scene."""
    scenes: list[IndexedScene] = []
    waiting: list[pa.Table] = []
    schema = CHIPS.with_metadata({b"geo": geo_metadata()})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for scene, table in _read_parts(archive, keys):
            scenes.append(scene)
            waiting.append(table.replace_schema_metadata(schema.metadata))
            if sum(len(table) for table in waiting) >= ROWS_PER_GROUP:
                _write_group(writer, waiting)
        _write_group(writer, waiting)
    return scenes


def _read_parts(archive: Store, keys: list[str]) -> Iterator[tuple[IndexedScene, pa.Table]]:
    """Read parts side by side, in the order of their keys, a bounded number ahead."""

    def read(key: str) -> tuple[IndexedScene, pa.Table]:
        return read_part(archive.get(key), where=archive.href(key))

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for start in range(0, len(keys), 8 * READS_AT_ONCE):
            yield from pool.map(read, keys[start : start + 8 * READS_AT_ONCE])


def _write_group(writer: parquet.ParquetWriter, waiting: list[pa.Table]) -> None:
    if waiting:
        rows = pa.concat_tables(waiting).unify_dictionaries()
        writer.write_table(rows, row_group_size=len(rows))
        waiting.clear()


def _publish(archive: Store, scenes: list[IndexedScene], chips: Path, chip_size: int) -> Snapshot:
    """Put the files in place, the document last; who comes second finds the work done."""
    name = snapshot_name(chip_size, (scene.digest for scene in scenes))
    files = {
        table: layout.snapshot_file_key(name, table, "0")
        for table in ("chips", "scenes", "provenance")
    }
    snapshot = Snapshot(
        snapshot=name,
        chip_size=chip_size,
        chips=sum(scene.rows * scene.cols for scene in scenes),
        scenes=len(scenes),
        chip_files=(files["chips"],),
        scene_files=(files["scenes"],),
        provenance_files=(files["provenance"],),
        created=datetime.now(UTC),
    )
    if archive.size(layout.snapshot_key(name)) is None:
        with chips.open("rb") as file:
            archive.write(files["chips"], iter(lambda: file.read(PART_BYTES), b""))
        rows = [scene_row(scene) for scene in scenes]
        archive.put(files["scenes"], _parquet(pa.Table.from_pylist(rows, schema=SCENES)))
        archive.put(files["provenance"], _parquet(_provenance(archive, scenes)))
        with suppress(AlreadyThereError):
            archive.create(layout.snapshot_key(name), snapshot.encode())
    return load_snapshot(archive, name)


def _provenance(archive: Store, scenes: list[IndexedScene]) -> pa.Table:
    """List every asset of the snapshot: one row an asset."""

    def records(scene: IndexedScene) -> list[AssetRecord]:
        ref = SceneRef(collection=scene.collection, item=scene.item)
        return list(read_records(ref, archive).values())

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        rows = [
            {"scene": scene.scene, **record.model_dump()}
            for scene, found in zip(scenes, pool.map(records, scenes), strict=True)
            for record in found
        ]
    return pa.Table.from_pylist(rows, schema=PROVENANCE)


def _parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()
