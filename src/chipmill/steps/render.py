"""render: the chips of an export in files for other loaders, read from its packs by ranges."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from chipmill.errors import MissingError, StoreError
from chipmill.formats import layout
from chipmill.formats.clay import metadata_of, platform_of
from chipmill.formats.export import Export, decode_export_document
from chipmill.formats.rendering import RenderedFile, Rendering
from chipmill.io.store import Store
from chipmill.model.export_request import Form
from chipmill.steps.chips import Chips
from chipmill.steps.cube import write_cube
from chipmill.steps.pieces import Piece, cut_pieces
from chipmill.steps.seal import RECORDS_AT_ONCE, load_export
from chipmill.steps.shard import shard_size
from chipmill.steps.tar import write_tar

log = logging.getLogger(__name__)

WRITERS = {"npz": write_cube, "webdataset": write_tar}


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderShard:
    """Files of a rendering that one task run writes."""

    export: str
    form: Form
    chips: int
    """Chips of a file."""
    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        """Name it, as task runs show it."""
        return f"{self.pieces[0].file} to {self.pieces[-1].file}"


def render_shards(name: str, archive: Store, *, forms: Mapping[Form, int]) -> list[RenderShard]:
    """Divide the files of renderings into task runs; none for those that are whole.

    Args:
        name: Of a whole export.
        archive: Where it is.
        forms: Which renderings, with the chips of a file.

    Raises:
        RequestError: There is no whole export of this name.
    """
    shards: list[RenderShard] = []
    for form, chips in forms.items():
        if archive.size(layout.rendering_key(name, form, chips)) is not None:
            continue
        pieces = cut_pieces(load_export(archive, name), archive, form=form, chips=chips).pieces
        size = shard_size(len(pieces))
        shards += [
            RenderShard(export=name, form=form, chips=chips, pieces=pieces[first : first + size])
            for first in range(0, len(pieces), size)
        ]
    return shards


def render(shard: RenderShard, archive: Store) -> int:
    """Write the files of a shard that are not there yet; gives how many were written.

    Raises:
        PackError: A pack is damaged.
        RequestError: A scene lacks bands of Clay's.
        TransientError: The store does not answer.
    """
    chips = Chips(load_export(archive, shard.export), archive)
    return sum(_render(piece, shard, archive, chips) for piece in shard.pieces)


def seal_renderings(name: str, archive: Store, *, forms: Mapping[Form, int]) -> list[Rendering]:
    """Write the documents of whole renderings; safe to repeat.

    Raises:
        StoreError: A file is missing.
    """
    return [_seal(name, archive, form=form, chips=chips) for form, chips in forms.items()]


def _seal(name: str, archive: Store, *, form: Form, chips: int) -> Rendering:
    key = layout.rendering_key(name, form, chips)
    prefix = layout.rendering_records_prefix(name, form, chips)
    with suppress(MissingError):
        whole = decode_export_document(Rendering, archive.get(key), where=archive.href(key))
        _remove(prefix, archive)
        return whole
    export = load_export(archive, name)
    cut = cut_pieces(export, archive, form=form, chips=chips)
    with ThreadPoolExecutor(RECORDS_AT_ONCE) as pool:
        read = partial(_record, prefix=prefix, archive=archive)
        files = tuple(pool.map(read, cut.pieces))
    rendering = Rendering(
        export=name,
        plan=export.plan.plan,
        form=form,
        chips_per_file=chips,
        left_over=dict(cut.left_over),
        files=files,
    )
    if form == "npz":
        metadata = layout.rendering_prefix(name, form, chips) + layout.CLAY_METADATA
        archive.put(metadata, _metadata(export, archive))
    archive.create(key, rendering.encode())
    _remove(prefix, archive)
    log.info("%s is whole: %d files", archive.href(key), len(files))
    return rendering


def _render(piece: Piece, shard: RenderShard, archive: Store, chips: Chips) -> bool:
    """Write one file and its record, unless both are there."""
    where = (shard.export, shard.form, shard.chips)
    key = layout.rendering_prefix(*where) + piece.file
    prefix = layout.rendering_records_prefix(*where)
    with suppress(MissingError):
        record = _record(piece, prefix=prefix, archive=archive)
        if archive.size(key) == record.size:
            return False
    written = WRITERS[shard.form](piece, chips, archive, key=key)
    found = archive.size(key)
    if found != written.size:
        raise StoreError(
            f"{archive.href(key)} has {found} bytes where {written.size} were written; "
            "look at the store, and who else writes there"
        )
    archive.put(f"{prefix}{piece.file}.json", written.encode())
    return True


def _record(piece: Piece, *, prefix: str, archive: Store) -> RenderedFile:
    """Read the record of a file.

    Raises:
        MissingError: There is none: the file is not written yet.
    """
    key = f"{prefix}{piece.file}.json"
    return decode_export_document(RenderedFile, archive.get(key), where=archive.href(key))


def _metadata(export: Export, archive: Store) -> bytes:
    """Describe the platforms of an export as Clay's metadata.yaml does."""
    said: dict[str, Any] = {}
    chips = Chips(export, archive)
    for header in chips.headers():
        platform = platform_of(header.collection)
        if platform.name not in said and (entry := metadata_of(header, platform)):
            said[platform.name] = entry
    return yaml.safe_dump(said, sort_keys=False).encode()


def _remove(prefix: str, archive: Store) -> None:
    """Remove what only an unfinished rendering needs."""
    with ThreadPoolExecutor(RECORDS_AT_ONCE) as pool:
        list(pool.map(archive.delete, archive.keys(prefix)))
