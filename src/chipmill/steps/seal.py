"""seal: an export whose packs are all there becomes whole; and whole exports are read."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from chipmill.errors import MissingError, RequestError, StoreError
from chipmill.formats import layout
from chipmill.formats.export import Export, ExportedMegabatch, decode_export_document
from chipmill.formats.pack_index import PackEntry, decode_index, encode_index
from chipmill.formats.plan import Plan, PlannedScene
from chipmill.io.store import Store
from chipmill.steps.export import Exporting, pack_keys
from chipmill.steps.plan import load_plan, load_scenes
from chipmill.steps.stage import manifest_of

log = logging.getLogger(__name__)

RECORDS_AT_ONCE = 32
"""Small objects that are read or removed side by side."""


def seal_export(exporting: Exporting, archive: Store) -> Export:
    """Write the manifests and then the document of the whole export; safe to repeat.

    Raises:
        StoreError: The pack of a scene is missing.
    """
    key = layout.export_key(exporting.name)
    with suppress(MissingError):
        whole = decode_export_document(Export, archive.get(key), where=archive.href(key))
        _remove_records(exporting, archive)
        return whole
    plan = load_plan(archive, exporting.plan)
    export = Export(
        name=exporting.name,
        plan=plan,
        megabatches=tuple(
            _seal_megabatch(number, exporting, plan, archive)
            for number in range(len(plan.megabatches))
        ),
    )
    archive.create(key, export.encode())
    _remove_records(exporting, archive)
    size = sum(part.size for part in export.megabatches)
    log.info("%s is whole: %d chips, %.1f MB", archive.href(key), plan.usable, size / 1e6)
    return export


def load_export(archive: Store, name: str) -> Export:
    """Read what a whole export says of itself.

    Raises:
        RequestError: There is none of this name, or it is not whole yet.
    """
    key = layout.export_key(name)
    try:
        return decode_export_document(Export, archive.get(key), where=archive.href(key))
    except MissingError:
        raise RequestError(
            f"there is no whole export {name!r} in {archive.url} ({key} is missing); export first"
        ) from None


def list_exports(archive: Store) -> list[Export]:
    """Read all whole exports of an archive, by name."""
    names = archive.folders(layout.EXPORTS)
    return [
        load_export(archive, name)
        for name in names
        if archive.size(layout.export_key(name)) is not None
    ]


def _seal_megabatch(
    number: int, exporting: Exporting, plan: Plan, archive: Store
) -> ExportedMegabatch:
    """Write the manifest of a megabatch, and where its chips lie, from the records of its packs."""

    def read(scene: PlannedScene) -> PackEntry:
        _, key = pack_keys(scene, exporting)
        try:
            (entry,) = decode_index(archive.get(key), where=archive.href(key))
        except MissingError:
            raise StoreError(
                f"{scene.collection}/{scene.scene} is not in the export {exporting.name} yet; "
                "export its scenes first"
            ) from None
        return entry

    with ThreadPoolExecutor(RECORDS_AT_ONCE) as pool:
        entries = list(pool.map(read, load_scenes(archive, plan.plan, number)))
    manifest = manifest_of(plan, number, [(entry.pack, entry.header) for entry in entries])
    archive.put(layout.export_index_key(exporting.name, number), encode_index(entries))
    archive.put(layout.export_manifest_key(exporting.name, number), manifest.encode())
    return ExportedMegabatch(
        manifest=manifest.digest,
        packs=len(manifest.packs),
        size=sum(pack.size for pack in manifest.packs),
    )


def _remove_records(exporting: Exporting, archive: Store) -> None:
    """Remove what only an unfinished export needs."""
    prefix = layout.export_records_prefix(exporting.name)
    with ThreadPoolExecutor(RECORDS_AT_ONCE) as pool:
        list(pool.map(archive.delete, archive.keys(prefix)))
