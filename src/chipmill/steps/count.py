"""count: cloud and nodata of every chip of a scene, wherever its files lie.

Each file is gone through once, in batches of blocks. Several threads take them side by side where
that saves time: where a store elsewhere is waited for, or much is to be decoded. What tells nodata
in a file of data, cheapest first: a mask of the file's own; else its alpha band, and the nodata
value, and NaN in floats; else nothing, and then no pixel is read. A block that the file does not
hold is nodata.
"""

import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import SceneError
from chipmill.io.blocks import Layer, Spot
from chipmill.io.place import Place
from chipmill.io.remote import open_file
from chipmill.io.tiff import Tiff, tiff_in
from chipmill.io.tiff_full import is_full
from chipmill.model.archived import ArchivedFile, ArchivedScene
from chipmill.model.count import Masks, Tally, Windows, nodata_masks
from chipmill.model.grid import ChipGrid
from chipmill.model.judge import Judge, judge
from chipmill.model.quality import QualityRule
from chipmill.model.scratch import Scratch
from chipmill.steps.blocks import check_header

AT_ONCE = 4
"""Batches of a scene that are read from elsewhere and decoded side by side."""
_LITTLE = 2**28
"""Bytes of pixels of local files that one thread decodes sooner than several have shared them out:
some tenths of a second."""
MOST_STRANGE = 0.05
"""Share of pixels that a quality rule cannot be meant for, above which a band is another one. The
recorded scenes have none of their own product, and 40 % and more of another."""
_Job = tuple[ArchivedFile, tuple[int, ...]]
"""A file, and the positions of its bands."""
_SAMPLE = 32
"""Of so many rows one tells what a band is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Cloud and nodata of the chips of a scene: shape (rows, cols), in [0, 1]."""

    cloud: NDArray[np.float32]
    nodata: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One layer of one file, which is gone through once."""

    tiff: Tiff
    layer: Layer
    bands: tuple[int, ...]
    tells: Masks | None
    """None: no pixel can be nodata, only blocks that are not there."""
    fills: tuple[float, ...]
    """What stands for the pixels of each band where the file does not hold a block."""
    tally: Tally
    scratch: Scratch
    judge: Judge | None = None
    """Of a quality band."""
    sampled: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """How many pixels were strange, of how many."""

    @property
    def is_needless(self) -> bool:
        """Tell whether no pixel can be nodata, and every block is there."""
        return self.tells is None and self.layer.is_whole(self.bands)

    @property
    def size(self) -> int:
        """Bytes of the pixels that are looked at."""
        looks = 0 if self.tells is None else len(self.bands)
        return math.prod(self.tally.reach) * looks * self.layer.dtype.itemsize

    def batches(self) -> list[list[Spot]]:
        """List what is to be read; blocks that belong to no chip are not."""
        if self.is_needless:
            return []
        spots = self.layer.spots(self.bands, reach=self.tally.reach)
        if self.tells is not None:
            return list(self.layer.batches(spots, self.bands))
        for spot in spots:
            if not self.layer.is_there(spot, self.bands):
                self.tally.add_whole(spot.shape, top=spot.top, left=spot.left)
        return []

    def count(self, batch: list[Spot]) -> None:
        """Read a batch and count its pixels."""
        if self.tells is None:
            return
        for spot, found in self.tiff.read(self.layer, batch, self.bands, self.scratch):
            pixels = tuple(
                np.full(spot.shape, fill, self.layer.dtype) if band is None else band
                for band, fill in zip(found, self.fills, strict=True)
            )
            self.tally.add(pixels, self.tells, top=spot.top, left=spot.left)
            if self.judge and self.judge.strange:
                self.sampled.append(self.judge.strange(pixels[0][::_SAMPLE]))


def count_chips(
    scene: ArchivedScene,
    chips: ChipGrid,
    *,
    rule: QualityRule | None,
    alpha: bool,
    place: Callable[[str], Place],
) -> Shares:
    """Count in the quality band and in every data file, in the file's own pixels.

    Args:
        scene: The scene; its files are found by their keys.
        chips: The chips of its finest grid.
        rule: How the quality band is read; None: there is none.
        alpha: Whether an alpha band masks the others.
        place: Gives the place of a key.

    Returns:
        Cloud of the quality band, and nodata of the file that has most of it.

    Raises:
        SceneError: A file is damaged or does not align, or the quality band is another one.
        TransientError: A store did not answer.
    """
    jobs = _data_files(scene)
    if rule and scene.quality:
        jobs.append((scene.quality, (1,)))
    keys = {file.grid: file.key for file, _ in reversed(jobs)}
    windows_of = {
        grid: Windows.of(chips, grid=grid, where=f"{key} and the finest band")
        for grid, key in keys.items()
    }

    scratch = Scratch()

    def opened(job: _Job) -> _Pass | None:
        file, bands = job
        judged = rule if file is scene.quality else None
        shape, windows = (file.grid.height, file.grid.width), windows_of[file.grid]
        with open_file(*place(file.key)) as handle:
            if file.nodata is None and not (judged or alpha) and not _may_be_nan(file):
                if is_full(handle, shape=shape, bands=max(bands)):
                    return None
                handle.seek(0)
            tiff = tiff_in(handle, *place(file.key))
        check_header(tiff, file, bands)
        if judged:
            return _judging(tiff, windows, judged, scratch)
        return _emptiness(tiff, file, bands, windows, scratch, alpha=alpha)

    near = all(place(file.key).is_near for file, _ in jobs)
    passes = _gone_through(jobs, opened, near=near)
    worst = _worst(passes, (chips.rows, chips.cols))
    if not rule:
        return Shares(cloud=np.zeros_like(worst), nodata=worst)
    quality = passes[-1]
    _refuse_another_band(quality, rule)
    empty, either = quality.tally.chips()
    return Shares(cloud=quality.tally.share(either - empty), nodata=worst)


def _gone_through(
    jobs: list[_Job], opened: Callable[[_Job], _Pass | None], *, near: bool
) -> list[_Pass]:
    """Open all files and take all their batches, several side by side where that saves time.

    Files in which no pixel is nodata have nothing to go through.
    """
    with ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1) if near else AT_ONCE) as pool:
        try:
            found = (map if near else pool.map)(opened, jobs)
            passes = [each for each in found if each is not None]
            work = [(each, batch) for each in passes for batch in each.batches()]
            little = near and sum(each.size for each in passes) <= _LITTLE
            deque((map if little else pool.map)(_count, work), maxlen=0)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a damaged scene is not gone through to its end
            raise
    return passes


def _count(work: tuple[_Pass, list[Spot]]) -> None:
    work[0].count(work[1])


def _worst(passes: list[_Pass], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Give the nodata of the file that has most of it, chip by chip."""
    worst = np.zeros(shape, np.float32)
    for each in passes:
        if not each.is_needless:
            np.maximum(worst, each.tally.share(each.tally.chips()[0]), out=worst)
    return worst


