"""Reports through broken wires to a receiver that is killed: each counts once, none is lost."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from sqlalchemy import create_engine, func, select

from chipmill.io import ledger_tables as tables
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id
from chipmill.service.keys import run_key
from chipmill.train.notify import Completion, Notifier
from chipmill.train.post import Backoff
from tests.archive.fault_proxy import faults_before

MASTER = bytes(range(32))
PLAN = "0123456789abcdef"
RANKS = 8
SEED = 20261128
FAULTS = ("reset", "cut", "lost", "500", "503", "429")
SCRIPT = Path(__file__).with_name("receiver_process.py")
PATIENCE = 600
"""Seconds for all reports on a busy machine."""


@contextmanager
def receiving(url: str, port: int, folder: Path) -> Generator[None]:
    """Keep a receiver that comes back whenever it dies."""
    command = [sys.executable, str(SCRIPT), url, str(port), str(folder)]
    process = subprocess.Popen(command, env={"PATH": os.defpath})
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def report_all(rank: int, url: str, spool: Path, names: list[str]) -> None:
    """Report as one rank, out of order; half-way the trainer is started again."""
    draw = random.Random(SEED + rank)  # noqa: S311  an order, no secret
    names = draw.sample(names, len(names))
    half = len(names) // 2
    for part, dies in ((names[:half], True), (names[half:], False)):
        notifier = Notifier(
            url,
            run="run",
            key=run_key(MASTER, "run"),
            rank=rank,
            world_size=RANKS,
            spool=spool,
            wait_for_checkpoint=False,
            backoff=Backoff(first=0.05, longest=0.5),
        )
        for name in part:
            notifier.completed(Completion(megabatch=name, epoch=0, minibatches=7))
        if dies:
            with pytest.raises(ValueError, match="the trainer dies"), notifier:
                raise ValueError("the trainer dies")
        else:
            notifier.close(PATIENCE)


def kill_now_and_then(folder: Path, reports: Callable[[], int], *, kills: int, of: int) -> None:
    """Doom the receiver, evenly over all reports; each time wait until it is dead."""
    for number in range(kills):
        deadline = time.monotonic() + PATIENCE
        while reports() < of * number // (kills + 1):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (folder / "kill").touch()
        while (folder / "kill").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_every_rank_counts_once(
    tmp_path: Path, free_port: Callable[[], int], pytestconfig: pytest.Config
) -> None:
    """F6: lost answers, cut wires, kills between commit and answer, restarts; one effect each."""
    count = cast("int", pytestconfig.getoption("--deliveries")) // RANKS
    kills = max(4, count * RANKS // 100)
    url, port = f"sqlite:///{tmp_path / 'ledger.db'}", free_port()
    names = [megabatch_id(PLAN, number) for number in range(count)]
    engine = create_engine(url)

    def reports() -> int:
        with engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(tables.done)) or 0

    with Ledger.open(url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[1] * count)
        for name in names:
            fence = ledger.claim_staging(name, budget=count, worker="w")
            ledger.ready(name, fence, size=1)
        ledger.begin_run("run", attempt=1, world=RANKS, plan=PLAN)
        with (
            receiving(url, port, tmp_path),
            faults_before(port, seed=SEED, share=0.15, faults=FAULTS) as proxy,
            ThreadPoolExecutor(RANKS) as pool,
        ):
            ranks = [
                pool.submit(report_all, rank, proxy.url, tmp_path / "spool", names)
                for rank in range(RANKS)
            ]
            kill_now_and_then(tmp_path, reports, kills=kills, of=count * RANKS)
            for rank in ranks:
                rank.result()
        assert proxy.faulty > count * RANKS // 20
        assert {row.state for row in ledger.megabatches()} == {State.COMPLETE}
        for name in names:
            moves = [(change.was, change.now) for change in ledger.history(name)]
            assert moves.count((State.IN_USE, State.COMPLETE)) == 1
    assert reports() == count * RANKS
    with engine.connect() as connection:
        asked = connection.execute(
            select(tables.outbox.c.subject).where(tables.outbox.c.kind == "cleanup")
        )
        assert sorted(asked.scalars()) == names
    engine.dispose()
    assert [path for path in (tmp_path / "spool").rglob("*") if path.is_file()] == []
