"""Samples of a WebDataset: members of a tar file in a row that share their name to its first dot.

A chip is one `.npy` for each set of bands of one size and data type (`pixels.npy` is the first,
then `pixels1.npy`, …) and a `.json` of all that is known of it. The bytes of a file depend on its
chips alone: no time, no owner, no compression. (webdataset.github.io, "The WebDataset Format".)
"""

import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.layout import segment
from chipmill.formats.pack import PackBand, PackHeader, band_view
from chipmill.formats.pack_index import PackEntry

END = bytes(2 * tarfile.BLOCKSIZE)
"""What ends a tar file."""


def sample_key(entry: PackEntry, chip: int) -> str:
    """Name a sample: folders may have dots in their names, the sample itself has none."""
    header = entry.header
    place = f"{entry.row[chip]}-{entry.col[chip]}"
    return f"{segment(header.collection)}/{segment(header.scene)}/{place}"


def members(header: PackHeader) -> dict[str, tuple[PackBand, ...]]:
    """Divide the bands of a pack into arrays: name of the member, and its bands in order."""
    alike: dict[tuple[object, ...], list[PackBand]] = {}
    for band in sorted(header.bands, key=lambda band: -band.shape[0]):
        alike.setdefault((band.shape, band.dtype), []).append(band)
    return {
        f"pixels{number or ''}.npy": tuple(bands) for number, bands in enumerate(alike.values())
    }


def sample(entry: PackEntry, chip: int, record: NDArray[np.uint8]) -> Iterator[bytes]:
    """Write one chip as members of a tar file.

    Args:
        entry: Its pack.
        chip: Row of the chip in the pack.
        record: The chip's bytes in the pack, shape (bytes,).
    """
    key = sample_key(entry, chip)
    arrays = members(entry.header)
    for name, bands in arrays.items():
        stacked = np.stack([band_view(record[np.newaxis], band)[0] for band in bands])
        file = BytesIO()
        np.lib.format.write_array(file, stacked, allow_pickle=False)
        yield _member(f"{key}.{name}", file.getvalue())
    said = json.dumps(_about(entry, chip, arrays), ensure_ascii=False)
    yield _member(f"{key}.json", said.encode())


def _about(entry: PackEntry, chip: int, arrays: dict[str, tuple[PackBand, ...]]) -> dict[str, Any]:
    header = entry.header
    return {
        "chip_id": entry.chip_id(chip),
        "collection": header.collection,
        "scene": header.scene,
        "row": int(entry.row[chip]),
        "col": int(entry.col[chip]),
        "datetime": header.datetime.isoformat().replace("+00:00", "Z"),
        "platform": header.platform,
        "lat": float(entry.lat[chip]),
        "lon": float(entry.lon[chip]),
        "gsd": header.gsd,
        "cloud_fraction": float(entry.cloud_fraction[chip]),
        "nodata_fraction": float(entry.nodata_fraction[chip]),
        "decibels": header.normalization.decibels,
        "bands": {
            name: [band.model_dump(exclude={"start", "shape", "dtype"}) for band in bands]
            for name, bands in arrays.items()
        },
    }


def _member(name: str, data: bytes) -> bytes:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    padding = -len(data) % tarfile.BLOCKSIZE
    return about.tobuf(tarfile.PAX_FORMAT) + data + bytes(padding)
