"""Minibatches into a GPU's memory, and the share of a real step's time that waits for them."""

import time
from importlib import import_module
from typing import Any

from chipmill.train import ChipDataset, TorchBatch


def measure_gpu(dataset: ChipDataset) -> None:
    """Print chips a second into the GPU's memory, and the stall fraction of a training step."""
    torch: Any = import_module("torch")
    start = dataset.state_dict()
    began = time.perf_counter()
    chips = sum(len(batch) for batch in _on_gpu(dataset))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    print(f"{'into GPU memory, pinned':<30} {chips / seconds:9.0f} chips/s of clock")
    dataset.load_state_dict(start)
    step = _step(torch)
    waited, began = 0.0, time.perf_counter()
    batches = _on_gpu(dataset)
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        step(batch)
        torch.cuda.synchronize()
    print(f"{'stall fraction of a step':<30} {waited / (time.perf_counter() - began):9.3f}")


def _on_gpu(dataset: ChipDataset) -> Any:  # noqa: ANN401 - torch has no types here
    """Move batch after batch to the GPU while the next is read."""
    for batch in dataset:
        assert isinstance(batch, TorchBatch)  # noqa: S101 - tensors were asked for
        yield batch.to("cuda", non_blocking=True)


def _step(torch: Any) -> Any:  # noqa: ANN401 - torch has no types here
    """Make a training step of a small vision transformer's size."""
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(384, 6, 1536, batch_first=True)
    embed = nn.Conv2d(10, 384, 16, stride=16).cuda()
    encoder = nn.TransformerEncoder(layer, 12).cuda()
    guess = nn.Linear(384, 10 * 256).cuda()
    parts = (embed, encoder, guess)
    optimiser = torch.optim.AdamW([weight for part in parts for weight in part.parameters()])

    def step(batch: TorchBatch) -> None:
        pixels = (batch.pixels - batch.mean[..., None, None]) / batch.std[..., None, None]
        with torch.autocast("cuda", torch.bfloat16):
            tokens = encoder(embed(pixels).flatten(2).mT)
            patches = nn.functional.unfold(pixels, 16, stride=16).mT
            loss = (guess(tokens) - patches).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step
