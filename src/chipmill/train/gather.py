"""Gathering: chips from their packs into one array, each copied once."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from chipmill.train.batch import Batch, Position
from chipmill.train.folder import MegabatchFolder
from chipmill.train.memory import Memory
from chipmill.train.mixed import MixedBatch
from chipmill.train.normalize import normalize_chip
from chipmill.train.packs import FACTS, Pack
from chipmill.train.route import Desk, Route, find_route
from chipmill.train.view import View

IN_FLIGHT = 16
"""Chips that are read at the same time, where they are not in memory, to keep a disk busy."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What becomes of each chip of a group."""

    route: Route
    chosen: tuple[int, ...]
    """Places of the bands in the pack."""
    bands: tuple[str, ...]
    decibels: bool
    normalize: bool


class Gatherer:
    """Reads shares of minibatches; safe for several threads."""

    def __init__(self, view: View, memory: Memory) -> None:
        """Read chips as `view` says, into arrays of `memory`."""
        self._view = view
        self._memory = memory
        self._readers = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chipmill-read")
        self._mine = threading.local()

    def close(self) -> None:
        """Begin no other read."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def gather(self, folder: MegabatchFolder, job: Job) -> Batch | MixedBatch:
        """Read the chips of a share; those of several groups, of a mixed minibatch, in parts.

        Raises:
            PackError: A pack is damaged; the message names the file or the chip.
            RequestError: A band that is asked for is not there, or has no normalisation.
        """
        if not folder.manifest.mixed:
            return self._group(folder, job)
        scenes: list[int] = job.scene.tolist()
        groups = np.array([folder.manifest.packs[index].group for index in scenes], np.int64)
        places = tuple(np.flatnonzero(groups == group) for group in np.unique(groups).tolist())
        parts = tuple(
            self._group(folder, replace(job, scene=job.scene[some], chip=job.chip[some]))
            for some in places
        )
        chip_ids = [""] * len(groups)
        for part, some in zip(parts, places, strict=True):
            for place, chip_id in zip(some.tolist(), part.chip_ids, strict=True):
                chip_ids[place] = chip_id
        return MixedBatch(
            chip_ids=tuple(chip_ids),
            plan=folder.manifest.plan,
            position=job.position,
            after=job.after,
            manifest=folder.digest,
            stalled=job.stalled,
            parts=parts,
            places=places,
        )

    def _group(self, folder: MegabatchFolder, job: Job) -> Batch:
        """Read chips of one group.

        Bands of one data type keep it, others are promoted to one that holds all of them.
        """
        manifest, view = folder.manifest, self._view
        group = manifest.groups[manifest.packs[int(job.scene[0])].group]
        chosen = view.chosen(group.bands, where=group.collection)
        bands = tuple(group.bands[number] for number in chosen)
        size, dtype = manifest.chip_size, view.dtype(bands)
        pixels = self._memory.empty((len(job.scene), len(bands), size, size), dtype)
        way = _Way(
            route=find_route(bands, size=size, dtype=dtype, resize=view.resize),
            chosen=chosen,
            bands=tuple(band.name for band in bands),
            decibels=group.normalization.decibels,
            normalize=view.normalize,
        )
        self._fill(folder, job, pixels, way)
        known = _known(folder, job, chosen)
        batch = Batch(
            chip_ids=known.chip_ids,
            bands=way.bands,
            collection=group.collection,
            plan=manifest.plan,
            position=job.position,
            after=job.after,
            manifest=folder.digest,
            decibels=way.decibels,
            normalized=view.normalize,
            stalled=job.stalled,
            pixels=pixels,
            **dict(zip(FACTS, known.facts, strict=True)),
            latlon=known.latlon,
            time=known.time,
            cloud_fraction=known.cloud_fraction,
        )
        return batch if view.transform is None else view.transform(batch)

    def _fill(self, folder: MegabatchFolder, job: Job, pixels: NDArray[Any], way: "_Way") -> None:
        """Copy what is in memory here, and have the rest read by many at the same time."""
        scenes: list[int] = job.scene.tolist()
        chips: list[int] = job.chip.tolist()
        desk = self._desk(way)
        for first in range(0, len(scenes), folder.keep_open):  # so many files may be open
            some = slice(first, first + folder.keep_open)
            opened = self._opened(folder, set(scenes[some]))
            slow: list[Future[None]] = []
            for index, chip, out in zip(scenes[some], chips[some], pixels[some], strict=True):
                pack = opened[index]
                if not _place(pack, chip, out, way, desk, wait=False):
                    slow.append(self._readers.submit(self._fetch, pack, chip, out, way))
            for one in slow:
                one.result()

    def _opened(self, folder: MegabatchFolder, indices: set[int]) -> dict[int, Pack]:
        """Give packs, and have those that are not open opened by many at the same time."""
        found = {index: folder.open_pack(index) for index in indices}
        missing = [index for index, pack in found.items() if pack is None]
        # A few at a time: where they are in memory, handing over is what takes longest.
        parts = [missing[first::IN_FLIGHT] for first in range(min(IN_FLIGHT, len(missing)))]

        def open_some(some: list[int]) -> None:
            found.update((index, folder.pack(index)) for index in some)

        for _ in self._readers.map(open_some, parts):
            pass
        return cast("dict[int, Pack]", found)

    def _fetch(self, pack: Pack, chip: int, out: NDArray[Any], way: "_Way") -> None:
        """Copy one chip, however long the disk takes."""
        _place(pack, chip, out, way, self._desk(way), wait=True)

    def _desk(self, way: "_Way") -> Desk:
        """Give this thread's own place for chips on their way."""
        mine = self._mine
        if getattr(mine, "way", None) is not way:
            scratch: NDArray[np.uint8] | None = getattr(mine, "scratch", None)
            if scratch is None or len(scratch) < way.route.scratch:
                scratch = mine.scratch = np.empty(way.route.scratch, np.uint8)
            mine.way, mine.desk = way, Desk(way.route, scratch)
        return mine.desk


