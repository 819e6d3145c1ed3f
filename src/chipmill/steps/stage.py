"""stage: a megabatch onto fast storage, as chip packs, within the byte budget."""

import logging
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from chipmill.errors import ChipmillError, LedgerError, RequestError, StaleFenceError
from chipmill.formats import layout
from chipmill.formats.manifest import Manifest, ManifestGroup, ManifestPack
from chipmill.formats.pack import PackHeader
from chipmill.formats.plan import Plan, PlannedScene
from chipmill.io.fast import Folder, Hashing
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import MegabatchRow
from chipmill.io.store import Store
from chipmill.model.manner import DEFAULT, Manner
from chipmill.model.megabatch import megabatch_id
from chipmill.model.staging_progress import StagingProgress
from chipmill.steps.cut import Workbench, workbench
from chipmill.steps.lease import kept
from chipmill.steps.normalize import statistics_of
from chipmill.steps.pack import write_pack
from chipmill.steps.plan import load_scenes
from chipmill.steps.telling import Telling
from chipmill.steps.verbatim import bytes_of_scenes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What staging one megabatch did."""

    megabatch: str
    scenes: int
    chips: int
    size: int
    """Bytes on fast storage."""


def stage_megabatch(  # noqa: PLR0913 - what is staged, from where, to where and how
    plan: Plan,
    number: int,
    *,
    archive: Store,
    fast: Path,
    ledger: Ledger,
    budget: int,
    worker: str,
    manner: Manner = DEFAULT,
    bench: Workbench | None = None,
) -> Staged:
    """Put one megabatch on fast storage; what an interrupted try left is used.

    With a workbench of the caller, its memory serves one megabatch after the other.

    Raises:
        BudgetError: There is no room now.
        BusyError: Somebody else stages it, or it is staged.
        LedgerError: It takes more than an earlier try in another form reserved; it is given up.
        StaleFenceError: The lease was lost; somebody else has taken over.
        SceneError: A scene of the archive is damaged; the megabatch is given up.
        TransientError: The disk is full or fails, or the archive does not answer; it is given up.
    """
    name = megabatch_id(plan.plan, number)
    scenes = load_scenes(archive, plan.plan, number)
    need = _need(name, scenes, archive, budget) if manner.form == "scenes" else None
    fence = ledger.claim_staging(name, budget=budget, worker=worker, need=need)
    folder = Folder.of(fast, plan=plan.plan, number=number, cached=manner.cached, fsx=manner.fsx)
    with (
        _giving_up(ledger, name, fence, folder),
        kept(ledger, name, fence) as lease,
        nullcontext(bench) if bench else workbench() as tools,
    ):
        folder.prepare(fence)
        telling = Telling(_begun(name, scenes), ledger=ledger, fence=fence, tell=manner.tell)
        statistics = statistics_of(plan, archive)

        def pack(scene: PlannedScene) -> tuple[ManifestPack, PackHeader]:
            lease.check()
            there = folder.size(layout.pack_file(scene.collection, scene.scene))
            folder.keep_free(manner.floor, need=scene.chip_bytes * len(scene.row) - (there or 0))
            done = write_pack(
                scene,
                chip_size=plan.chip_size,
                archive=archive,
                folder=folder,
                fence=fence,
                statistics=statistics,
                manner=manner,
                bench=tools,
            )
            telling.done(chips=done[0].chips, size=_size(done), kept=there is not None)
            return done

        with ThreadPoolExecutor(manner.scenes_at_once) as pool:
            packs = list(pool.map(pack, scenes))
        lease.check()
        manifest = manifest_of(plan, number, packs).encode()
        size = sum(map(_size, packs)) + len(manifest)
        _check_size(ledger.megabatch(name), size)  # once the manifest is there, somebody reads
        _seal(folder, manifest, fence)
        lease.check()
    ledger.ready(name, fence, size=size)
    return _staged(name, packs, size)


def _staged(name: str, packs: list[tuple[ManifestPack, PackHeader]], size: int) -> Staged:
    """Say what was done."""
    chips = sum(pack.chips for pack, _ in packs)
    log.info("%s: %d chips of %d scenes staged, %.1f MB", name, chips, len(packs), size / 1e6)
    return Staged(megabatch=name, scenes=len(packs), chips=chips, size=size)


def _need(name: str, scenes: list[PlannedScene], archive: Store, budget: int) -> int:
    """Say what the files of the scenes need, which is not what their chips would."""
    need = bytes_of_scenes(scenes, archive)
    if need > budget:
        raise RequestError(
            f"the files of megabatch {name} need {need:,} bytes, the budget of fast storage is "
            f"{budget:,}; raise the budget, or plan megabatches of fewer scenes"
        )
    return need


def manifest_of(
    plan: Plan,
    number: int,
    packs: list[tuple[ManifestPack, PackHeader]],
) -> Manifest:
    """Describe the megabatch; its groups are numbered anew, in the order of the plan's."""
    present = sorted({pack.group for pack, _ in packs})
    headers = {pack.group: header for pack, header in packs}
    return Manifest(
        plan=plan.plan,
        megabatch=number,
        snapshot=plan.snapshot,
        seed=plan.seed,
        epoch=plan.epoch,
        minibatch=plan.minibatch,
        leftover=plan.leftover,
        mixed=plan.mixed,
        order_version=plan.order_version,
        chip_size=plan.chip_size,
        form="scenes" if packs[0][1].files else "packs",
        codec=packs[0][1].codec,
        groups=tuple(
            ManifestGroup(
                collection=headers[group].collection,
                bands=headers[group].bands,
                normalization=headers[group].normalization,
            )
            for group in present
        ),
        packs=tuple(
            pack.model_copy(update={"group": present.index(pack.group)}) for pack, _ in packs
        ),
    )


def _size(packed: tuple[ManifestPack, PackHeader]) -> int:
    """Add up the bytes of a scene on fast storage."""
    pack, header = packed
    return pack.size + sum(file.size for file in header.files)


def _begun(name: str, scenes: list[PlannedScene]) -> StagingProgress:
    return StagingProgress(
        megabatch=name,
        scenes=0,
        of_scenes=len(scenes),
        chips=0,
        of_chips=sum(len(scene.row) for scene in scenes),
        size=0,
        seconds=0,
    )


@contextmanager
def _giving_up(ledger: Ledger, name: str, fence: int, folder: Folder) -> Generator[None]:
    """Give the bytes back when the block fails, unless the lease is somebody else's."""
    try:
        yield
    except StaleFenceError:
        raise
    except ChipmillError as err:
        folder.remove()
        ledger.give_up(name, fence, reason=str(err))
        raise


def _check_size(row: MegabatchRow, size: int) -> None:
    """See that no more was written than was reserved."""
    if size > row.reserved:
        raise LedgerError(
            f"megabatch {row.id} takes {size} bytes and {row.reserved} are reserved for it, by an "
            "earlier try in another form; it is given up and claimed anew"
        )


def _seal(folder: Folder, manifest: bytes, fence: int) -> None:
    """Write the manifest, when all packs and their names are durable."""
    folder.sync()
    folder.write(layout.MANIFEST, lambda file: _put(file, manifest), fence=fence)
    folder.sync()


def _put(file: Hashing, data: bytes) -> None:
    file.write(data)
