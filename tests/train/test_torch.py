"""The dataset in torch's DataLoader: the same batches, as tensors."""

import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.train import Batch, ChipDataset, TorchBatch

torch: Any = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    # A machine with fewer cores than the tests start workers must give the same order.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

PLAN = "0123456789abcdef"


def opened(root: Path, *, rank: int = 0, world: int = 1, as_torch: bool | None = None) -> Any:  # noqa: ANN401 - torch has no types here
    """Open the staged plan."""
    return ChipDataset(
        root / "archive",
        plan=PLAN,
        fast=root / "fast",
        rank=rank,
        world_size=world,
        wait_seconds=0,
        as_torch=as_torch,
    )


def loader(dataset: Any, workers: int, **more: object) -> Any:  # noqa: ANN401 - torch has no types here
    """Make a DataLoader as the README shows it."""
    return torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers, **more)


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_any_number_of_workers_gives_the_order_of_none(
    staged: Path, workers: int, world: int
) -> None:
    """G2: workers are a matter of speed; content and order are those of plain iteration."""
    plain = list(opened(staged, rank=world - 1, world=world, as_torch=False))
    dataset = opened(staged, rank=world - 1, world=world)
    found = list(loader(dataset, workers))
    assert [batch.position for batch in found] == [batch.position for batch in plain]
    for one, other in zip(found, plain, strict=True):
        assert isinstance(one, TorchBatch)
        assert one.chip_ids == other.chip_ids
        assert one.pixels.dtype == torch.from_numpy(other.pixels).dtype
        assert (one.pixels.numpy() == other.pixels).all()
        assert (one.time.numpy() == other.time.astype("int64")).all()
        assert torch.equal(one.latlon, torch.from_numpy(other.latlon))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("turn", [partial(np.flip, axis=-1), partial(np.rot90, axes=(-2, -1))])
def test_a_flip_or_a_rotation_becomes_a_tensor(
    staged: Path, workers: int, turn: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    """NumPy turns by strides below 0, which no tensor has."""
    dataset = ChipDataset(
        staged / "archive",
        plan=PLAN,
        fast=staged / "fast",
        wait_seconds=0,
        transform=partial(turned, turn),
    )
    plain = list(opened(staged, as_torch=False))
    for one, other in zip(loader(dataset, workers), plain, strict=True):
        np.testing.assert_array_equal(one.pixels.numpy(), turn(other.pixels))


def turned(turn: Callable[[NDArray[Any]], NDArray[Any]], batch: Batch) -> Batch:
    """Turn the pixels of a batch."""
    return replace(batch, pixels=turn(batch.pixels))


def test_with_workers_the_training_loop_says_what_is_consumed(staged: Path) -> None:
    """G4: workers are ahead of the training step; only the loop knows what it has done."""
    dataset = opened(staged)
    everything = [batch.chip_ids for batch in opened(staged)]
    for count, batch in enumerate(loader(dataset, 2), 1):
        assert dataset.stats()["minibatches"] == count - 1
        dataset.done(batch)
        if count == 5:
            break
    assert dataset.stats()["minibatches"] == 5
    resumed = opened(staged)
    resumed.load_state_dict(dataset.state_dict())
    assert [batch.chip_ids for batch in loader(resumed, 3)] == everything[5:]


@pytest.mark.parametrize("workers", [1, 4])
def test_spawned_workers_work_too(staged: Path, workers: int) -> None:
    """Where forking is not safe, the dataset is pickled; the order is the same."""
    context = multiprocessing.get_context("spawn")
    found = [b.chip_ids for b in loader(opened(staged), workers, multiprocessing_context=context)]
    assert found == [batch.chip_ids for batch in opened(staged)]


def test_tensors_are_there_by_default_and_arrays_when_asked(staged: Path) -> None:
    """Who has torch wants tensors; who asks for arrays gets arrays, even beside torch."""
    assert isinstance(opened(staged), torch.utils.data.IterableDataset)
    batch = next(iter(opened(staged)))
    assert batch.pixels.shape == (4, 3, 16, 16)
    assert batch.to("cpu", non_blocking=True).chip_ids == batch.chip_ids
    array = next(iter(loader(opened(staged, as_torch=False), 0)))
    assert type(array).__name__ == "Batch"
    assert type(array.to_torch()) is TorchBatch


def test_a_foreign_batch_is_refused_in_tensors_too(staged: Path) -> None:
    """The same rules hold for both forms of a batch."""
    dataset = opened(staged)
    with pytest.raises(RequestError, match="dataset that it came from"):
        dataset.done(replace(next(iter(dataset)), plan="f" * 16))


# torchdata 0.11 calls what torch 2.13 has given up.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("stop", "says"), [(1, True), (5, True), (5, False)])
def test_a_stateful_loader_goes_on_where_it_stood(
    staged: Path, *, workers: int, stop: int, says: bool
) -> None:
    """Its state is taken while workers are ahead: what they had read and nobody saw comes again."""
    stateful: Any = pytest.importorskip("torchdata.stateful_dataloader")

    def made(dataset: Any) -> Any:  # noqa: ANN401 - torch has no types here
        return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=workers)

    whole = [batch.chip_ids for batch in made(opened(staged))]
    dataset = opened(staged)
    first = made(dataset)
    seen: list[tuple[str, ...]] = []
    for batch in first:
        seen.append(batch.chip_ids)
        if says:
            dataset.done(batch)
        if len(seen) == stop:
            break
    state = first.state_dict()
    again = made(opened(staged))
    again.load_state_dict(state)
    assert seen + [batch.chip_ids for batch in again] == whole


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_steps_of_a_stateful_loader_need_nothing_that_lies_behind(
    staged: Path, tmp_path: Path, workers: int
) -> None:
    """Only its workers are told where they go on, and megabatch 0 is removed by then."""
    stateful: Any = pytest.importorskip("torchdata.stateful_dataloader")
    root = shutil.copytree(staged, tmp_path / "copy")

    def made(dataset: Any) -> Any:  # noqa: ANN401 - torch has no types here
        return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=workers)

    whole = [batch.chip_ids for batch in opened(root)]
    dataset = opened(root)
    first, state = made(dataset), {}
    seen: list[tuple[str, ...]] = []
    for batch in dataset.steps(first):
        seen.append(batch.chip_ids)
        state = first.state_dict()
        if batch.position.megabatch == 1:
            break
    shutil.rmtree(root / "fast" / PLAN / "00000")
    dataset = opened(root)
    again = made(dataset)
    again.load_state_dict(state)
    rest = [batch.chip_ids for batch in dataset.steps(again)]
    assert rest
    assert seen + rest == whole
