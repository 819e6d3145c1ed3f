"""Minibatches of several sensors: each chip with its own bands."""

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipmill.train import Batch, ChipDataset, MixedBatch
from chipmill.train.tensors import torch_is_here

PLAN = "0123456789abcdef"
BANDS = {"alike": ("red", "nir", "angle"), "mixed": ("mask", "red", "cold")}
Build = Callable[..., Path]


def opened(root: Path, **more: Any) -> ChipDataset:  # noqa: ANN401 - whatever the dataset takes
    """Open the staged plan."""
    view: dict[str, Any] = {"as_torch": False, **more}
    return ChipDataset(root / "archive", plan=PLAN, fast=root / "fast", wait_seconds=0, **view)


@pytest.fixture(scope="module")
def both(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage a mixed plan, and beside it the same scenes in minibatches of one sensor."""
    scenes = [[(0, 6), (0, 5), (0, 6), (1, 4), (1, 4), (1, 3)]]
    root = tmp_path_factory.mktemp("both")
    build(root / "apart", scenes, minibatch=1)
    return build(root / "mixed", scenes, minibatch=4, mixed=True)


def test_each_chip_has_its_own_bands_and_pixels(both: Path) -> None:
    """A mixed minibatch is the same chips as elsewhere, each in the part of its sensor."""
    apart = {
        batch.chip_ids[0]: batch
        for batch in opened(both.parent / "apart")
        if isinstance(batch, Batch)
    }
    seen: Counter[str] = Counter()
    several = 0
    for batch in opened(both):
        assert isinstance(batch, MixedBatch)
        seen.update(batch.chip_ids)
        several += len(batch.parts) > 1
        everywhere: list[int] = [place for some in batch.places for place in some.tolist()]
        assert sorted(everywhere) == list(range(len(batch)))
        for place, chip_id in enumerate(batch.chip_ids):
            assert batch.collections[place] == chip_id.split("/")[0]
            assert batch.bands[place] == BANDS[batch.collections[place]]
        for part, places in zip(batch.parts, batch.places, strict=True):
            where: list[int] = places.tolist()
            assert part.chip_ids == tuple(batch.chip_ids[place] for place in where)
            for row, chip_id in enumerate(part.chip_ids):
                np.testing.assert_array_equal(part.pixels[row], apart[chip_id].pixels[0])
        assert batch.nbytes == sum(part.pixels.nbytes for part in batch.parts)
    assert max(seen.values()) == 1
    assert several > 3


def test_ranks_and_restarts_change_nothing(both: Path) -> None:
    """G2 to G4 hold for mixed minibatches as for others."""
    whole = [batch.chip_ids for batch in opened(both)]
    shares = [
        [batch.chip_ids for batch in opened(both, rank=rank, world_size=2)] for rank in (0, 1)
    ]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    dataset = opened(both)
    for batch in dataset:
        if batch.position.minibatch == 2:
            break
    resumed = opened(both)
    resumed.load_state_dict(dataset.state_dict())
    assert [batch.chip_ids for batch in resumed] == whole[2:]


@pytest.mark.torch
@pytest.mark.skipif(not torch_is_here(), reason="torch is not installed")
def test_a_mixed_batch_moves_as_a_whole(both: Path) -> None:
    """Through a loader's worker, to a device, through a pickle: all parts go along."""
    torch: Any = pytest.importorskip("torch")
    dataset = opened(both, as_torch=True)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1)
    for plain, batch in zip(opened(both), dataset.steps(loader), strict=True):
        assert isinstance(plain, MixedBatch)
        assert isinstance(batch, MixedBatch)
        kept = pickle.loads(pickle.dumps(plain))  # noqa: S301 - our own bytes
        moved: Any = batch.to("cpu")
        assert kept.bands == moved.bands == plain.bands
        for one, two, other in zip(moved.parts, kept.parts, plain.parts, strict=True):
            np.testing.assert_array_equal(one.pixels.numpy(), other.pixels)
            np.testing.assert_array_equal(two.pixels, other.pixels)
