"""Gathering: chips from their packs into one array, each copied once."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.pack import PackBand, band_view
from chipmill.train.batch import Batch, Position
from chipmill.train.folder import MegabatchFolder
from chipmill.train.packs import FACTS, About


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One rank's share of one minibatch, before its pixels are read."""

    scene: NDArray[np.integer]
    """Pack of each chip, shape (chips,); all of one group."""
    chip: NDArray[np.integer]
    """Row of each chip in its pack, shape (chips,)."""
    position: Position
    after: Position
    stalled: float


def gather(folder: MegabatchFolder, job: Job) -> Batch:
    """Read the chips of a share.

    Bands of one data type keep it, others are promoted to one that holds all of them.

    Raises:
        PackError: A pack is damaged; the message names the file or the chip.
    """
    manifest = folder.manifest
    group = manifest.groups[manifest.packs[int(job.scene[0])].group]
    size, bands = manifest.chip_size, group.bands
    pixels = np.empty((len(job.scene), len(bands), size, size), _dtype(bands))
    record = np.empty(sum(band.size for band in bands), np.uint8)
    alike = _alike(bands, size=size, dtype=pixels.dtype)
    known: list[About] = []
    for index, chip, out in zip(job.scene.tolist(), job.chip.tolist(), pixels, strict=True):
        pack = folder.pack(index)
        pack.read(chip, out.reshape(-1).view(np.uint8) if alike else record)
        if not alike:
            _spread(record, bands, out=out)
        known.append(pack.about(chip))
    facts = np.stack([chip.facts for chip in known], axis=1)  # (facts, chips, bands)
    return Batch(
        chip_ids=tuple(chip.chip_id for chip in known),
        bands=tuple(band.name for band in bands),
        collection=group.collection,
        plan=manifest.plan,
        position=job.position,
        after=job.after,
        manifest=folder.digest,
        decibels=group.normalization.decibels,
        stalled=job.stalled,
        pixels=pixels,
        **dict(zip(FACTS, facts, strict=True)),
        latlon=np.array([chip.latlon for chip in known]),
        time=np.array([chip.time for chip in known], "datetime64[us]"),
        cloud_fraction=np.array([chip.cloud_fraction for chip in known], np.float32),
    )


def _spread(
    record: NDArray[np.uint8], bands: tuple[PackBand, ...], *, out: NDArray[np.generic]
) -> None:
    """Fill `out`, shape (bands, y, x), from the bytes of one chip."""
    for number, band in enumerate(bands):
        out[number] = to_finest(band_view(record[np.newaxis], band)[0], size=out.shape[-1])


def to_finest(band: NDArray[np.generic], *, size: int) -> NDArray[np.generic]:
    """Repeat the pixels of a coarser band on the finest grid, by the nearest that is not after.

    Pixel i of the result, on either axis, is pixel floor(i * coarse / size) of the band: at whole
    ratios each pixel is repeated, and the upper left corners meet at all ratios.

    Args:
        band: Shape (y, x).
        size: Edge of the result in pixels.

    Returns:
        Shape (size, size); the band itself where it has that shape.
    """
    if band.shape == (size, size):
        return band
    rows, columns = (np.arange(size) * coarse // size for coarse in band.shape)
    return cast("NDArray[np.generic]", band.take(columns, axis=1).take(rows, axis=0))


def _dtype(bands: tuple[PackBand, ...]) -> np.dtype[np.generic]:
    """Find the smallest data type that holds the values of all bands."""
    found: object = np.result_type(*(band.dtype for band in bands))
    return cast("np.dtype[np.generic]", found)


def _alike(bands: tuple[PackBand, ...], *, size: int, dtype: np.dtype[np.generic]) -> bool:
    """Say whether a chip's bytes in the pack are just the bytes of the array."""
    step = size * size * dtype.itemsize
    return all(
        band.shape == (size, size) and band.dtype == dtype.name and band.start == step * number
        for number, band in enumerate(bands)
    )
