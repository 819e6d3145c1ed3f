"""A hundred megabatches through room for two and a half, read while others come and go."""

import random
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import State, megabatch_id
from chipmill.train import Batch, ChipDataset
from tests.storage.site import CHIP, Site

Pixels = dict[str, NDArray[np.uint16]]
HERE = Path(__file__).parent
EPOCHS = 25
"""Each of four megabatches."""
AHEAD = 9
"""More than the budget has room for: it alone is the limit."""


def test_a_hundred_megabatches_pass_through_the_budget(
    site: Site, eight_scenes: tuple[Store, Pixels]
) -> None:
    """The disk is never over the budget, no chip is wrong or missing, and nothing remains."""
    plans = [site.plan(epoch=epoch) for epoch in range(EPOCHS)]
    assert sum(len(plan.megabatches) for plan in plans) == 100
    largest = max(part.size for plan in plans for part in plan.megabatches)
    budget = int(2.5 * largest)
    with (
        observed(site.fast) as seen,
        working(site, budget) as complaints,
        ThreadPoolExecutor(2) as pool,
    ):
        trainers = [
            pool.submit(train, site, plans[side::2], eight_scenes[1], seed=side) for side in (0, 1)
        ]
        read = [trainer.result() for trainer in trainers]
        wait_until_removed(site)
    assert sum(read) == sum(part.chips - part.left_over for p in plans for part in p.megabatches)
    assert not complaints
    most, looks = seen
    assert looks > 100
    assert largest < most <= budget
    assert site.ledger.reserved() == site.on_disk() == 0
    assert not [path for path in site.fast.rglob("*") if path.is_file()]
    for row in site.ledger.megabatches():
        assert (row.state, row.generation) == (State.REMOVED, 1)
        assert sum(change.now is State.REMOVED for change in site.ledger.history(row.id)) == 1
    for plan in plans:
        begun = [staged_at(site, plan, number) for number in range(4)]
        assert begun == sorted(begun)


def test_a_stager_that_rests_while_there_is_room_is_seen(site: Site) -> None:
    """A trainer may wait for a stager that is at work, or for room: never for one that rests.

    Each look of the stager says whether it staged nothing though what is wanted next had room; the
    test above hears of none. This one stages nothing ahead, so that a trainer that keeps its
    megabatch waits.
    """
    plan = site.plan()
    site.begin(plan)
    with working(site, 10**9, ahead=0) as complaints:
        deadline = time.monotonic() + 300
        while site.state(plan) is not State.IN_USE and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
    assert any(f"room for ['{megabatch_id(plan.plan, 1)}']" in said for said in complaints)


def staged_at(site: Site, plan: Plan, number: int) -> float:
    """Say when a megabatch was first begun to be staged."""
    changes = site.ledger.history(megabatch_id(plan.plan, number))
    return next(change.at for change in changes if change.now is State.STAGING)


def test_the_observer_would_see_it(site: Site) -> None:
    """Without a limit there are more bytes than two and a half megabatches on the disk at once."""
    plan, other = site.plan(), site.plan(epoch=1)
    site.begin(plan)
    site.begin(other, run="other")
    with observed(site.fast) as seen:
        site.stage(ahead=3)
        time.sleep(0.5)
    assert seen[0] > 2.5 * max(part.size for part in plan.megabatches)


def train(site: Site, plans: list[Plan], pixels: Pixels, *, seed: int) -> int:
    """Read plans one after the other, at any pace, and report each megabatch at some later time.

    Returns:
        How many chips were read.
    """
    chance = random.Random(seed)  # noqa: S311  a pace, not a secret
    count, run = 0, f"run-{seed}"
    with Ledger.open(site.url) as ledger:
        mine = Site(site.archive, site.fast, site.url, ledger)
        for plan in plans:
            mine.begin(plan, run=run)
            unreported: list[int] = []
            dataset = ChipDataset(
                site.archive.url, plan=plan.plan, fast=site.fast, as_torch=False, wait_seconds=300
            )
            ids: list[str] = []
            for batch in dataset:
                assert isinstance(batch, Batch)
                is_right(batch, pixels)
                ids += batch.chip_ids
                now = batch.position.megabatch
                for number in [n for n in unreported if n < now]:
                    if chance.random() < 0.7:
                        unreported.remove(number)
                        mine.report(megabatch_id(plan.plan, number), run=run)
                if now not in unreported and batch.after.megabatch > now:
                    unreported.append(now)
                if chance.random() < 0.2:
                    time.sleep(chance.uniform(0, 0.02))
            assert len(ids) == len(set(ids))
            count += len(ids)
            for number in unreported:
                mine.report(megabatch_id(plan.plan, number), run=run)
    return count


def is_right(batch: Batch, pixels: Pixels) -> None:
    """Compare each chip with the scene that it was cut from."""
    for chip, name in zip(batch.pixels, batch.chip_ids, strict=True):
        _, scene, place = name.split("/")
        row, col = (int(part) * CHIP for part in place.split("-"))
        assert np.array_equal(chip[0], pixels[scene][row : row + CHIP, col : col + CHIP])


@contextmanager
def observed(folder: Path) -> Generator[list[int]]:
    """Have a process look at a folder; afterwards the list has the most bytes and the looks."""
    command = [sys.executable, str(HERE / "disk_observer.py"), str(folder)]
    seen: list[int] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield seen
        finally:
            said, _ = process.communicate(timeout=60)
        seen += map(int, said.split())


@contextmanager
def working(site: Site, budget: int, *, ahead: int = AHEAD) -> Generator[list[str]]:
    """Have processes stage and clean up; afterwards the list has what they complained of."""
    places = [site.archive.url, str(site.fast), site.url, str(budget), str(ahead)]
    complaints: list[str] = []
    command = [sys.executable, str(HERE / "storage_workers.py"), *places]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        try:
            yield complaints
        finally:
            process.stdin.close()
            assert process.stderr
            lines = process.stderr.read().decode().splitlines()
            complaints += [line for line in lines if "Error" in line]


def wait_until_removed(site: Site) -> None:
    """Wait for the last cleanup."""
    deadline = time.monotonic() + 300
    while {row.state for row in site.ledger.megabatches()} != {State.REMOVED}:
        if time.monotonic() > deadline:
            pytest.fail("not all megabatches were removed")
        time.sleep(0.05)
