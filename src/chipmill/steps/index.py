"""index: count the cloudy and the empty pixels of every chip of a scene, exactly."""

import hashlib
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby

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
from chipmill.model.quality import QualityRule, told_by
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor

log = logging.getLogger(__name__)

FILES_AT_ONCE = 4
LATER = "normalization_"
"""Begin of the properties that are written into an item when its chips are counted already."""
MOST_STRANGE = 0.05
"""Share of pixels that a quality rule cannot be meant for, above which a band is another one. The
recorded scenes have none of their own product, and 40 % and more of another."""
_SAMPLE = 8
"""Every eighth pixel of a row and a column tells what a band is."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to count in."""

    file: ArchivedFile
    indexes: tuple[int, ...]
    """Positions of its bands, counted from 1."""
    rule: QualityRule | None = None
    """Of a quality band; None: a file of data."""
    alpha: bool = False
    """Whether an alpha band of it is a mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What indexing one scene did."""

    scene: SceneRef
    chips: int
    remainder: float
    """Share of the scene's pixels that belong to no chip."""
    fresh: bool
    """False: the part was there already, from the same inputs."""


def index_chips(
    scene: SceneRef,
    archive: Store,
    *,
    chip_size: int = 256,
    cloud_classes: tuple[str, ...] = (),
) -> Indexed:
    """Count cloud and nodata of each chip and write the scene's part of the index.

    Args:
        scene: A scene whose item is rewritten.
        archive: Where it lies.
        chip_size: Edge of a chip in pixels of the scene's finest grid.
        cloud_classes: Flags of the quality band that count as cloud; empty: the sensor's.

    Raises:
        SceneError: The scene is smaller than a chip, its files do not align, one is damaged, or the
            quality band is not what the sensor reads.
        RequestError: The sensor has no such flag.
    """
    raw = archive.get(layout.item_key(scene.collection, scene.item))
    item = json.loads(raw)
    archived = read_archived(item, key_of=archive.key_of)
    rule = _rule(archived, cloud_classes)
    inputs = _inputs(item, rule, chip_size)
    key = layout.part_key(chip_size, scene.collection, scene.item)
    with suppress(MissingError):
        known, _ = read_part(archive.get(key), where=archive.href(key))
        if known.inputs == inputs:
            return _indexed(scene, known, fresh=False)
    chips = ChipGrid(grid=archived.finest.file.grid, size=chip_size)
    described, data = encode_part(
        _describe(archived, chips, assets=item["assets"], inputs=inputs),
        _columns(archived, chips, rule, archive),
    )
    archive.put(key, data)
    log.info("%s: %d chips indexed", scene, chips.rows * chips.cols)
    return _indexed(scene, described, fresh=True)


def _rule(scene: ArchivedScene, cloud: tuple[str, ...]) -> QualityRule | None:
    """Give the sensor's rule, with the flags where the item says they are."""
    rule = sensor(scene.ref.collection).quality
    if rule is None:
        return None
    if scene.quality is None:
        raise SceneError(f"the archived item of {scene.ref} has no quality file; rewrite it")
    told, _ = told_by(rule, scene.quality.flags)
    return told.counting(cloud)


def _inputs(item: Json, rule: QualityRule | None, chip_size: int) -> str:
    """Name all that a part depends on: the item but for what is written into it later, the rule."""
    properties = {
        name: value for name, value in item["properties"].items() if not name.startswith(LATER)
    }
    said = json.dumps({**item, "properties": properties}, sort_keys=True)
    return hashlib.sha256(f"{said}{rule!r}{chip_size}".encode()).hexdigest()


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
    alpha = sensor(scene.ref.collection).alpha
    jobs = [_Job(file, indexes, alpha=alpha) for file, indexes in _data_files(scene)]
    if rule and scene.quality:
        jobs.append(_Job(scene.quality, (1,), rule))
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


def _fractions(job: _Job, *, chips: ChipGrid, archive: Store) -> list[NDArray[np.float32]]:
    """Give for each mask its share of the pixels of each chip, in the file's own pixels.

    Returns:
        Arrays of shape (rows * cols,), row-major: nodata, and of a quality band cloud.
    """
    grid = job.file.grid
    scale = ratio(grid, fine=chips.grid, where=f"{job.file.key} and the finest band")
    down = spans(chips.rows, size=chips.size, ratio=scale.y, limit=grid.height)
    across = spans(chips.cols, size=chips.size, ratio=scale.x, limit=grid.width)
    with open_raster(archive, job.file.key) as raster:
        if job.rule is None and not _may_be_empty(raster, job):
            return [np.zeros(chips.rows * chips.cols, np.float32)]
        strange: list[float] = []
        rows = [_row(raster, job, span, across, strange) for span in down]
    if job.rule and np.mean(strange) > MOST_STRANGE:
        raise SceneError(
            f"{np.mean(strange):.0%} of the pixels of {job.file.key} have none of "
            f"{', '.join(job.rule.always)}: it is another quality band; drop the scene"
        )
    counts = np.stack(rows, axis=1)  # (masks, rows, cols)
    pixels = np.diff(down, axis=1) * np.diff(across, axis=1).T  # (rows, cols)
    return [(count / pixels).astype(np.float32).reshape(-1) for count in counts]


def _may_be_empty(raster: Raster, job: _Job) -> bool:
    """Tell from the header whether a pixel can be nodata at all; if not, none needs decoding."""
    return job.file.nodata is not None or raster.header.masked or _alpha(raster, job) is not None


def _alpha(raster: Raster, job: _Job) -> int | None:
    """Give the alpha band that masks the others: never one that is read as data."""
    alpha = raster.header.alpha
    return alpha if job.alpha and alpha not in job.indexes else None


def _row(
    raster: Raster,
    job: _Job,
    span: NDArray[np.int64],
    across: NDArray[np.int64],
    strange: list[float],
) -> NDArray[np.int64]:
    """Count one row of chips: shape (masks, cols). Memory holds the pixels of this row only."""
    first, last = int(span[0]), int(span[1])
    if job.rule is None:
        masks = (_empty(raster, job, first, last),)
    else:
        (pixels,) = raster.rows(first, last, bands=job.indexes)
        strange.append(job.rule.strange(pixels[::_SAMPLE, ::_SAMPLE]))
        masks = job.rule.masks(pixels)
    return np.stack([count_in_windows(mask, across) for mask in masks])


def _empty(raster: Raster, job: _Job, first: int, last: int) -> NDArray[np.bool_]:
    """Tell nodata of whole pixel rows: by the nodata value, the alpha band and the file's mask."""
    alpha = _alpha(raster, job)
    bands = job.indexes if alpha is None else (*job.indexes, alpha)
    pixels = raster.rows(first, last, bands=bands)
    empty = nodata_mask(pixels[: len(job.indexes)], job.file.nodata)
    if alpha is not None:
        empty |= pixels[-1] == 0
    if raster.header.masked:
        empty |= ~raster.valid_rows(first, last)
    return empty
