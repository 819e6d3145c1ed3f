"""index: count the cloudy and the empty pixels of every chip of a scene, exactly."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import MissingError, SceneError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.formats.chip_index import ChipColumns, IndexedScene, encode_part, read_part
from chipmill.formats.item_reading import Json
from chipmill.io.raster import Raster, open_raster
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedFile, ArchivedScene
from chipmill.model.chip_shape import band_shapes
from chipmill.model.count import count_in_windows, nodata_mask
from chipmill.model.footprint import boxes, lonlat_corners, polygons
from chipmill.model.grid import ChipGrid, ratio, spans
from chipmill.model.quality import QualityRule
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor

log = logging.getLogger(__name__)

FILES_AT_ONCE = 4
Mask = Callable[[NDArray[Any]], tuple[NDArray[np.bool_], ...]]
"""Gives masks of shape (y, x) of pixels of shape (bands, y, x)."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to count in."""

    file: ArchivedFile
    indexes: tuple[int, ...]
    """Positions of its bands, counted from 1."""
    mask: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What indexing one scene did."""

    scene: SceneRef
    chips: int
    remainder: float
    """Share of the scene's pixels that belong to no chip."""
    fresh: bool
    """False: the part was there already, from the same inputs."""


def index_chips(scene: SceneRef, archive: Store, *, chip_size: int = 256) -> Indexed:
    """Count cloud and nodata of each chip and write the scene's part of the index.

    Raises:
        SceneError: The scene is smaller than a chip, its files do not align, or one is damaged.
    """
    raw = archive.get(layout.item_key(scene.collection, scene.item))
    rule = sensor(scene.collection).quality
    inputs = hashlib.sha256(raw + repr((rule, chip_size)).encode()).hexdigest()
    key = layout.part_key(chip_size, scene.collection, scene.item)
    with suppress(MissingError):
        known, _ = read_part(archive.get(key), where=archive.href(key))
        if known.inputs == inputs:
            return _indexed(scene, known, fresh=False)
    item = json.loads(raw)
    archived = read_archived(item, key_of=archive.key_of)
    chips = ChipGrid(grid=archived.finest.file.grid, size=chip_size)
    described, data = encode_part(
        _describe(archived, chips, assets=item["assets"], inputs=inputs),
        _columns(archived, chips, rule, archive),
    )
    archive.put(key, data)
    log.info("%s: %d chips indexed", scene, chips.rows * chips.cols)
    return _indexed(scene, described, fresh=True)


def _indexed(scene: SceneRef, part: IndexedScene, *, fresh: bool) -> Indexed:
    return Indexed(scene=scene, chips=part.rows * part.cols, remainder=part.remainder, fresh=fresh)


def _describe(
    scene: ArchivedScene, chips: ChipGrid, *, assets: Mapping[str, Json], inputs: str
) -> IndexedScene:
    return IndexedScene(
        collection=scene.ref.collection,
        item=scene.ref.item,
        item_key=layout.item_key(scene.ref.collection, scene.ref.item),
        datetime=scene.datetime,
        platform=scene.platform,
        gsd=scene.finest.gsd,
        bands=tuple(band.name for band in scene.bands),
        chip_size=chips.size,
        rows=chips.rows,
        cols=chips.cols,
        chip_bytes=sum(
            shape[0] * shape[1] * np.dtype(band.file.dtype).itemsize
            for band, shape in zip(scene.bands, band_shapes(scene, chips), strict=True)
        ),
        remainder=chips.remainder,
        assets=json.dumps(assets),
        checksums=tuple(sorted(asset["file:checksum"] for asset in assets.values())),
        inputs=inputs,
    )


def _columns(
    scene: ArchivedScene, chips: ChipGrid, rule: QualityRule | None, archive: Store
) -> ChipColumns:
    """Count in the quality band and in every data file; nodata is the worst of them."""
    jobs = [_Job(file, indexes, _empty(file)) for file, indexes in _data_files(scene)]
    if rule:
        if scene.quality is None:
            raise SceneError(f"the archived item of {scene.ref} has no quality file; rewrite it")
        jobs.append(_Job(scene.quality, (1,), _judged(rule)))
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        fractions = list(pool.map(partial(_fractions, chips=chips, archive=archive), jobs))
    corners = lonlat_corners(chips)
    cloud = fractions[-1][1] if rule else np.zeros(chips.rows * chips.cols, np.float32)
    return ChipColumns(
        cloud_fraction=cloud,
        nodata_fraction=np.max([each[0] for each in fractions], axis=0),
        boxes=boxes(corners),
        polygons=polygons(corners),
    )


def _data_files(scene: ArchivedScene) -> list[tuple[ArchivedFile, tuple[int, ...]]]:
    """List the files of the data bands, each once, with the positions of its bands."""
    by_key = sorted(scene.bands, key=lambda band: band.file.key)
    return [
        (bands[0].file, tuple(sorted(band.index for band in bands)))
        for bands in (list(group) for _, group in groupby(by_key, lambda band: band.file.key))
    ]


def _empty(file: ArchivedFile) -> Mask:
    return lambda pixels: (nodata_mask(pixels, file.nodata),)


def _judged(rule: QualityRule) -> Mask:
    return lambda pixels: rule.masks(pixels[0])


def _fractions(job: _Job, *, chips: ChipGrid, archive: Store) -> list[NDArray[np.float32]]:
    """Give for each mask its share of the pixels of each chip, in the file's own pixels.

    Returns:
        Arrays of shape (rows * cols,), row-major.
    """
    grid = job.file.grid
    scale = ratio(grid, fine=chips.grid, where=f"{job.file.key} and the finest band")
    down = spans(chips.rows, size=chips.size, ratio=scale.y, limit=grid.height)
    across = spans(chips.cols, size=chips.size, ratio=scale.x, limit=grid.width)
    with open_raster(archive, job.file.key) as raster:
        rows = [_row(raster, job, span, across) for span in down]
    counts = np.stack(rows, axis=1)  # (masks, rows, cols)
    pixels = np.diff(down, axis=1) * np.diff(across, axis=1).T  # (rows, cols)
    return [(count / pixels).astype(np.float32).reshape(-1) for count in counts]


def _row(
    raster: Raster, job: _Job, span: NDArray[np.int64], across: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count one row of chips: shape (masks, cols). Memory holds the pixels of this row only."""
    pixels = raster.rows(int(span[0]), int(span[1]), bands=job.indexes)
    return np.stack([count_in_windows(each, across) for each in job.mask(pixels)])
