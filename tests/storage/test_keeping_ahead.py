"""Several plans share one fast storage: each has its turn, and nobody starves."""

import shutil
from collections.abc import Generator

import pytest

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.model.megabatch import State, megabatch_id, parse_megabatch_id
from chipmill.steps.prefetch import next_to_stage
from chipmill.train import Batch, ChipDataset
from tests.storage.site import Site


def plan_of(megabatch: str) -> str:
    """Name the plan of a megabatch."""
    return parse_megabatch_id(megabatch)[0]


def test_all_plans_in_use_are_kept_ahead(site: Site) -> None:
    """One in use and one ahead for each; a plan that no run reads gets nothing."""
    plans = [site.plan(epoch=epoch) for epoch in range(3)]
    for number, plan in enumerate(plans[:2]):
        site.begin(plan, run=f"run-{number}")
    staged = site.stage()
    assert sorted(map(plan_of, staged)) == sorted([plan.plan for plan in plans[:2]] * 2)
    assert {plan_of(name) for name in staged[:2]} == {plan.plan for plan in plans[:2]}
    assert site.stage() == []
    assert site.state(plans[2]) is State.PLANNED
    assert site.stage(plans[2].plan, ahead=0) == [megabatch_id(plans[2].plan, 0)]


def test_a_released_plan_is_no_longer_kept(site: Site) -> None:
    """Space that a dead run's plan would fill is missing to the living."""
    plan = site.plan()
    site.begin(plan)
    site.stage(ahead=0)
    for name in site.ledger.release_run("run"):
        site.remove(name)
    assert site.stage() == []


def test_each_plan_has_its_turn_while_space_is_scarce(site: Site) -> None:
    """Room for one megabatch, three plans: one after the other, whatever their names are."""
    plans = [site.plan(epoch=epoch) for epoch in range(3)]
    budget = max(part.size for plan in plans for part in plan.megabatches)
    for number, plan in enumerate(plans):
        site.begin(plan, run=f"run-{number}")
    runs = {plan.plan: f"run-{number}" for number, plan in enumerate(plans)}
    served: list[str] = []
    for _ in range(9):
        (name,) = site.stage(budget=budget)
        served.append(plan_of(name))
        site.report(name, run=runs[plan_of(name)])
        site.remove(name)
    for turn in range(0, 9, 3):
        assert set(served[turn : turn + 3]) == set(runs)


def test_a_large_megabatch_is_not_overtaken_for_ever(site: Site) -> None:
    """What does not fit keeps its place in the line, and those behind it wait."""
    small, large = site.plan(), site.plan(megabatch=8, epoch=1)
    need = large.megabatches[0].size
    assert small.megabatches[0].size * 2 < need
    site.begin(small, run="small")
    first = site.stage(budget=need)
    assert len(first) == 2
    site.begin(large, run="large")
    site.report(first[0], run="small")
    site.remove(first[0])
    assert site.stage(budget=need) == []  # the small plan's third would fit
    site.report(first[1], run="small")
    site.remove(first[1])
    assert site.stage(budget=need)[0] == megabatch_id(large.plan, 0)


def test_what_can_never_fit_is_passed_over(site: Site) -> None:
    """After the budget was lowered, one plan of huge megabatches must not block all."""
    small, large = site.plan(), site.plan(megabatch=8, epoch=1)
    site.begin(small, run="small")
    site.begin(large, run="large")
    budget = large.megabatches[0].size - 1
    assert {plan_of(name) for name in site.stage(budget=budget)} == {small.plan}


def test_a_plan_that_cannot_be_staged_does_not_hold_up_the_others(site: Site) -> None:
    """It is gone from the archive: the error comes when the others have been served."""
    broken, good = site.plan(epoch=77), site.plan(epoch=1)
    site.begin(broken, run="broken")
    site.begin(good, run="good")
    shutil.rmtree(str(site.archive.local_path(f"{layout.PLANS}{broken.plan}")))
    with pytest.raises(RequestError, match=broken.plan):
        site.stage()
    assert site.state(good) is site.state(good, 1) is State.IN_USE
    assert site.state(broken) is State.PLANNED


