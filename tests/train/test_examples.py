"""The examples, as a reader would start them."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]
LINE = re.compile(r"rank (\d) minibatch (\d+) loss ([0-9.]+)")
EVERY = 6
"""Minibatches between two checkpoints."""


@pytest.fixture(scope="module")
def staged_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Stage the demo's aerial scenes by the example's own script."""
    folder = tmp_path_factory.mktemp("example")
    command = [sys.executable, "examples/stage_demo_scenes.py", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return folder, done.stdout.split()[-1]


def start(folder: Path, plan: str, *, ranks: int) -> "subprocess.Popen[str]":
    """Start the training, on one process or by torchrun on several."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
    return subprocess.Popen(
        [
            sys.executable,
            *(launcher if ranks > 1 else []),
            "examples/train_masked_autoencoder.py",
            str(folder),
            plan,
            f"--every={EVERY}",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # noqa: TID251 - the child needs this Python's
    )


def lines(run: "subprocess.Popen[str]") -> Iterator[tuple[int, int, str]]:
    """Give what a run prints, as it prints it: rank, minibatch, loss."""
    assert run.stdout is not None
    for line in run.stdout:
        for found in LINE.finditer(line):  # ranks may write into one line
            yield int(found[1]), int(found[2]), found[3]


def test_two_ranks_killed_and_resumed_go_the_same_way(
    staged_demo: tuple[Path, str], tmp_path: Path
) -> None:
    """G3 and G4 as people meet them: a host dies, the job starts again, the losses are the same."""
    folder, plan = staged_demo
    shutil.copytree(folder, tmp_path / "killed")
    with start(folder, plan, ranks=2) as whole:
        losses = {(rank, number): loss for rank, number, loss in lines(whole)}
    assert whole.returncode == 0
    last = max(number for _, number in losses)
    assert last > 3 * EVERY
    first, final = (
        [float(losses[rank, number]) for number in some for rank in (0, 1)]
        for some in (range(4), range(last - 3, last + 1))
    )
    assert sum(final) < 0.8 * sum(first)

    with start(tmp_path / "killed", plan, ranks=2) as killed:
        for _, number, _ in lines(killed):
            if number == 2 * EVERY + 2:
                break
        ranks = psutil.Process(killed.pid).children()
        assert len(ranks) == 2
        ranks[0].send_signal(signal.SIGKILL)
        assert killed.wait(60) != 0
    checkpoint = tmp_path / "killed" / f"{plan}.pt"
    assert checkpoint.exists()
    with start(tmp_path / "killed", plan, ranks=2) as resumed:
        again = {(rank, number): loss for rank, number, loss in lines(resumed)}
    assert resumed.returncode == 0
    assert 0 < min(number for _, number in again) <= 2 * EVERY + 3
    assert again == {key: loss for key, loss in losses.items() if key in again}
    assert max(again) == max(losses)
