"""G8: ranks wait together, and none is left alone in a collective."""

import importlib.util
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chipmill.errors import PackError, TransientError
from chipmill.train import ChipDataset
from chipmill.train.agree import Word
from chipmill.train.ready import Patience, wait_for_megabatch
from chipmill.train.source import FastStorage

PLAN = "0123456789abcdef"
Build = Callable[..., Path]


class Table:
    """Two ranks, as threads, that tell each other the least of their words."""

    def __init__(self) -> None:
        """Begin with an empty table."""
        self._words: list[Word] = []
        self._barrier = threading.Barrier(2, timeout=60)

    def __call__(self, word: Word) -> Word:
        """Say a word, and hear the least."""
        self._words.append(word)
        self._barrier.wait()
        least = min(self._words)
        if self._barrier.wait() == 0:
            self._words.clear()
        self._barrier.wait()
        return least


@pytest.fixture
def hosts(build: Build, tmp_path: Path) -> tuple[Path, Path]:
    """Stage a plan of two megabatches on the disks of two hosts."""
    root = build(tmp_path / "one", [[(0, 4), (0, 4)], [(0, 4), (0, 4)]], minibatch=2)
    shutil.copytree(root, tmp_path / "two")
    return root, tmp_path / "two"


def waiting(hosts: tuple[Path, Path], *, seconds: float) -> list[object]:
    """Have two ranks wait for the second megabatch; give what became of each."""
    table, found = Table(), list[object]([None, None])

    def wait(rank: int) -> None:
        root = hosts[rank]
        plan = ChipDataset(root / "archive", plan=PLAN, fast=root / "fast", as_torch=False).plan
        source, patience = FastStorage(root / "fast", plan), Patience(seconds=seconds)
        try:
            found[rank] = wait_for_megabatch(source, 1, patience=patience, rank=rank, agree=table)
        except (PackError, TransientError) as err:
            found[rank] = err

    ranks = [threading.Thread(target=wait, args=(rank,)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    return found


def second(root: Path) -> Path:
    """Name the folder of the second megabatch."""
    return root / "fast" / PLAN / "00001"


@pytest.mark.parametrize("missing", [0, 1])
def test_ranks_give_up_together(hosts: tuple[Path, Path], missing: int) -> None:
    """A megabatch that one host never gets stops both, wherever the clock is that counts."""
    shutil.rmtree(second(hosts[missing]))
    found = waiting(hosts, seconds=0.5)
    assert [type(one) for one in found] == [TransientError] * 2
    assert "look at the stage flow" in str(found[missing])
    assert "look at fast storage of the other hosts" in str(found[1 - missing])


def test_ranks_go_on_together(hosts: tuple[Path, Path]) -> None:
    """A host that is later holds the other back, and then both have the megabatch."""
    hidden = second(hosts[1]).rename(hosts[1] / "hidden")
    timer = threading.Timer(0.5, lambda: hidden.rename(second(hosts[1])))
    timer.start()
    found = waiting(hosts, seconds=60)
    timer.join()
    for one in found:
        assert isinstance(one, tuple)
        assert one[1] > 0.3


def test_a_failure_of_one_rank_is_told_to_all(hosts: tuple[Path, Path]) -> None:
    """Who finds a damaged manifest says so before it stops; the other does not wait for it."""
    (second(hosts[1]) / "manifest.json").write_text("{}")
    first, other = waiting(hosts, seconds=60)
    assert isinstance(other, PackError)
    assert isinstance(first, TransientError)
    assert "by another rank" in str(first)


def test_the_log_is_bounded(hosts: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """However often it looks, a rank says so once in the interval."""
    root = hosts[0]
    shutil.rmtree(second(root))
    plan = ChipDataset(root / "archive", plan=PLAN, fast=root / "fast", as_torch=False).plan
    began = time.monotonic()
    with pytest.raises(TransientError):
        wait_for_megabatch(
            FastStorage(root / "fast", plan), 1, patience=Patience(seconds=2.5, log_every=1)
        )
    assert 2 <= len(caplog.messages) <= 1 + (time.monotonic() - began)


def train(
    hosts: tuple[Path, Path],
    *,
    workers: int,
    seconds: float,
    after_a_megabatch: Callable[[], object] = lambda: None,
) -> list[str]:
    """Train with two real processes; give what each printed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    program = str(Path(__file__).with_name("agreeing_rank.py"))
    ranks = [
        subprocess.Popen(
            [
                *(sys.executable, program, str(hosts[0]), PLAN, str(rank), port),
                *(str(hosts[rank] / "fast"), str(workers), str(seconds)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    assert ranks[0].stdout is not None
    head = list(itertools.islice(ranks[0].stdout, 4))
    after_a_megabatch()
    said = [rank.communicate(timeout=240)[0] for rank in ranks]
    said[0] = "".join(head) + said[0]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return said


UNTOLD = """
import pickle, sys
import torch.distributed as dist
from chipmill.errors import RequestError
from chipmill.train import ChipDataset
dist.init_process_group("gloo", init_method=sys.argv[1], rank=int(sys.argv[2]), world_size=2)
opened = {"plan": sys.argv[4], "fast": sys.argv[3] + "/fast", "wait_seconds": 0}
dataset = ChipDataset(sys.argv[3] + "/archive", **opened)
def refused(dataset):
    try:
        next(iter(dataset))
    except RequestError as err:
        print(err)
refused(dataset)
sent = pickle.dumps(dataset)
alone = ChipDataset(sys.argv[3] + "/archive", rank=0, world_size=1, **opened)
print(len(next(iter(alone))) > 0)
dist.barrier()
dist.destroy_process_group()
refused(pickle.loads(sent))
"""


@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_ranks_that_nobody_told_which_they_are_stop(hosts: tuple[Path, Path]) -> None:
    """Each would read all chips, and the training would look well. Who says so means it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", UNTOLD, url, str(rank), str(hosts[0]), PLAN],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank in ranks:
        said, _ = rank.communicate(timeout=240)
        assert rank.returncode == 0
        here, alone, spawned = said.splitlines()
        assert here.startswith("torch.distributed has 2 ranks, and all would read the same chips")
        assert alone == "True"
        assert spawned == here


@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("workers", [0, 1])
def test_two_processes_stop_at_the_same_step(hosts: tuple[Path, Path], workers: int) -> None:
    """Real ranks, one of which lacks a megabatch: both do the same steps and then say why."""
    shutil.rmtree(second(hosts[1]))
    said = train(hosts, workers=workers, seconds=2)
    steps = [[line for line in text.splitlines() if line.startswith("step")] for text in said]
    assert steps[0] == steps[1] == [f"step (2, 0, {number}) 2" for number in range(4)]
    for text in said:
        assert "TransientError megabatch 1 of plan" in text


@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_two_processes_go_on_when_the_later_host_is_ready(hosts: tuple[Path, Path]) -> None:
    """The rank that has its data waits for the one that has not; both see the whole epoch."""
    hidden = second(hosts[1]).rename(hosts[1] / "hidden")
    said = train(
        hosts,
        workers=1,
        seconds=200,
        after_a_megabatch=lambda: hidden.rename(second(hosts[1])),
    )
    steps = [[line for line in text.splitlines() if line.startswith("step")] for text in said]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 8
