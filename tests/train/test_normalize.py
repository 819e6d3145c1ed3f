"""Pixels at mean 0 and deviation 1, by the figures of each chip's own scene."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipmill.errors import RequestError
from chipmill.train import Batch, ChipDataset, normalized
from chipmill.train.tensors import torch_is_here

PLAN = "0123456789abcdef"
Build = Callable[..., Path]


def batches(root: Path, **view: Any) -> list[Batch]:  # noqa: ANN401 - whatever the dataset takes
    """Read a plan to its end."""
    dataset = ChipDataset(
        root / "archive", plan=PLAN, fast=root / "fast", wait_seconds=0, as_torch=False, **view
    )
    return [batch for batch in dataset if isinstance(batch, Batch)]


@pytest.mark.parametrize("decibels", [False, True])
def test_each_chip_is_normalised_by_its_own_scene(
    build: Build, tmp_path: Path, *, decibels: bool
) -> None:
    """One formula, in double precision, says what the loader and the call give."""
    root = build(tmp_path, [[(0, 4), (0, 3), (0, 3)]], minibatch=2, decibels=decibels)
    for plain, done in zip(batches(root), batches(root, normalize=True), strict=True):
        assert plain.decibels is decibels
        values = plain.pixels.astype(np.float64)
        mean, std, scale, offset = (
            fact[..., np.newaxis, np.newaxis].astype(np.float64)
            for fact in (plain.mean, plain.std, plain.scale, plain.offset)
        )
        if decibels:
            values = 10 * np.log10(np.maximum(values * scale + offset, 1e-10))
        expected = (values - mean) / std
        assert done.pixels.dtype == np.float32
        np.testing.assert_allclose(done.pixels.astype(np.float64), expected, rtol=1e-4, atol=2e-5)
        np.testing.assert_array_equal(normalized(plain), done.pixels)
        assert normalized(done) is done.pixels
        if torch_is_here():
            module: Any = pytest.importorskip("chipmill.train.modules")
            for tensor in (normalized(plain.to_torch()), module.Normalize()(plain.to_torch())):
                np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-4, atol=2e-5)


def test_figures_differ_between_scenes(build: Build, tmp_path: Path) -> None:
    """The test above means something: no two scenes have the same mean."""
    root = build(tmp_path, [[(0, 4), (0, 3), (0, 3)]], minibatch=2)
    assert all(len(set(batch.mean[:, 0].tolist())) == 2 for batch in batches(root))


def test_a_band_without_figures_is_named(build: Build, tmp_path: Path) -> None:
    """Nobody trains on NaN unawares; bands that have figures can be chosen."""
    root = build(tmp_path, [[(1, 4), (1, 3)]], minibatch=2)
    with pytest.raises(RequestError, match="no mean and deviation of red, cold; plan with"):
        batches(root, normalize=True)
    with pytest.raises(RequestError, match="no mean and deviation of red, cold"):
        normalized(batches(root)[0])
    plain, done = (batches(root, normalize=norm, bands=["mask"])[0] for norm in (False, True))
    np.testing.assert_array_equal(done.pixels, (plain.pixels.astype(np.float64) - 1.5) / 0.5)
