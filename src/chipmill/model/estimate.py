"""What an ingest will need, before anything is copied."""

import math
from dataclasses import dataclass

from chipmill.model.choice import Choice
from chipmill.model.footprint import METRES_PER_DEGREE
from chipmill.model.scene import BBox

PART = 5 * 2**20
"""Bytes of one part of a multipart write, as the archive writes them."""
_DOCUMENTS = 4
"""Objects of a scene beside its assets: the catalogue's document, the record, the item, the part of
the index."""
_LISTS = 9
"""Objects of an ingest: four of the scene list, four of the snapshot, the collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneNeed:
    """What one scene needs."""

    chips: int
    sizes: dict[str, int | None]
    """Bytes of each asset by key; None where its item does not state them."""
    chip_bytes: int
    """Of one chip with all bands, uncompressed, as on fast storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What an ingest needs."""

    scenes: int
    chips: int
    assets: int
    bytes: int
    estimated: int
    """How many assets do not state their size and are taken for the mean of a sample."""
    unknown: int
    """How many assets have no size at all: neither stated nor in the sample."""
    fast: int
    """Bytes of all chips on fast storage: no more than that, as cloudy chips stay away."""
    largest_scene: int
    """Bytes of all chips of the largest scene on fast storage."""
    objects: int
    """Objects that the archive gets."""
    writes: int
    """PUT requests: one an object, and one a part for what is larger than a part."""
    reads: int
    """GET requests at the provider, one an asset."""


def chips_of(
    shape: tuple[int, int] | None, *, bbox: BBox | None, gsd: float, chip_size: int
) -> int:
    """Count the chips of a scene.

    Args:
        shape: Rows and columns of the finest grid, where the item states them.
        bbox: Taken for the size of the scene where it does not: no less than the scene. None: the
            item states none, and the scene counts for nothing.
        gsd: Metres of a pixel of the finest band; 0: nobody states it.
        chip_size: Edge of a chip in pixels.
    """
    if shape is None:
        west, south, east, north = bbox or (0.0, 0.0, 0.0, 0.0)
        across = (east - west) % 360 * math.cos(math.radians((south + north) / 2))
        rows, cols = ((north - south) * METRES_PER_DEGREE, across * METRES_PER_DEGREE)
        shape = (int(rows / gsd), int(cols / gsd)) if gsd else (0, 0)
    return (shape[0] // chip_size) * (shape[1] // chip_size)


def chip_bytes(choice: Choice, *, chip_size: int, item_size: int) -> int:
    """Count the bytes of a chip: each band in its own resolution.

    Args:
        choice: The bands.
        chip_size: Edge of a chip in pixels of the finest band.
        item_size: Bytes of a pixel.
    """
    finest = min(source.band.gsd for source in choice.bands)
    return sum(
        _edge(source.band.gsd, finest, chip_size) ** 2 * item_size for source in choice.bands
    )


def _edge(gsd: float, finest: float, chip_size: int) -> int:
    """Tell the edge of a chip in a band: coarser pixels that do not fall evenly are repeated."""
    whole = round(gsd / finest) if finest else 1
    even = finest and whole * finest == gsd and chip_size % whole == 0
    return chip_size // whole if even else chip_size


def total(scenes: list[SceneNeed], sample: dict[str, float]) -> Need:
    """Add up what scenes need.

    Args:
        scenes: All of them.
        sample: By key of the asset the mean bytes of those that were asked for.
    """
    stated = [size for scene in scenes for size in scene.sizes.values() if size is not None]
    silent = [key for scene in scenes for key, size in scene.sizes.items() if size is None]
    guessed = [int(sample[key]) for key in silent if key in sample]
    sizes = stated + guessed
    assets = len(stated) + len(silent)
    return Need(
        scenes=len(scenes),
        chips=sum(scene.chips for scene in scenes),
        assets=assets,
        bytes=sum(sizes),
        estimated=len(guessed),
        unknown=len(silent) - len(guessed),
        fast=sum(scene.chips * scene.chip_bytes for scene in scenes),
        largest_scene=max((scene.chips * scene.chip_bytes for scene in scenes), default=0),
        objects=assets + _DOCUMENTS * len(scenes) + _LISTS,
        # The record of a scene is written after each asset.
        writes=2 * assets + _DOCUMENTS * len(scenes) + _LISTS + sum(size // PART for size in sizes),
        reads=assets,
    )
