"""Gathering: chips from their packs into one array, each copied once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.pack import PackBand, band_view
from chipmill.train.batch import Batch, Position
from chipmill.train.folder import MegabatchFolder
from chipmill.train.packs import FACTS, About
from chipmill.train.resize import to_finest
from chipmill.train.view import Resize, View


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


def gather(folder: MegabatchFolder, job: Job, view: View) -> Batch:
    """Read the chips of a share.

    Bands of one data type keep it, others are promoted to one that holds all of them.

    Raises:
        PackError: A pack is damaged; the message names the file or the chip.
        RequestError: A band that is asked for is not there.
    """
    manifest = folder.manifest
    group = manifest.groups[manifest.packs[int(job.scene[0])].group]
    chosen = view.chosen(group.bands, where=group.collection)
    bands, first, stop = _span([group.bands[number] for number in chosen])
    size = manifest.chip_size
    pixels = np.empty((len(job.scene), len(bands), size, size), view.dtype(bands))
    record = np.empty(stop - first, np.uint8)
    alike = _alike(bands, size=size, dtype=pixels.dtype)
    known: list[About] = []
    for index, chip, out in zip(job.scene.tolist(), job.chip.tolist(), pixels, strict=True):
        pack = folder.pack(index)
        pack.read(chip, out.reshape(-1).view(np.uint8) if alike else record, start=first)
        if not alike:
            _spread(record, bands, out=out, resize=view.resize)
        known.append(pack.about(chip))
    facts = np.stack([chip.facts[:, chosen] for chip in known], axis=1)  # (facts, chips, bands)
    batch = Batch(
        chip_ids=tuple(chip.chip_id for chip in known),
        bands=tuple(band.name for band in bands),
        collection=group.collection,
        plan=manifest.plan,
        position=job.position,
        after=job.after,
        manifest=folder.digest,
        stalled=job.stalled,
        pixels=pixels,
        **dict(zip(FACTS, facts, strict=True)),
        latlon=np.array([chip.latlon for chip in known]),
        time=np.array([chip.time for chip in known], "datetime64[us]"),
        cloud_fraction=np.array([chip.cloud_fraction for chip in known], np.float32),
    )
    return batch if view.transform is None else view.transform(batch)


def _span(bands: list[PackBand]) -> tuple[tuple[PackBand, ...], int, int]:
    """Find the bytes of a chip that hold some bands, and the places of the bands in them."""
    first = min(band.start for band in bands)
    stop = max(band.start + band.size for band in bands)
    moved = tuple(band.model_copy(update={"start": band.start - first}) for band in bands)
    return moved, first, stop


def _spread(
    record: NDArray[np.uint8],
    bands: tuple[PackBand, ...],
    *,
    out: NDArray[np.generic],
    resize: Resize,
) -> None:
    """Fill `out`, shape (bands, y, x), from the bytes of one chip."""
    for number, band in enumerate(bands):
        values = band_view(record[np.newaxis], band)[0]
        out[number] = to_finest(values, size=out.shape[-1], resize=resize)


def _alike(bands: tuple[PackBand, ...], *, size: int, dtype: np.dtype[np.generic]) -> bool:
    """Say whether a chip's bytes in the pack are just the bytes of the array."""
    step = size * size * dtype.itemsize
    return all(
        band.shape == (size, size) and band.dtype == dtype.name and band.start == step * number
        for number, band in enumerate(bands)
    )
