"""Train with Lightning on staged chips, and resume from its checkpoint.

    plan=$(python examples/stage_demo_scenes.py .demo-examples)
    python examples/lightning.py .demo-examples $plan
    python examples/lightning.py .demo-examples $plan --resume .demo-examples/lightning/last.ckpt

The data module keeps the position in Lightning's own checkpoint: a resumed run goes on with the
batch after it, on as many devices as you like.
"""

import argparse
import sys
from pathlib import Path

# Python puts the folder of a script first, where this file would stand for the package `lightning`.
sys.path = [entry for entry in sys.path if Path(entry) != Path(__file__).resolve().parent]

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from chipmill.train import TorchBatch, normalized  # noqa: E402
from chipmill.train.lightning import (  # noqa: E402
    ChipDataModule,
    LightningModule,
    ModelCheckpoint,
    Trainer,
)

EVERY = 3
"""Batches from one checkpoint to the next."""


class Autoencoder(LightningModule):
    """Squeezes a chip through a few channels and draws it again."""

    def __init__(self, *, bands: int) -> None:
        """Build it for chips of `bands` bands."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(bands, 32, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(32, 8, 1),
            nn.ConvTranspose2d(8, bands, 4, stride=4),
        )

    def training_step(self, batch: TorchBatch, number: int) -> Tensor:
        """Give the mean squared error of the drawn pixels; normalised where the model is."""
        pixels = normalized(batch)
        loss = (self.layers(pixels) - pixels).square().mean()
        print(f"batch {batch.position.megabatch}/{batch.position.minibatch} loss {loss:.6f}")
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Learn by AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> None:
    """Train the epoch of a plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("plan")
    parser.add_argument("--resume", type=Path, help="a checkpoint")
    parser.add_argument("--batches", type=int, default=-1, help="stop after so many")
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(0)
    # In the middle of an epoch: one that is written after `fit` says that the epoch is over.
    checkpoints = ModelCheckpoint(
        asked.folder / "lightning",
        filename="last",
        every_n_train_steps=EVERY,
        enable_version_counter=False,
    )
    trainer = Trainer(
        max_epochs=1,
        max_steps=asked.batches,
        callbacks=[checkpoints],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = ChipDataModule(
        str(asked.folder / "archive"),
        plan=asked.plan,
        fast=asked.folder / "fast",
        bands=("red", "green", "blue", "nir"),
        workers=asked.workers,
    )
    trainer.fit(Autoencoder(bands=4), data, ckpt_path=asked.resume, weights_only=False)


if __name__ == "__main__":
    main()
