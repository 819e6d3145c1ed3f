# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false
# The checker runs with and without Lightning.
"""A plan as Lightning's data module; this is imported by who has Lightning, and by nothing else.

Lightning asks for the loader, counts batches and writes checkpoints; the module keeps the
position in them, and a callback of its own says what is consumed and which checkpoint is durable.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from torch.utils.data import DataLoader

from chipmill.errors import RequestError
from chipmill.train.dataset import ChipDataset
from chipmill.train.notify import Notifier

if find_spec("lightning") is not None:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
else:
    from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
    from pytorch_lightning.callbacks import ModelCheckpoint

__all__ = ["ChipDataModule", "ChipProgress", "LightningModule", "ModelCheckpoint", "Trainer"]
"""Lightning's own are those of whichever of its two packages is installed."""


class ChipDataModule(LightningDataModule):
    """Gives a Trainer the batches of a plan, and goes on where its checkpoint stood.

    The checkpoint's position fits any number of devices and workers. With a notifier, a megabatch
    is reported only when a checkpoint beyond it is written.
    """

    def __init__(
        self,
        archive: str,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        notify: Mapping[str, Any] | None = None,
        **dataset: Any,  # noqa: ANN401 - the keywords of ChipDataset
    ) -> None:
        """Remember what to open: rank and world size are known when the Trainer begins.

        Args:
            archive: URL or path of the archive.
            workers: Worker processes of the loader.
            pin_memory: Have the loader copy batches to pinned memory.
            notify: Keywords of `Notifier` but for rank and world size; None reports to nobody.
            dataset: Keywords of `ChipDataset` but for rank, world size and notifier.
        """
        super().__init__()
        self._archive = archive
        self._workers = workers
        self._pin_memory = pin_memory
        self._notify = notify
        self._keywords = dataset
        self.dataset: ChipDataset | None = None

    def setup(self, stage: str) -> None:
        """Open the plan as this rank, and join the Trainer's callbacks."""
        if stage != "fit" or self.dataset is not None:
            return
        trainer = self.trainer
        place = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        notifier = None if self._notify is None else Notifier(**self._notify, **place)
        self.dataset = ChipDataset(
            self._archive, notify=notifier, consumed="done", **place, **self._keywords
        )
        if notifier is not None:
            notifier.begin(self.dataset.plan.plan)
            trainer.strategy.barrier()
        # Before those that write checkpoints: Lightning keeps them last.
        trainer.callbacks.insert(0, ChipProgress(self.dataset, notifier))

    def train_dataloader(self) -> DataLoader:
        """Give the loader of this rank's batches."""
        return DataLoader(
            _opened(self.dataset),
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
        )

    def state_dict(self) -> dict[str, Any]:
        """Say where the run stands, for the checkpoint."""
        return _opened(self.dataset).state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to where a checkpoint was written."""
        _opened(self.dataset).load_state_dict(state_dict)


class ChipProgress(Callback):
    """Tells a dataset what is consumed, and which checkpoint is durable."""

    def __init__(self, dataset: ChipDataset, notifier: Notifier | None = None) -> None:
        """Tell `dataset`, and close the notifier at the end."""
        self._dataset = dataset
        self._notifier = notifier
        self._written: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse checkpoints of which nobody says when they are durable."""
        self._check(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - what the step gave
        batch: Any,  # noqa: ANN401 - Batch, TorchBatch or MixedBatch
        batch_idx: int,
    ) -> None:
        """Count a batch as consumed; a checkpoint that was being written before it is durable."""
        self._tell()
        self._dataset.done(batch)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember where a checkpoint stands; all ranks wait until it is written."""
        self._tell()
        self._written = self._dataset.state_dict()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report what the last checkpoint allows, and wait until it has arrived."""
        self._tell()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Report what a checkpoint at the very end allows, and wait until it has arrived."""
        self._tell()
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Report nothing of a checkpoint that may be half written."""
        self._written = None

    def _tell(self) -> None:
        """Say that the checkpoint that was written is durable."""
        if self._written is not None:
            state, self._written = self._written, None
            self._dataset.checkpoint_saved(state)

    def _check(self, trainer: Trainer) -> None:
        name = type(trainer.strategy.checkpoint_io).__name__
        if self._notifier is not None and "Async" in name:
            raise RequestError(
                f"{name} writes checkpoints in the background and does not say when they are "
                "durable, and what is reported gets deleted; use a plugin that waits"
            )


def _opened(dataset: ChipDataset | None) -> ChipDataset:
    """Give the dataset, which the Trainer's setup opens."""
    if dataset is None:
        raise RequestError("the data module is not set up; give it to Trainer.fit")
    return dataset
