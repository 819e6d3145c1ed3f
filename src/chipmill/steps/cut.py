"""Cut the chips of a scene: one pass over each file, all bands of a chip side by side."""

import os
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.multihash import decode_multihash
from chipmill.formats.pack import PackBand, PackHeader, Proof, band_view, lay_out
from chipmill.io.proven import PIECE, Known, OnePass, proven
from chipmill.io.store import Store
from chipmill.io.tiff import is_lossless, open_tiff
from chipmill.model.archived import ArchivedBand, ArchivedScene
from chipmill.model.chip_shape import band_shapes
from chipmill.model.frame import Frame
from chipmill.model.grid import ChipGrid
from chipmill.model.memory import Memory
from chipmill.steps.blocks import WHOLE, Blocks, Wanted, check_header


def pack_header(scene: ArchivedScene, chips: ChipGrid) -> PackHeader:
    """Describe the chips of a scene as its pack holds them."""
    bands = [
        PackBand(
            name=band.name,
            common_name=band.common_name,
            wavelength=band.wavelength,
            fwhm=band.fwhm,
            gsd=band.gsd,
            dtype=band.file.dtype,  # pyright: ignore[reportArgumentType]  # pydantic checks it
            shape=shape,
            start=0,
            scale=band.scale,
            offset=band.offset,
            mean=band.mean,
            std=band.std,
            nodata=band.file.nodata,
        )
        for band, shape in zip(scene.bands, band_shapes(scene, chips), strict=True)
    ]
    return PackHeader(
        collection=scene.ref.collection,
        scene=scene.ref.item,
        datetime=scene.datetime,
        platform=scene.platform,
        chip_size=chips.size,
        gsd=scene.finest.gsd,
        bands=lay_out(bands),
    )


