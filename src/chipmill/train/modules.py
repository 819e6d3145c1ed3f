# pyright: basic, reportMissingImports=false
# The checker runs with and without torch.
"""Modules for models; this is imported by who has torch, and by nothing else of chipmill."""

from torch import Tensor, nn

from chipmill.train.batch import TorchBatch
from chipmill.train.normalize import normalized


class Normalize(nn.Module):
    """Brings a batch to mean 0 and deviation 1, as the first module of a model, on its device.

    The figures are those of each chip's own scene, which come with the batch: there is nothing to
    learn and nothing in a checkpoint.
    """

    def forward(self, batch: TorchBatch) -> Tensor:
        """Give the pixels as 32-bit floats, shape (chips, bands, y, x)."""
        return normalized(batch)
