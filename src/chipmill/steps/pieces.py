"""pieces: the chips of an export in the plan's order, cut into files for other loaders.

The chips of each group keep the order of the plan, megabatch after megabatch, and are cut into runs
of equal length. So a file of as many chips as a minibatch has is one of the plan's minibatches,
where left-over chips are dropped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from chipmill.formats import layout
from chipmill.formats.clay import platform_of
from chipmill.formats.export import Export
from chipmill.formats.manifest import Manifest, ManifestGroup, decode_manifest
from chipmill.io.store import Store
from chipmill.model.export_request import Form
from chipmill.model.order import Order, minibatch_order

Group = tuple[object, ...]
"""A collection, and the bands of its chips with their sizes and data types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Some chips of one group in one megabatch, counted in the group's order there."""

    megabatch: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file that is to be written."""

    file: str
    """Path in the rendering."""
    group: Group
    runs: tuple[Run, ...]

    @property
    def chips(self) -> int:
        """Count the chips."""
        return sum(run.stop - run.first for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """All files of a rendering."""

    pieces: tuple[Piece, ...]
    left_over: Mapping[str, int] = field(default_factory=dict[str, int])
    """By folder, chips that fill no whole file."""


def cut_pieces(export: Export, archive: Store, *, form: Form, chips: int) -> Pieces:
    """Cut the order of an export into files of `chips` chips.

    A tar file may be shorter, the last of its folder; a cube is whole or not written, since Clay's
    module stacks cubes.
    """
    counts: dict[Group, dict[int, int]] = {}
    for number in range(len(export.megabatches)):
        ordered = Ordered.of(load_manifest(export, number, archive))
        found = np.bincount(ordered.group, minlength=len(ordered.groups))
        for group, count in zip(ordered.groups, found.tolist(), strict=True):
            counts.setdefault(group, {})[number] = count
    pieces: list[Piece] = []
    left, numbers = Counter[str](), Counter[str]()
    for group, folder in zip(counts, _folders([*counts], form), strict=True):
        total = sum(counts[group].values())
        stop = total - total % chips if form == "npz" else total
        left[folder] += total - stop
        for first in range(0, stop, chips):
            runs = tuple(_runs(counts[group], first, min(first + chips, stop)))
            file = f"{folder}/{_file(form, numbers[folder])}"
            pieces.append(Piece(file=file, group=group, runs=runs))
            numbers[folder] += 1
    return Pieces(pieces=tuple(pieces), left_over={f: n for f, n in left.items() if n})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ordered:
    """The order of a megabatch by groups; arrays have the shape (places,)."""

    groups: list[Group]
    group: NDArray[np.int64]
    """Index of each place's group."""
    pack: NDArray[np.int32]
    chip: NDArray[np.int32]
    """Row of the chip in its pack."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Work out the order of a megabatch."""
        order = _order(manifest)
        of_pack = np.array([pack.group for pack in manifest.packs], np.int64)
        return cls(
            groups=[group_of(group) for group in manifest.groups],
            group=of_pack[order.scene],
            pack=order.scene,
            chip=order.chip,
        )

    def places(self, group: Group, run: Run) -> Iterator[tuple[int, int]]:
        """Give the chips of a run as (pack, row in the pack)."""
        mine = np.flatnonzero(self.group == self.groups.index(group))[run.first : run.stop]
        return zip(self.pack[mine].tolist(), self.chip[mine].tolist(), strict=True)


def load_manifest(export: Export, number: int, archive: Store) -> Manifest:
    """Read the manifest of a megabatch of an export."""
    key = layout.export_manifest_key(export.name, number)
    return decode_manifest(archive.get(key), where=archive.href(key))


def group_of(group: ManifestGroup) -> Group:
    """Say what chips that share a file have in common."""
    bands = ((band.name, band.dtype, band.shape, band.start) for band in group.bands)
    return (group.collection, *bands)


def _order(manifest: Manifest) -> Order:
    return minibatch_order(
        np.array([pack.chips for pack in manifest.packs], np.int64),
        np.array([pack.group for pack in manifest.packs], np.int64),
        size=manifest.minibatch,
        seed=manifest.seed,
        epoch=manifest.epoch,
        megabatch=manifest.megabatch,
        leftover=manifest.leftover,
        mixed=manifest.mixed,
    )


def _folders(groups: list[Group], form: Form) -> Iterator[str]:
    """Name the folder of each group: Clay's platform, or the collection and a number."""
    seen = Counter[str]()
    for group in groups:
        collection = str(group[0])
        if form == "npz":
            yield platform_of(collection).name
            continue
        folder = layout.segment(collection)
        yield f"{folder}-{seen[folder] + 1}" if seen[folder] else folder
        seen[folder] += 1


def _file(form: Form, number: int) -> str:
    return f"cube_{number:06d}.npz" if form == "npz" else f"{number:06d}.tar"


def _runs(counts: Mapping[int, int], first: int, stop: int) -> Iterator[Run]:
    """Find the chips from `first` to before `stop` of a group in its megabatches."""
    before = 0
    for megabatch, count in counts.items():
        low, high = max(first - before, 0), min(stop - before, count)
        if low < high:
            yield Run(megabatch=megabatch, first=low, stop=high)
        before += count