def _data_files(scene: ArchivedScene) -> list[_Job]:
    """List the files of the data bands, each once, with the positions of its bands."""
    by_key = sorted(scene.bands, key=lambda band: band.file.key)
    return [
        (bands[0].file, tuple(sorted({band.index for band in bands})))
        for bands in (list(group) for _, group in groupby(by_key, lambda band: band.file.key))
    ]


def _judging(tiff: Tiff, windows: Windows, rule: QualityRule, scratch: Scratch) -> _Pass:
    fast = judge(rule, tiff.image.dtype, scratch)
    return _Pass(
        tiff=tiff,
        layer=tiff.image,
        bands=(1,),
        tells=fast.masks,
        fills=(tiff.fill,),
        tally=Tally(windows, masks=2, scratch=scratch),
        scratch=scratch,
        judge=fast,
    )


def _emptiness(
    tiff: Tiff,
    file: ArchivedFile,
    bands: tuple[int, ...],
    windows: Windows,
    scratch: Scratch,
    *,
    alpha: bool,
) -> _Pass:
    """Find the cheapest way to tell the nodata pixels of a file of data."""
    made = partial(
        _Pass, tiff=tiff, tally=Tally(windows, masks=1, scratch=scratch), scratch=scratch
    )
    if tiff.mask:
        return made(layer=tiff.mask, bands=(1,), tells=_zero, fills=(0,))
    tells = nodata_masks(file.nodata, tiff.image.dtype)
    stated = math.nan if file.nodata is None and _may_be_nan(file) else file.nodata
    fills = (0 if stated is None or tells is None else stated,) * len(bands)
    if alpha and tiff.alpha and tiff.alpha not in bands:
        bands, fills, tells = (*bands, tiff.alpha), (*fills, 0), _alpha_or(tells)
    return made(layer=tiff.image, bands=bands, tells=tells, fills=fills)


def _may_be_nan(file: ArchivedFile) -> bool:
    return np.dtype(file.dtype).kind == "f"


def _zero(bands: tuple[NDArray[Any], ...], out: NDArray[np.bool_]) -> None:
    np.equal(bands[0], 0, out=out[0])


def _alpha_or(tells: Masks | None) -> Masks:
    """Tell where the last band, an alpha band, is 0, or where the others are nodata."""
    if tells is None:
        return lambda bands, out: _zero(bands[-1:], out)

    def either(bands: tuple[NDArray[Any], ...], out: NDArray[np.bool_]) -> None:
        tells(bands[:-1], out)
        np.logical_or(out[0], np.equal(bands[-1], 0), out=out[0])

    return either


def _refuse_another_band(quality: _Pass, rule: QualityRule) -> None:
    """Refuse a quality band that the rule cannot be meant for."""
    strange = sum(count for count, _ in quality.sampled)
    strange /= max(1, sum(of for _, of in quality.sampled))
    if strange > MOST_STRANGE:
        raise SceneError(
            f"{strange:.0%} of the pixels of {quality.tiff.key} have none of "
            f"{', '.join(rule.always)}: it is another quality band; drop the scene"
        )
