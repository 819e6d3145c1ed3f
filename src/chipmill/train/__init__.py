"""The reader's side: what a training loop imports."""

from chipmill.train.batch import Batch, TorchBatch
from chipmill.train.dataset import ChipDataset
from chipmill.train.mixed import MixedBatch
from chipmill.train.normalize import normalized
from chipmill.train.notify import Notifier

__all__ = ["Batch", "ChipDataset", "MixedBatch", "Notifier", "TorchBatch", "normalized"]
