"""Train a small masked autoencoder on staged chips, on one process or many, and resume exactly.

    plan=$(python examples/stage_demo_scenes.py .demo-examples)
    python examples/train_masked_autoencoder.py .demo-examples $plan
    torchrun --nproc-per-node 2 examples/train_masked_autoencoder.py .demo-examples $plan

The model sees a quarter of a chip's patches and is asked for the others (He et al. 2021,
arXiv:2111.06377). A checkpoint holds the model, the optimiser and the dataset's own state; killed
at any moment, the same command goes on at the minibatch after the last checkpoint, with the same
chips in the same order.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from chipmill.train import ChipDataset, normalized

PATCH = 4
WIDTH = 96
SHOWN = 0.25


class MaskedAutoencoder(nn.Module):
    """Encodes the patches that it is shown, and guesses all of them."""

    def __init__(self, *, bands: int, size: int) -> None:
        """Build it for chips of `bands` bands and `size` x `size` pixels."""
        super().__init__()
        self.patches = (size // PATCH) ** 2
        self.embed = nn.Conv2d(bands, WIDTH, PATCH, stride=PATCH)
        self.place = nn.Parameter(torch.randn(1, self.patches, WIDTH) * 0.02)
        self.hidden = nn.Parameter(torch.zeros(1, 1, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.decoder = nn.TransformerEncoder(layer, 1)
        self.guess = nn.Linear(WIDTH, bands * PATCH * PATCH)

    def forward(self, pixels: Tensor, shown: Tensor) -> Tensor:
        """Give the mean squared error over the patches that are not shown.

        Args:
            pixels: Normalised, shape (chips, bands, y, x).
            shown: Which patches, shape (chips, shown patches).
        """
        tokens = self.embed(pixels).flatten(2).mT + self.place  # (chips, patches, width)
        index = shown[..., None].expand(-1, -1, WIDTH)
        seen = self.encoder(tokens.gather(1, index))
        full = (self.hidden + self.place).expand_as(tokens).scatter(1, index, seen)
        error = (self.guess(self.decoder(full)) - _patches(pixels)).square().mean(2)
        hidden = torch.ones_like(error).scatter(1, shown, 0.0)
        return (error * hidden).sum() / hidden.sum()


def _patches(pixels: Tensor) -> Tensor:
    """Cut chips into patches: shape (chips, patches, bands * y * x)."""
    return nn.functional.unfold(pixels, PATCH, stride=PATCH).mT


def main() -> None:
    """Train the epoch of a plan, from the last checkpoint on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("plan")
    parser.add_argument("--every", type=int, default=10, help="minibatches between checkpoints")
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if world > 1:
        init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(0)  # the same weights on every rank
    dataset = ChipDataset(
        asked.folder / "archive",
        plan=asked.plan,
        fast=asked.folder / "fast",
        rank=rank,
        world_size=world,
        bands=("red", "green", "blue", "nir"),
    )
    model: nn.Module = MaskedAutoencoder(bands=4, size=dataset.plan.chip_size).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    checkpoint = asked.folder / f"{asked.plan}.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        dataset.load_state_dict(saved["loader"])
    step = DistributedDataParallel(model) if world > 1 else model
    loader = DataLoader(dataset, batch_size=None, num_workers=asked.workers)
    for batch in dataset.steps(loader):
        batch = batch.to(device)
        # Drawn from the place in the epoch: a resumed run hides the same patches again.
        draw = torch.Generator().manual_seed(hash((*batch.position, rank)))
        order = torch.rand(len(batch), model.patches, generator=draw).argsort(1)
        shown = order[:, : int(SHOWN * model.patches)].to(device)
        loss = step(normalized(batch), shown)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        number = batch.position.minibatch
        print(f"rank {rank} minibatch {number} loss {loss.item():.6f}", flush=True)
        if rank == 0 and (number + 1) % asked.every == 0:
            _save(checkpoint, model, optimiser, dataset, dataset.state_after(batch))
    if rank == 0:
        _save(checkpoint, model, optimiser, dataset, dataset.state_dict())
    if world > 1:
        destroy_process_group()


def _save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    dataset: ChipDataset,
    state: dict[str, object],
) -> None:
    """Write a checkpoint so that a crash leaves the one before it."""
    document = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "loader": state,
    }
    torch.save(document, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    dataset.checkpoint_saved(state, name=path.name)


if __name__ == "__main__":
    main()
