"""The chips of a scene whose files lie on fast storage as they are: GeoTIFFs, cut when read.

Needs `chipmill[scenes]` (tifffile and imagecodecs), and only where such a megabatch is met.
"""

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import PackError, RequestError
from chipmill.formats.pack import BandPlace, PackBand, PackHeader, SceneFile
from chipmill.model.grid import nearest

if TYPE_CHECKING:
    from tifffile import TiffPage


class SceneFiles:
    """Pixels that are decoded out of the blocks that a chip lies in; safe for several threads."""

    def __init__(self, folder: Path, header: PackHeader, places: NDArray[np.uint16]) -> None:
        """Open the files.

        Args:
            folder: Where they lie.
            header: The pack's.
            places: Row and column of each chip, shape (chips, 2).

        Raises:
            PackError: A file is not there, has another size, or is no TIFF.
            RequestError: The packages that read it are not installed.
        """
        self._header, self._places = header, places
        self._files = [_File(folder, file) for file in header.files]

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        """Fill the parts; see `Pixels`."""
        if not wait:
            return False
        for part in parts:
            for band, place in zip(self._header.bands, self._header.places, strict=True):
                if start <= band.start < start + len(part):
                    out = part[band.start - start :][: band.size]
                    self._cut(chip, band, place, out.view(band.dtype).reshape(band.shape))
            start += len(part)
        return True

    def _cut(self, chip: int, band: PackBand, place: BandPlace, out: NDArray[Any]) -> None:
        y, x = (
            self._pixels(int(position), band.shape[axis], place, axis)
            for axis, position in enumerate(self._places[chip])
        )
        file = self._files[place.file]
        if place.edge:
            file.fill(out, place, top=int(y[0]), left=int(x[0]))
            return
        around = np.empty((int(y[-1] - y[0]) + 1, int(x[-1] - x[0]) + 1), out.dtype)
        file.fill(around, place, top=int(y[0]), left=int(x[0]))
        out[...] = around[np.ix_(y - y[0], x - x[0])]

    def _pixels(self, position: int, edge: int, place: BandPlace, axis: int) -> NDArray[np.int64]:
        """Say which pixels of the file a chip has along an axis."""
        if place.edge:
            return position * edge + np.arange(edge)
        return nearest(
            position,
            size=self._header.chip_size,
            ratio=place.ratio[axis],
            limit=place.size[axis],
            inset=place.inset[axis],
        )


class _File:
    """One GeoTIFF: its header is read once, its blocks when they are needed."""

    def __init__(self, folder: Path, file: SceneFile) -> None:
        path = folder / file.file
        self._path = path
        try:
            from tifffile import TiffFile  # noqa: PLC0415  # an extra, of this form alone
        except ModuleNotFoundError as err:
            raise RequestError(
                f"{path.parent} was staged with the form `scenes`; install chipmill[scenes]"
            ) from err
        found = path.stat().st_size
        if found != file.size:
            raise PackError(
                f"{path} has {found} bytes where its pack says {file.size}; stage its megabatch "
                "again"
            )
        with TiffFile(path) as tiff:
            page = cast("TiffPage", tiff.pages[0])
            _ = page.decode  # made once, before several threads ask for it
        self._page = page
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def fill(self, out: NDArray[Any], place: BandPlace, *, top: int, left: int) -> None:
        """Copy the pixels of a band from (top, left) on into `out`, shape (y, x)."""
        page = self._page
        wide = page.imagewidth
        height, width = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, wide)
        )
        across, down = -(-wide // width), -(-page.imagelength // height)
        separate = page.samplesperpixel > 1 and page.planarconfig == 2  # noqa: PLR2004  # TIFF 6.0
        plane, sample = (place.index - 1, 0) if separate else (0, place.index - 1)
        bottom, right = top + out.shape[0], left + out.shape[1]
        for row in range(top // height, -(-bottom // height)):
            for col in range(left // width, -(-right // width)):
                number = plane * across * down + row * across + col
                y, x = row * height, col * width
                ys = slice(max(top, y), min(bottom, y + height))
                xs = slice(max(left, x), min(right, x + width))
                pixels = self._block(number)
                out[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left] = (
                    place.fill
                    if pixels is None
                    else pixels[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x, sample]
                )

    def _block(self, number: int) -> NDArray[Any] | None:
        """Read and decode a block, shape (y, x, samples); None: the file does not hold it."""
        page = self._page
        count = page.databytecounts[number]
        if not count:
            return None
        data = os.pread(self._file, count, page.dataoffsets[number])
        if len(data) < count:
            raise EOFError(f"{self._path} ends {count - len(data)} bytes too early")
        try:
            pixels, _, _ = page.decode(data, number)
        except Exception as err:  # a codec raises what it likes
            raise EOFError(f"a block of {self._path} is damaged ({err})") from err
        return None if pixels is None else pixels[0]
