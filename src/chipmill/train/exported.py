"""A static export as the source of a dataset: no ledger, no fast storage and no server."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from chipmill.errors import MissingError, PackError, RequestError
from chipmill.formats import layout
from chipmill.formats.export import Export, decode_export_document
from chipmill.formats.manifest import Manifest, decode_manifest
from chipmill.formats.pack_index import decode_index
from chipmill.formats.plan import Plan
from chipmill.model.shuffle import permutation
from chipmill.train.folder import MegabatchFolder, check_packs
from chipmill.train.place import local_folder, open_store, read_file
from chipmill.train.ranged import RangedPacks
from chipmill.train.source import check_manifest
from chipmill.url import store_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The megabatches of an export, in the order of its plan or of a further epoch."""

    url: str
    """Of the export's folder."""
    export: Export
    plan: Plan
    """Of the epoch."""
    numbers: tuple[int, ...]
    """Which of the export's megabatches each of the epoch is."""

    def ready(self, number: int) -> MegabatchFolder:
        """Open a megabatch; an export is whole, so it is there.

        Raises:
            PackError: It is damaged, or of another plan.
            MissingError: It is gone.
            RequestError: A worker process that was forked reads a store.
            TransientError: The store does not answer.
        """
        exported = self.numbers[number]
        manifest = self._manifest(exported)
        if self.plan.epoch != manifest.epoch:
            manifest = manifest.model_copy(update={"epoch": self.plan.epoch, "megabatch": number})
        check_manifest(manifest, self.plan, number, where=self.where(number))
        folder = layout.export_folder(exported)
        local = local_folder(self.url)
        if local is not None:
            return MegabatchFolder(local / folder, manifest)
        key = f"{folder}/{layout.CHIP_TABLE}"
        table = decode_index(read_file(self.url, key), where=f"{self.url}/{key}")
        entries = {entry.pack.file: entry for entry in table}
        opener = RangedPacks(open_store(self.url), folder, entries)
        return MegabatchFolder(Path(folder), manifest, opener=opener)

    def where(self, number: int) -> str:
        """Name the manifest of a megabatch."""
        return f"{self.url}/{layout.export_folder(self.numbers[number])}/{layout.MANIFEST}"

    def _manifest(self, exported: int) -> Manifest:
        """Read a manifest and hold it against the document of the export."""
        key = f"{layout.export_folder(exported)}/{layout.MANIFEST}"
        raw, where = read_file(self.url, key), f"{self.url}/{key}"
        if hashlib.sha256(raw).hexdigest() != self.export.megabatches[exported].manifest:
            raise PackError(
                f"{where} is not the manifest that {layout.EXPORT} of the export names; copy the "
                "export again, all of it"
            )
        manifest = decode_manifest(raw, where=where)
        check_packs(manifest, where=where)
        return manifest


def open_export(
    archive: str | Path, plan: str | None = None, *, epoch: int | None = None
) -> Exported:
    """Open a static export.

    Args:
        archive: URL or path of the export's folder; or, with a plan, of the archive that has an
            export of the plan's name.
        plan: Plan id.
        epoch: Another epoch than the plan's: the same chips in another order. Megabatches keep
            their scenes; their order, and that of the chips in each, is drawn anew.

    Raises:
        MissingError: There is no export, or it is not whole.
        RequestError: It is of another plan.
        StoreError: The store cannot be read.
    """
    root = store_url(archive).rstrip("/")
    url = f"{root}/{layout.export_prefix(plan)}".rstrip("/") if plan else root
    try:
        export = _read(url)
    except MissingError:
        if not plan:
            raise
        url, export = root, _read(root)
    if plan not in (None, export.plan.plan):
        raise RequestError(
            f"the export {url} is of plan {export.plan.plan}, not of {plan}; leave the plan out, "
            "or name the right export"
        )
    numbers = tuple(range(len(export.megabatches)))
    opened = Exported(url=url, export=export, plan=export.plan, numbers=numbers)
    return opened if epoch in (None, export.plan.epoch) else _of_epoch(opened, int(epoch or 0))


def _read(url: str) -> Export:
    """Read the document of an export."""
    try:
        raw = read_file(url, layout.EXPORT)
    except MissingError as err:
        raise MissingError(
            f"there is no whole export at {url} ({layout.EXPORT} is missing); check the name, or "
            "export first"
        ) from err
    return decode_export_document(Export, raw, where=f"{url}/{layout.EXPORT}")


def _of_epoch(opened: Exported, epoch: int) -> Exported:
    """Draw another epoch of the same chips."""
    if epoch < 0:
        raise RequestError(f"there is no epoch {epoch}; count from 0")
    plan = opened.plan
    drawn = permutation(len(opened.numbers), key=("export megabatches", plan.seed, epoch))
    numbers = tuple(int(number) for number in drawn)
    parts = tuple(plan.megabatches[number] for number in numbers)
    again = replace(
        opened,
        numbers=numbers,
        plan=plan.model_copy(update={"epoch": epoch, "megabatches": parts}),
    )
    if plan.leftover == "drop":
        return again  # how many minibatches there are does not depend on the epoch
    counted = tuple(
        part.model_copy(update={"minibatches": len(again.ready(number).order())})
        for number, part in enumerate(parts)
    )
    return replace(again, plan=again.plan.model_copy(update={"megabatches": counted}))