def _place(pack: Pack, chip: int, out: NDArray[Any], way: _Way, desk: Desk, *, wait: bool) -> bool:
    """Copy one chip into its place of the array; say whether that could be done."""
    done = pack.read(chip, desk.parts(out), start=way.route.start, wait=wait)
    if done:
        desk.spread(out)
    if done and way.normalize:
        facts = pack.facts[:, way.chosen]
        normalize_chip(out, facts, bands=way.bands, decibels=way.decibels)
    return done


class _Known(NamedTuple):
    """What is known of the chips of a share besides their pixels."""

    chip_ids: tuple[str, ...]
    facts: NDArray[np.float32]
    """Shape (facts, chips, bands)."""
    latlon: NDArray[np.float64]
    time: NDArray[np.datetime64]
    cloud_fraction: NDArray[np.float32]


def _known(folder: MegabatchFolder, job: Job, chosen: tuple[int, ...]) -> _Known:
    """Collect what the packs say of the chips of a share."""
    scenes, which = np.unique(job.scene, return_inverse=True)
    indices: list[int] = scenes.tolist()
    numbers: list[int] = which.tolist()
    rows: list[int] = job.chip.tolist()
    packs = [folder.pack(index) for index in indices]
    chips = list(zip([packs[number] for number in numbers], rows, strict=True))
    facts = np.stack([pack.facts for pack in packs])[which][..., chosen]
    return _Known(
        chip_ids=tuple(pack.chip_ids[chip] for pack, chip in chips),
        facts=np.ascontiguousarray(facts.transpose(1, 0, 2)),
        latlon=np.array([pack.latlon[chip] for pack, chip in chips]),
        time=np.array([pack.time for pack in packs], "datetime64[us]")[which],
        cloud_fraction=np.array([pack.cloud_fraction[chip] for pack, chip in chips], np.float32),
    )
