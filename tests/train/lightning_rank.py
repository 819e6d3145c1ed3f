"""One rank of two that Lightning trains, which `test_lightning.py` starts with torchrun.

python lightning_rank.py ROOT PLAN RECEIVER KEY FOLDER
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

torch: Any = import_module("torch")
lightning: Any = import_module("chipmill.train.lightning")


class Sum(lightning.LightningModule):
    """Learns the mean of all pixels, and remembers the chips it saw."""

    def __init__(self) -> None:
        """Begin at zero."""
        super().__init__()
        self.guess = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[str]] = []

    def training_step(self, batch: Any, _: int) -> Any:  # noqa: ANN401 - torch has no types here
        """Take a step."""
        self.seen.append(list(batch.chip_ids))
        return (batch.pixels.float().mean() - self.guess).square()

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - torch has no types here
        """Descend."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    """Train the epoch, with a checkpoint after each batch, and write down what was seen."""
    root, plan, receiver, key, folder = sys.argv[1:]
    place = Path(folder)
    data = lightning.ChipDataModule(
        f"{root}/archive",
        plan=plan,
        fast=f"{root}/fast",
        wait_seconds=0,
        notify={
            "receiver_url": receiver,
            "run": "run",
            "key": bytes.fromhex(key),
            "spool": place / "spool",
        },
    )
    model = Sum()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[lightning.ModelCheckpoint(place / "checkpoints", every_n_train_steps=1)],
    )
    trainer.fit(model, data)
    (place / f"seen-{trainer.global_rank}.json").write_text(json.dumps(model.seen))


if __name__ == "__main__":
    main()
