"""What a training step gets: the chips of one rank's share of a minibatch, and what is known."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from chipmill.train.shared import Lent, lend
from chipmill.train.tensors import Tensor, array_of, is_tensor, tensor


class Position(NamedTuple):
    """A place in the plan, the same for every world size; later places compare greater."""

    epoch: int
    megabatch: int
    """Number in the plan, from 0."""
    minibatch: int
    """Number in the megabatch, from 0, counted over all ranks' shares as one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchFacts(ABC):
    """What arrays and tensors have in common."""

    chip_ids: tuple[str, ...]
    plan: str
    position: Position
    after: Position
    """Where the rank stands once this batch is consumed."""
    manifest: str
    """Digest of the megabatch's manifest: it fixes the order."""
    stalled: float
    """Seconds that were spent before this batch waiting for its megabatch to be staged."""

    def __len__(self) -> int:
        """Count the chips."""
        return len(self.chip_ids)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the pixels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupFacts(BatchFacts):
    """What arrays and tensors of chips with the same bands have in common."""

    bands: tuple[str, ...]
    collection: str
    decibels: bool
    """Whether mean and std are of 10 log10 of the physical value, not of the digital number."""
    normalized: bool
    """Whether the pixels are normalised by mean and std already."""

    @abstractmethod
    def _lent(self) -> Lent | None:
        """Hand on the pixels, if they lie in memory that a loader's worker shares."""

    def __reduce__(self) -> tuple[object, ...]:
        """Go from a loader's worker to the training process without a copy of the pixels."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if (lent := self._lent()) is not None:
            values = {name: _as_array(value) for name, value in values.items() if name != "pixels"}
            values["pixels"] = lent
        return _rebuilt, (type(self), values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch(GroupFacts):
    """A batch as NumPy arrays; NaN where a value is not known."""

    pixels: NDArray[np.generic]
    """Shape (chips, bands, y, x): digital numbers, or floats where that is asked for; coarser bands
    are on the finest grid."""
    wavelength: NDArray[np.float32]
    """Centre wavelength in micrometres, shape (chips, bands), as all of the next six."""
    fwhm: NDArray[np.float32]
    """Full width at half maximum in micrometres."""
    gsd: NDArray[np.float32]
    """Pixel size of the band's file in metres, before it was repeated."""
    mean: NDArray[np.float32]
    """Normalisation of the data set, in digital numbers unless `decibels` says otherwise."""
    std: NDArray[np.float32]
    """Normalisation of the data set, in digital numbers unless `decibels` says otherwise."""
    scale: NDArray[np.float32]
    """Physical value = digital number x scale + offset."""
    offset: NDArray[np.float32]
    """Physical value = digital number x scale + offset."""
    latlon: NDArray[np.float64]
    """Centre of each chip, shape (chips, 2): latitude and longitude in degrees."""
    time: NDArray[np.datetime64]
    """Acquisition in UTC, microseconds, shape (chips,)."""
    cloud_fraction: NDArray[np.float32]
    """Shape (chips,), in [0, 1]."""

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.nbytes

    def _lent(self) -> Lent | None:
        return lend(self.pixels)

    def to_torch(self) -> "TorchBatch":
        """View the arrays as tensors, without a copy; `time` becomes microseconds since 1970.

        Raises:
            RequestError: torch is not installed.
        """
        facts = {item.name: getattr(self, item.name) for item in fields(GroupFacts)}
        tensors = {name: tensor(getattr(self, name)) for name in _array_names() if name != "time"}
        return TorchBatch(**facts, **tensors, time=tensor(self.time.astype(np.int64)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchBatch(GroupFacts):
    """A batch as tensors, with the shapes and meanings of `Batch`."""

    pixels: Tensor
    wavelength: Tensor
    fwhm: Tensor
    gsd: Tensor
    mean: Tensor
    std: Tensor
    scale: Tensor
    offset: Tensor
    latlon: Tensor
    time: Tensor
    """Acquisition in microseconds since 1970 UTC, int64, shape (chips,)."""
    cloud_fraction: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return int(self.pixels.nbytes)

    def _lent(self) -> Lent | None:
        array = array_of(self.pixels)
        return None if array is None else lend(array)

    def to(self, device: object, *, non_blocking: bool = False) -> Self:
        """Move all tensors to a device."""
        return replace(
            self,
            **{
                name: getattr(self, name).to(device, non_blocking=non_blocking)
                for name in _array_names()
            },
        )

    def pin_memory(self) -> Self:
        """Copy all tensors to pinned memory; a DataLoader with `pin_memory=True` calls this."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _array_names()})


def _as_array(value: object) -> object:
    """Give a tensor as an array: a small one is sooner copied than shared."""
    return array_of(value) if is_tensor(value) else value


def _rebuilt(kind: type[GroupFacts], values: dict[str, Any]) -> GroupFacts:
    """Put a batch together that another process has sent."""
    pixels = values["pixels"]
    if isinstance(pixels, Lent):
        values["pixels"] = pixels.array()
        if kind is TorchBatch:
            values |= {name: tensor(values[name]) for name in _array_names()}
    return kind(**values)


def _array_names() -> list[str]:
    """Name the fields that are arrays in one form and tensors in the other."""
    shared = {item.name for item in fields(GroupFacts)}
    return [item.name for item in fields(TorchBatch) if item.name not in shared]
