"""Lightning's own loop and checkpoint: the order, the resume, and what is reported when."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
lightning: Any = pytest.importorskip(
    "chipmill.train.lightning", reason="neither lightning nor pytorch-lightning is installed"
)
from chipmill.train import ChipDataset  # noqa: E402

ROOT = Path(__file__).parents[2]
PLAN = "0123456789abcdef"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # Lightning's, of itself and of torch
]


class Sum(lightning.LightningModule):
    """Learns the mean of all pixels, and remembers the chips it saw."""

    def __init__(self, stop: int | None = None, folder: Path | None = None) -> None:
        """Write a checkpoint and fail at batch `stop`."""
        super().__init__()
        self.guess = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, ...]] = []
        self._stop, self._folder = stop, folder

    def training_step(self, batch: Any, _: int) -> Any:  # noqa: ANN401 - torch has no types here
        """Take a step; a checkpoint lies before the batch that fails."""
        if len(self.seen) == self._stop:
            assert self._folder is not None
            self.trainer.save_checkpoint(self._folder / "at.ckpt")
            raise KeyboardInterrupt
        self.seen.append(batch.chip_ids)
        return (batch.pixels.float().mean() - self.guess).square()

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - torch has no types here
        """Descend."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer() -> Any:  # noqa: ANN401 - Lightning has no types here
    """Make a Trainer that writes nothing by itself."""
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def data(root: Path, **more: Any) -> Any:  # noqa: ANN401 - Lightning has no types here
    """Make the data module of the staged plan."""
    keywords = {"plan": PLAN, "fast": root / "fast", "wait_seconds": 0, **more}
    return lightning.ChipDataModule(str(root / "archive"), **keywords)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_goes_on_where_its_checkpoint_stood(
    staged: Path, tmp_path: Path, workers: int
) -> None:
    """G4 by Lightning's own checkpoint: no batch twice, none left out, with or without workers."""
    dataset = ChipDataset(staged / "archive", plan=PLAN, fast=staged / "fast", as_torch=False)
    whole = [batch.chip_ids for batch in dataset]
    model = Sum()
    trainer().fit(model, data(staged, workers=workers))
    assert model.seen == whole
    stopped = Sum(stop=5, folder=tmp_path)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer().fit(stopped, data(staged, workers=workers))
    assert stopped.seen == whole[:5]
    resumed = Sum()
    trainer().fit(
        resumed,
        data(staged, workers=2 - workers),
        ckpt_path=tmp_path / "at.ckpt",
        weights_only=False,
    )
    assert resumed.seen == whole[5:]


def test_a_checkpoint_is_told_once_it_is_written(staged: Path, tmp_path: Path) -> None:
    """G7: while Lightning writes, the checkpoint does not count; with the next batch it does."""
    told: list[dict[str, object]] = []

    class Told(ChipDataset):
        def checkpoint_saved(self, state: Mapping[str, object], *, name: str | None = None) -> None:
            told.append(dict(state))
            super().checkpoint_saved(state, name=name)

    dataset = Told(staged / "archive", plan=PLAN, fast=staged / "fast", wait_seconds=0)
    progress = lightning.ChipProgress(dataset)
    run: Any = trainer()
    model = Sum()
    saved: dict[str, object] = {}
    for number, batch in enumerate(dataset):
        progress.on_train_batch_end(run, model, None, batch, number)
        if number == 2:
            progress.on_save_checkpoint(run, model, {})
            saved = dataset.state_dict()
            assert told == []
        if number == 3:
            assert told == [saved]
            progress.on_save_checkpoint(run, model, {})
            progress.on_exception(run, model, KeyboardInterrupt())
            progress.teardown(run, model, "fit")
            assert told == [saved]
            break


def test_two_devices_report_what_both_have_seen(staged: Path, tmp_path: Path) -> None:
    """Under torchrun and DDP each rank sees its own chips, and the receiver hears of both."""
    pytest.importorskip("sqlalchemy")  # the training side alone is installed without the receiver
    from chipmill.model.megabatch import State  # noqa: PLC0415
    from chipmill.service.keys import run_key  # noqa: PLC0415
    from tests.train.desk import MASTER, set_up  # noqa: PLC0415

    program = Path(__file__).with_name("lightning_rank.py")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    with set_up(tmp_path) as desk, desk.up():
        said = [str(staged), PLAN, desk.url, run_key(MASTER, "run").hex(), str(tmp_path)]
        done = subprocess.run(
            [sys.executable, *launcher, str(program), *said],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert desk.states() == [State.COMPLETE] * 3
    for rank in (0, 1):
        alone = ChipDataset(
            staged / "archive",
            plan=PLAN,
            fast=staged / "fast",
            rank=rank,
            world_size=2,
            as_torch=False,
        )
        seen = json.loads((tmp_path / f"seen-{rank}.json").read_text())
        assert seen == [list(batch.chip_ids) for batch in alone]


def test_the_example_resumes(tmp_path: Path) -> None:
    """What the README shows: the same batches and losses, whether or not it was stopped."""
    command = [sys.executable, "examples/stage_demo_scenes.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    plan = done.stdout.split()[-1]

    def losses(*more: str) -> list[str]:
        command = [sys.executable, "examples/lightning.py", str(tmp_path), plan, *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line.startswith("batch")]

    whole = losses()
    first = losses("--batches=6")
    rest = losses(f"--resume={tmp_path}/lightning/last.ckpt")
    assert first == whole[:6]
    assert rest == whole[6:]