def test_a_dropped_staging_comes_first_in_its_plan(site: Site) -> None:
    """Its bytes are reserved: nothing is gained by beginning another."""
    plan = site.plan()
    site.begin(plan)
    second = megabatch_id(plan.plan, 1)
    site.ledger.claim_staging(second, budget=10**9, worker="dies")
    row = next_to_stage(site.ledger, budget=10**9, ahead=2)
    assert row is not None
    assert row.number == 0
    with site.later() as ledger:
        dropped = next_to_stage(ledger, budget=10**9, ahead=2)
        assert dropped is not None
        assert dropped.id == second
        assert second in site.stage(ledger=ledger)


def test_what_was_abandoned_comes_back_when_a_run_reads_it(site: Site) -> None:
    """It was removed before anybody had it: a run that waits for it would wait for ever."""
    plan = site.plan()
    name = megabatch_id(plan.plan, 0)
    site.stage(plan.plan, ahead=0)
    fence = site.ledger.claim_removal(name, worker="me", abandon=True, why="space")
    assert fence is not None
    site.ledger.removed(name, fence)
    assert site.state(plan) is State.REMOVED
    site.begin(plan)
    assert site.state(plan) is State.PLANNED
    assert name in site.stage()


def train(site: Site, plan: Plan, run: str, *, budget: int) -> Generator[int, None, list[str]]:
    """Train, clean up and stage as the flows do; gives the number of each megabatch, and chips."""
    site.begin(plan, run=run)
    chips: list[str] = []
    dataset = ChipDataset(
        site.archive.url, plan=plan.plan, fast=site.fast, as_torch=False, wait_seconds=0
    )
    batches = iter(dataset)
    for number in range(len(plan.megabatches)):
        site.stage(budget=budget)
        yield number
        for batch in batches:
            chips += batch.chip_ids
            if batch.after.megabatch > number:
                break
        name = megabatch_id(plan.plan, number)
        site.report(name, run=run)
        if site.state(plan, number) is State.COMPLETE:
            site.remove(name)
    return chips


def test_two_trainings_that_are_apart_read_it_all(site: Site) -> None:
    """The second begins when the first is in its third megabatch, in room for three of four."""
    plan = site.plan()
    budget = 3 * max(part.size for part in plan.megabatches)
    trainings = {run: train(site, plan, run, budget=budget) for run in ("first", "second")}
    assert [next(trainings["first"]) for _ in range(3)] == [0, 1, 2]
    at, chips = {"first": 2, "second": next(trainings["second"])}, dict[str, list[str]]()
    while at:
        free = [run for run, number in at.items() if site.state(plan, number) is State.IN_USE]
        assert free, "both wait"
        for run in free:
            try:
                at[run] = next(trainings[run])
            except StopIteration as end:
                chips[run] = end.value
                del at[run]
        site.stage(budget=budget)
    whole = sum(part.chips - part.left_over for part in plan.megabatches)
    assert len(chips["first"]) == len(set(chips["first"])) == whole
    assert sorted(chips["first"]) == sorted(chips["second"])
    assert site.on_disk() == site.ledger.reserved() == 0


def test_a_second_training_on_a_plan_reads_it_all(site: Site) -> None:
    """What the first has read and freed is staged again as the second goes, and freed again."""
    plan = site.plan()
    for run in ("first", "second"):
        site.begin(plan, run=run)
        read: list[str] = []
        dataset = ChipDataset(site.archive.url, plan=plan.plan, fast=site.fast, as_torch=False)
        site.stage()
        for batch in dataset:
            assert isinstance(batch, Batch)
            read += batch.chip_ids
            if batch.after.megabatch > batch.position.megabatch:
                name = megabatch_id(plan.plan, batch.position.megabatch)
                site.report(name, run=run)
                site.remove(name)
                site.stage()
        assert len(read) == len(set(read)) == sum(m.chips - m.left_over for m in plan.megabatches)
        assert site.on_disk() == site.ledger.reserved() == 0
    assert {row.generation for row in site.ledger.megabatches()} == {2}