def cut_chips(
    scene: ArchivedScene,
    header: PackHeader,
    *,
    archive: Store,
    rows: NDArray[np.uint16],
    cols: NDArray[np.uint16],
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Cut the named chips; see `opened_cut` and `Cut.stripes`."""
    with opened_cut(scene, header, archive=archive, rows=rows, cols=cols) as cut:
        yield from cut.stripes()


@contextmanager
def opened_cut(
    scene: ArchivedScene,
    header: PackHeader,
    *,
    archive: Store,
    rows: NDArray[np.uint16],
    cols: NDArray[np.uint16],
    bench: "Workbench | None" = None,
) -> Generator["Cut"]:
    """Open the files of a scene to cut the named chips.

    A file of which much is needed is read once from its beginning to its end, and its bytes must be
    those that were copied. Of another file only the blocks are read that are needed.

    Args:
        scene: A scene of the archive.
        header: Its `pack_header`.
        archive: Where its files are.
        rows: Rows of the chips, shape (chips,), in order.
        cols: Columns of the chips, shape (chips,).
        bench: Decodes blocks; None: one of its own.

    Raises:
        SceneError: A file is damaged, or the files do not align.
        DamagedError: A file is not what was copied.
        TransientError: The archive does not answer.
    """
    chips = ChipGrid(grid=scene.finest.file.grid, size=header.chip_size)
    breaks = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)]
    stripes = [_Stripe(slice(a, b), int(rows[a]), cols[a:b].tolist()) for a, b in pairwise(breaks)]
    bands = dict[str, list[tuple[ArchivedBand, PackBand]]]()
    for band, packed in zip(scene.bands, header.bands, strict=True):
        bands.setdefault(band.file.key, []).append((band, packed))
    with ExitStack() as stack:
        reading = stack.enter_context(_threads(len(bands)))
        work = bench or stack.enter_context(workbench())
        room = _Room(archive=archive, chips=chips, stripes=stripes, reading=reading, bench=work)
        files = [stack.enter_context(_opened(each, room)) for each in bands.values()]
        whole = all(file.proof == "files" for file in files)
        said = header.model_copy(update={"proof": "files" if whole else "blocks"})
        yield Cut(header=said, rows=stripes, files=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What decodes the blocks of one scene after the other."""

    decoders: Executor
    memory: Memory


@contextmanager
def workbench() -> Generator[Workbench]:
    """Give a workbench with a thread a core."""
    with _threads(os.cpu_count() or 1) as decoders:
        yield Workbench(decoders=decoders, memory=Memory())


@dataclass(frozen=True, slots=True)
class _Stripe:
    """The chips of one row of chips."""

    part: slice
    """Which of all chips."""
    row: int
    cols: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """Where the files of a scene are opened."""

    archive: Store
    chips: ChipGrid
    stripes: list[_Stripe]
    reading: Executor
    bench: "Workbench"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file of the scene, and where its bands go."""

    frame: Frame
    blocks: Blocks
    bands: tuple[PackBand, ...]
    """In the order of the positions that are read."""
    proof: Proof

    def cut(self, stripe: _Stripe, records: NDArray[np.uint8]) -> None:
        """Cut the chips of a stripe into their records, shape (chips, bytes)."""
        for number, packed in enumerate(self.bands):
            places = band_view(records, packed)  # (chips, y, x)
            for col, out in zip(stripe.cols, places, strict=True):
                top, bottom, left, right = self.frame.window(stripe.row, col)
                if self.frame.edge:
                    self.blocks.fill(out, number, top=top, left=left)
                    continue
                around = np.empty((bottom - top, right - left), out.dtype)
                self.blocks.fill(around, number, top=top, left=left)
                y, x = self.frame.pixels(stripe.row, col)
                out[...] = around[np.ix_(y - top, x - left)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The opened files of a scene, of which chips are cut once."""

    header: PackHeader
    """Says how the files are proven."""
    rows: list[_Stripe]
    files: list[_File]

    def stripes(self, *, reuse: bool = False) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Cut the chips, a row of them at a time, while the blocks of the next are decoded.

        Args:
            reuse: Whether each row may be overwritten by the next: memory that is new costs.

        Yields:
            Which of the chips, and their pixels: shape (chips of the row, bytes of a chip). They
            are proven when the iterator has ended.
        """
        most = max(len(stripe.cols) for stripe in self.rows)
        room = np.empty((most, self.header.chip_bytes), np.uint8) if reuse else None
        self._ask(0)
        for number, stripe in enumerate(self.rows):
            self._ask(number + 1)
            count = len(stripe.cols)
            records = (
                np.empty((count, self.header.chip_bytes), np.uint8)
                if room is None
                else room[:count]
            )
            for file in self.files:
                file.cut(stripe, records)
                file.blocks.leave(number)
            yield stripe.part, records
        for file in self.files:
            file.blocks.prove()

    def _ask(self, number: int) -> None:
        if number < len(self.rows):
            for file in self.files:
                file.blocks.ask(number)


@contextmanager
def _threads(number: int) -> Generator[ThreadPoolExecutor]:
    """Give some threads; what they have not begun when the block ends is not begun."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _opened(bands: list[tuple[ArchivedBand, PackBand]], room: _Room) -> Generator[_File]:
    """Open a file, and find how it is best read."""
    file, places = bands[0][0].file, tuple(band.index for band, _ in bands)
    frame = Frame.of(file, room.chips, edge=bands[0][1].shape[0])
    tiff = open_tiff(room.archive, file.key)
    check_header(tiff, file, places)
    windows = [[frame.window(each.row, col) for col in each.cols] for each in room.stripes]
    wanted = Wanted.of(tiff.image, places, windows)
    memory = room.bench.memory
    with ExitStack() as stack:
        one_pass: OnePass | None = None
        checksum = decode_multihash(file.quick or file.checksum or "")
        known = Known(size=file.size or tiff.size, checksum=checksum)
        whole = tiff.size <= max(PIECE, wanted.size(tiff.image, places) * WHOLE)
        if whole and is_lossless(tiff.image) and wanted.in_order(tiff.image, places):
            one_pass = OnePass(
                room.archive, file.key, known=known, pool=room.reading, memory=memory
            )
        elif whole:
            copy = proven(room.archive, file.key, known=known, pool=room.reading)
            tiff = open_tiff(*stack.enter_context(copy))
        blocks = Blocks(
            tiff=tiff,
            bands=places,
            wanted=wanted,
            pool=room.bench.decoders,
            one_pass=one_pass,
            memory=memory,
        )
        yield _File(
            frame=frame,
            blocks=blocks,
            bands=tuple(packed for _, packed in bands),
            proof="files" if whole and checksum else "blocks",
        )
