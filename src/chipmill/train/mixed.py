"""A batch of several sensors: chips in the order of the minibatch, arrays by their bands."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from chipmill.train.batch import Batch, BatchFacts, TorchBatch

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedBatch(BatchFacts):
    """A rank's share of a mixed minibatch, as arrays or as tensors.

    Chips of different sensors have different bands, so no one array holds them: each part has the
    chips of one group, and `places` says where they are in the minibatch.
    """

    parts: tuple[Batch, ...] | tuple[TorchBatch, ...]
    """A batch for each group of which the share has chips."""
    places: tuple[NDArray[np.intp], ...]
    """Of each part: where its chips are in `chip_ids`, ascending; shape (chips of the part,)."""

    @property
    def bands(self) -> tuple[tuple[str, ...], ...]:
        """The bands of each chip, in the order of `chip_ids`."""
        return self._of_chips([part.bands for part in self.parts])

    @property
    def collections(self) -> tuple[str, ...]:
        """The collection of each chip, in the order of `chip_ids`."""
        return self._of_chips([part.collection for part in self.parts])

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return sum(part.nbytes for part in self.parts)

    def to_torch(self) -> Self:
        """View the arrays of all parts as tensors.

        Raises:
            RequestError: torch is not installed.
        """
        return replace(self, parts=tuple(cast("Batch", part).to_torch() for part in self.parts))

    def to(self, device: object, *, non_blocking: bool = False) -> Self:
        """Move all tensors to a device."""
        return self._changed(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Copy all tensors to pinned memory; a DataLoader with `pin_memory=True` calls this."""
        return self._changed(TorchBatch.pin_memory)

    def _changed(self, change: Callable[[TorchBatch], TorchBatch]) -> Self:
        return replace(self, parts=tuple(change(cast("TorchBatch", part)) for part in self.parts))

    def _of_chips(self, values: list[T]) -> tuple[T, ...]:
        """Give each chip the value of its part."""
        found: list[T] = [values[0]] * len(self)
        for value, places in zip(values, self.places, strict=True):
            for place in places.tolist():
                found[place] = value
        return tuple(found)
