"""Put the files of a scene onto fast storage as they are, and beside them what its chips are."""

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from chipmill.errors import DamagedError, MissingError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.formats.multihash import XXH3, decode_multihash, encode_multihash
from chipmill.formats.pack import BandPlace, PackHeader, SceneFile
from chipmill.formats.plan import PlannedScene
from chipmill.io.fast import Folder, Hashing
from chipmill.io.fsx_tasks import FsxTasks
from chipmill.io.lustre import Lustre
from chipmill.io.proven import PIECE, Known, OnePass
from chipmill.io.store import Store
from chipmill.io.tiff import open_tiff
from chipmill.model.archived import ArchivedFile, ArchivedScene
from chipmill.model.frame import Frame
from chipmill.model.grid import ChipGrid
from chipmill.model.manner import Manner
from chipmill.steps.plan import CHIP_BYTES, PACK_BYTES

ITEMS_AT_ONCE = 16
RESTORE_SECONDS = 3600.0
"""So long the files of a scene may take to come from the bucket."""


def bytes_of_scenes(scenes: list[PlannedScene], archive: Store) -> int:
    """Add up what the files of some scenes need on fast storage, an upper bound."""

    def need(planned: PlannedScene) -> int:
        scene = load_archived(planned, archive)
        sizes = [file.size or archive.size(file.key) or 0 for file in files_of(scene)]
        return sum(sizes) + PACK_BYTES + CHIP_BYTES * len(planned.row)

    with ThreadPoolExecutor(ITEMS_AT_ONCE) as pool:
        return sum(pool.map(need, scenes))


def load_archived(planned: PlannedScene, archive: Store) -> ArchivedScene:
    """Read the item of a planned scene.

    Raises:
        SceneError: It is not as `rewrite` writes it.
        MissingError: There is none.
    """
    key = layout.item_key(planned.collection, planned.scene)
    return read_archived(json.loads(archive.get(key)), key_of=archive.key_of)


def files_of(scene: ArchivedScene) -> list[ArchivedFile]:
    """List the files of the data bands, each once."""
    return [*{band.file.key: band.file for band in scene.bands}.values()]


def copy_files(
    scene: ArchivedScene,
    header: PackHeader,
    *,
    archive: Store,
    folder: Folder,
    fence: int,
    manner: Manner,
) -> PackHeader:
    """Copy the files of a scene, or find them whole, and say in the header where they are.

    Where the archive is linked to an FSx for Lustre file system, and the manner says where it lies
    there, the files are restored instead, proven, and linked to.

    Raises:
        DamagedError: A file is not what was copied into the archive.
        SceneError: A file is no GeoTIFF, or the files do not align.
        TransientError: Fast storage is full, or the archive does not answer.
    """
    files = files_of(scene)
    if manner.link is not None:
        copied = _restored(files, manner.link, folder, archive=archive, tasks=manner.fsx)
    else:
        with ThreadPoolExecutor(len(files)) as pool:
            copy = partial(_copy, archive=archive, folder=folder, fence=fence)
            copied = [copy(file, pool=pool) for file in files]
    chips = ChipGrid(grid=scene.finest.file.grid, size=header.chip_size)
    places: list[BandPlace] = []
    for band, packed in zip(scene.bands, header.bands, strict=True):
        frame = Frame.of(band.file, chips, edge=packed.shape[0])
        number = [file.key for file in files].index(band.file.key)
        places.append(
            BandPlace(
                file=number,
                index=band.index,
                edge=frame.edge,
                ratio=(frame.ratio.y, frame.ratio.x),
                inset=frame.ratio.inset,
                size=(frame.grid.height, frame.grid.width),
                fill=open_tiff(archive, band.file.key).fill,
            )
        )
    said = {"files": tuple(copied), "places": tuple(places)}
    return header.model_copy(update=said)


def _restored(
    files: list[ArchivedFile], link: Path, folder: Folder, *, archive: Store, tasks: str | None
) -> list[SceneFile]:
    """Bring the bytes of files onto the file system, and prove them."""
    places = {file.key: link / file.key for file in files}
    unknown = [archive.href(key) for key, path in places.items() if not path.exists()]
    if unknown and tasks:
        FsxTasks(tasks).import_names(unknown, seconds=RESTORE_SECONDS)
    if missing := next((path for path in places.values() if not path.exists()), None):
        raise MissingError(
            f"{missing} is not on the file system; link the archive with it, and import its names, "
            "as CHIPMILL_FSX_FILE_SYSTEM lets staging do"
        )
    Lustre().restore([*places.values()], seconds=RESTORE_SECONDS)
    restored: list[SceneFile] = []
    for file in files:
        name, checksum = layout.scene_file(file.key), decode_multihash(file.checksum or "")
        folder.link(name, places[file.key])
        there = folder.found(name, checksum.algorithm if checksum else XXH3)
        if checksum and there.checksum != encode_multihash(checksum):
            raise DamagedError(
                f"{places[file.key]} has the multihash {there.checksum} where its item says "
                f"{file.checksum}; release it, or copy the scene again"
            )
        restored.append(SceneFile(file=name, size=there.size, checksum=there.checksum))
    return restored


def _copy(
    file: ArchivedFile, *, archive: Store, folder: Folder, fence: int, pool: Executor
) -> SceneFile:
    name = layout.scene_file(file.key)
    checksum = decode_multihash(file.checksum or "")
    size = file.size if file.size is not None else archive.size(file.key) or 0
    stated = encode_multihash(checksum) if checksum else None
    if checksum and folder.size(name) == size:
        there = folder.found(name, checksum.algorithm)
        if there.checksum == stated:
            return SceneFile(file=name, size=size, checksum=stated)
    known = Known(size=size, checksum=checksum)
    reading = OnePass(archive, file.key, known=known, pool=pool)
    written = folder.write(name, partial(_fill, reading=reading, size=size), fence=fence)
    return SceneFile(file=name, size=written.size, checksum=stated or written.checksum)


def _fill(file: Hashing, *, reading: OnePass, size: int) -> None:
    for start in range(0, size, PIECE):
        file.write(reading.take(start, min(start + PIECE, size)))
    reading.prove()
