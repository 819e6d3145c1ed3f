"""An iteration over a dataset that says where it stands, as torchdata's loader asks of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chipmill.train.batch import Batch, Position, TorchBatch
from chipmill.train.mixed import MixedBatch


@dataclass(frozen=True, slots=True)
class Behind:
    """The place behind a batch."""

    position: Position
    manifest: str


@dataclass(eq=False, slots=True, kw_only=True)
class Iteration:
    """Gives batches, and the state behind the last of them: who asks for it has trained on that."""

    batches: Iterator[Batch | TorchBatch | MixedBatch]
    state: Callable[[Behind | None], dict[str, object]]
    load: Callable[[Mapping[str, object]], None]
    _last: Behind | None = field(init=False, default=None)

    def __iter__(self) -> Iterator[Batch | TorchBatch | MixedBatch]:
        """Be the iterator."""
        return self

    def __next__(self) -> Batch | TorchBatch | MixedBatch:
        """Give the next batch, and keep none: its memory is for the one after."""
        batch = next(self.batches)
        self._last = Behind(batch.after, batch.manifest)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Say where this stands, behind the batch that was given last."""
        return self.state(self._last)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go to where a state was taken, before the first batch is asked for."""
        self.load(state)
