"""Bring pixels to mean 0 and deviation 1, by what the packs say of each band.

Mean and deviation are of digital numbers or, where the batch says `decibels`, of 10 log10 of the
physical value; then a power below 10^-10 counts as 10^-10, which is -100 dB.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.train.batch import Batch, TorchBatch
from chipmill.train.packs import FACTS
from chipmill.train.tensors import Tensor

LEAST_POWER = 1e-10


def normalized(batch: Batch | TorchBatch) -> Any:  # noqa: ANN401 - an array or a tensor, as given
    """Give the normalised pixels of a batch as 32-bit floats, shape (chips, bands, y, x).

    Tensors are worked on where they are: on a GPU this costs the training loop nothing, and the
    digital numbers that went there were half as many bytes.

    Raises:
        RequestError: A band of an array has no mean or deviation; in tensors it gives NaN.
    """
    if batch.normalized:
        return batch.pixels
    if isinstance(batch, TorchBatch):
        return _normalized_tensor(batch)
    pixels = batch.pixels.astype(np.float32)
    facts = np.stack([getattr(batch, name) for name in FACTS])  # (facts, chips, bands)
    for number, chip in enumerate(pixels):
        normalize_chip(chip, facts[:, number], bands=batch.bands, decibels=batch.decibels)
    return pixels


def normalize_chip(
    pixels: NDArray[Any], facts: NDArray[np.float32], *, bands: tuple[str, ...], decibels: bool
) -> None:
    """Normalise one chip in its place.

    Args:
        pixels: Shape (bands, y, x), 32-bit floats.
        facts: FACTS of each band, shape (facts, bands).
        bands: Names of the bands.
        decibels: Whether mean and deviation are of decibels.

    Raises:
        RequestError: A band has no mean or deviation.
    """
    mean, std, scale, offset = (
        facts[FACTS.index(name)][:, np.newaxis, np.newaxis]
        for name in ("mean", "std", "scale", "offset")
    )
    known = np.isfinite(mean) & (std > 0)
    if not known.all():
        names = ", ".join(name for name, one in zip(bands, known.ravel(), strict=True) if not one)
        raise RequestError(
            f"there is no mean and deviation of {names}; plan with measured statistics, or choose "
            "bands without it"
        )
    if decibels:
        np.multiply(pixels, scale, out=pixels)
        np.add(pixels, offset, out=pixels)
        np.maximum(pixels, np.float32(LEAST_POWER), out=pixels)
        np.log10(pixels, out=pixels)
        np.multiply(pixels, np.float32(10), out=pixels)
    np.subtract(pixels, mean, out=pixels)
    np.divide(pixels, std, out=pixels)


def _normalized_tensor(batch: TorchBatch) -> Tensor:
    """Normalise tensors on their device, by operations of their own."""
    mean, std, scale, offset = (
        fact[..., None, None] for fact in (batch.mean, batch.std, batch.scale, batch.offset)
    )
    pixels = batch.pixels.float()
    if batch.decibels:
        pixels = 10 * (pixels * scale + offset).clamp(min=LEAST_POWER).log10()
    return (pixels - mean) / std
