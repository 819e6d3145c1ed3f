"""Each method of the ledger is one guarded transaction."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from chipmill.errors import (
    BudgetError,
    BusyError,
    ChipmillError,
    LedgerError,
    RequestError,
    StaleFenceError,
    TransientError,
)
from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_engine import network_filesystem
from chipmill.io.ledger_runs import Answer
from chipmill.model.megabatch import TRANSITIONS, State, megabatch_id, parse_megabatch_id

PLAN = "0123456789abcdef"
FIRST, SECOND, THIRD = (megabatch_id(PLAN, number) for number in range(3))
BUDGET = 250


class Clock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        """Begin well after 1970."""
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give the ledger's clock."""
    return Clock()


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    """Give a ledger with a plan of three megabatches of 100 bytes."""
    with Ledger.open(url, clock=clock) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[100, 100, 100])
        yield ledger


def stage(ledger: Ledger, megabatch: str = FIRST, *, size: int = 100) -> State:
    """Stage a megabatch to its end."""
    fence = ledger.claim_staging(megabatch, budget=BUDGET, worker="w")
    return ledger.ready(megabatch, fence, size=size)


def report(
    ledger: Ledger,
    rank: int = 0,
    *,
    megabatch: str = FIRST,
    run: str = "run",
    attempt: int = 1,
    world: int = 1,
    message_id: str = "",
    checkpoint: str | None = None,
) -> Answer:
    """Deliver one rank's completion."""
    data = {"megabatch": megabatch, "run": run, "attempt": attempt, "rank": rank}
    data |= {"world": world, "epoch": 0, "minibatches": 7, "checkpoint": checkpoint}
    message = MegabatchCompleted.model_validate(
        {"timestamp": datetime(2026, 1, 1, tzinfo=UTC), "data": data}
    )
    message_id = message_id or f"{megabatch}-{run}-{attempt}-{rank}"
    return ledger.complete(message_id, message.model_dump_json().encode(), message=message)


def begin(
    ledger: Ledger, run: str = "run", *, attempt: int = 1, world: int = 1, plan: str = PLAN
) -> list[str]:
    """Begin a run."""
    return ledger.begin_run(run, attempt=attempt, world=world, plan=plan)


def states(ledger: Ledger) -> list[State]:
    """Read all states in order."""
    return [row.state for row in ledger.megabatches(PLAN)]


def test_ids_come_apart_as_they_were_joined() -> None:
    """A megabatch id names its plan and number, and nothing else is one."""
    assert megabatch_id(PLAN, 0) == "0123456789abcdef-00000"
    assert parse_megabatch_id(megabatch_id(PLAN, 99_999)) == (PLAN, 99_999)
    for text in ("", PLAN, f"{PLAN}-1", f"{PLAN}-00000\n", f"{PLAN.upper()}-00000", "../x"):
        with pytest.raises(RequestError):
            parse_megabatch_id(text)
    for plan, number in ((PLAN, -1), (PLAN, 100_000), ("x", 0), (PLAN + "0", 0)):
        with pytest.raises(RequestError):
            megabatch_id(plan, number)


def test_every_state_is_left_and_entered() -> None:
    """No state is a dead end or unreachable."""
    assert set(TRANSITIONS) == set(State)
    assert {after for follow in TRANSITIONS.values() for after in follow} == set(State)


def test_a_plan_is_registered_once(ledger: Ledger) -> None:
    """A flow that is rerun registers its plan again; another plan under this id is a bug."""
    stage(ledger)
    ledger.register_plan(PLAN, "{}", needs=[100, 120, 100])
    assert states(ledger) == [State.READY, State.PLANNED, State.PLANNED]
    assert [row.bytes for row in ledger.megabatches()] == [100, 120, 100]
    assert ledger.plan_request(PLAN) == "{}"
    for request, needs in (('{"a":1}', [100, 100, 100]), ("{}", [100]), ("{}", []), ("{}", [-1])):
        with pytest.raises(RequestError, match=PLAN):
            ledger.register_plan(PLAN, request, needs=needs)


def test_what_is_unknown_is_said(ledger: Ledger) -> None:
    """A wrong id gets a sentence, not an empty answer."""
    other = "f" * 16
    calls = [
        lambda: ledger.megabatch("x"),
        lambda: ledger.plan_request(other),
        lambda: ledger.claim_staging("x", budget=1, worker="w"),
        lambda: ledger.begin_run("run", attempt=1, world=1, plan=other),
        lambda: ledger.release_run("nobody"),
        lambda: ledger.sent(77, "x"),
    ]
    for call in calls:
        with pytest.raises(RequestError):
            call()


def test_the_whole_way_leaves_one_chain_of_history(ledger: Ledger) -> None:
    """Each state begins where the one before ended, without a gap."""
    begin(ledger)
    assert stage(ledger, size=60) is State.IN_USE
    assert ledger.reserved() == 60
    assert report(ledger) == Answer(200, "complete")
    fence = ledger.claim_removal(FIRST, worker="cleaner")
    assert fence is not None
    ledger.removed(FIRST, fence)
    assert ledger.reserved() == 0
    assert ledger.claim_removal(FIRST, worker="cleaner") is None
    assert ledger.plan_again(FIRST) == 2
    rows = ledger.history(FIRST)
    assert [row.version for row in rows] == list(range(1, len(rows) + 1))
    assert [row.was for row in rows] == [State.PLANNED, *[row.now for row in rows[:-1]]]
    assert [row.now for row in rows] == [
        State.STAGING,
        State.READY,
        State.IN_USE,
        State.COMPLETE,
        State.REMOVING,
        State.REMOVED,
        State.PLANNED,
    ]


def test_the_budget_holds_over_all_plans(ledger: Ledger) -> None:
    """Bytes are reserved before they are written; what does not fit waits."""
    ledger.register_plan("f" * 16, "{}", needs=[100])
    stage(ledger, FIRST)
    stage(ledger, SECOND)
    for megabatch in (THIRD, megabatch_id("f" * 16, 0)):
        with pytest.raises(BudgetError, match=r"needs 100 bytes, 200 of the budget of 250"):
            ledger.claim_staging(megabatch, budget=BUDGET, worker="w")
    with pytest.raises(BudgetError, match="can never fit; raise CHIPMILL_BUDGET"):
        ledger.claim_staging(THIRD, budget=99, worker="w")
    assert ledger.reserved() == 200


def test_giving_up_releases_the_bytes(ledger: Ledger) -> None:
    """A full disk at one worker must not hold the others up."""
    fence = ledger.claim_staging(FIRST, budget=BUDGET, worker="w")
    ledger.give_up(FIRST, fence, reason="disk full")
    row = ledger.megabatch(FIRST)
    assert (row.state, row.reserved, row.reason) == (State.PLANNED, 0, "disk full")
    assert ledger.claim_staging(FIRST, budget=BUDGET, worker="w") == fence + 1
    assert ledger.megabatch(FIRST).reason == ""


def test_more_bytes_than_reserved_are_refused(ledger: Ledger) -> None:
    """Otherwise the budget would be broken after the fact."""
    fence = ledger.claim_staging(FIRST, budget=BUDGET, worker="w")
    with pytest.raises(LedgerError, match="101 bytes on fast storage but reserved 100"):
        ledger.ready(FIRST, fence, size=101)
    assert ledger.megabatch(FIRST).state is State.STAGING


def test_a_worker_that_lost_its_lease_is_refused(ledger: Ledger, clock: Clock) -> None:
    """A flow that was called crashed may still be alive: its late calls must not count."""
    old = ledger.claim_staging(FIRST, budget=BUDGET, worker="one", lease=120)
    with pytest.raises(BusyError, match="by one, whose lease lasts 120 s more"):
        ledger.claim_staging(FIRST, budget=BUDGET, worker="two")
    clock.now += 100
    ledger.renew(FIRST, old, lease=120)
    clock.now += 100
    with pytest.raises(BusyError):
        ledger.claim_staging(FIRST, budget=BUDGET, worker="two")
    clock.now += 21
    new = ledger.claim_staging(FIRST, budget=BUDGET, worker="two")
    for late in (
        lambda: ledger.renew(FIRST, old),
        lambda: ledger.ready(FIRST, old, size=1),
        lambda: ledger.give_up(FIRST, old, reason=""),
        lambda: ledger.removed(FIRST, new),
    ):
        with pytest.raises(StaleFenceError, match="stop touching its files"):
            late()
    assert ledger.reserved() == 100
    assert ledger.ready(FIRST, new, size=100) is State.READY


def test_a_removal_is_taken_over_too(ledger: Ledger, clock: Clock) -> None:
    """A cleaner that died between tombstone and record leaves no bytes behind."""
    stage(ledger)
    with pytest.raises(BusyError, match="only a complete one"):
        ledger.claim_removal(FIRST, worker="one")
    old = ledger.claim_removal(FIRST, worker="one", abandon=True)
    with pytest.raises(BusyError):
        ledger.claim_removal(FIRST, worker="two")
    clock.now += 121
    new = ledger.claim_removal(FIRST, worker="two")
    assert old is not None
    assert new is not None
    assert new == old + 1
    with pytest.raises(StaleFenceError):
        ledger.removed(FIRST, old)
    assert ledger.reserved() == 100
    ledger.removed(FIRST, new)
    assert (ledger.reserved(), ledger.megabatch(FIRST).state) == (0, State.REMOVED)


def test_data_in_use_is_never_removed(ledger: Ledger, clock: Clock) -> None:
    """Not by age, not by asking twice, not as abandoned: only reports or a person free it."""
    begin(ledger)
    stage(ledger)
    clock.now += 10**9
    for abandon in (False, True):
        with pytest.raises(BusyError, match="in_use"):
            ledger.claim_removal(FIRST, worker="w", abandon=abandon)
    assert ledger.release_run("run") == [FIRST]
    assert ledger.claim_removal(FIRST, worker="w") is not None


def test_a_run_gets_what_is_ready_and_asks_for_more(ledger: Ledger) -> None:
    """Begin moves what is ready at once and starts the stage flow once."""
    stage(ledger)
    assert begin(ledger) == [FIRST]
    assert begin(ledger) == []
    assert stage(ledger, SECOND) is State.IN_USE
    rows = ledger.pending()
    assert [(row.kind, row.subject, row.key) for row in rows] == [
        ("stage", PLAN, f"stage-{PLAN}-run-1")
    ]
    with pytest.raises(BusyError, match="began with world 1, not 2"):
        begin(ledger, world=2)


def test_the_last_rank_of_the_last_run_completes(ledger: Ledger) -> None:
    """Data is freed when nobody reads it any more, and its cleanup is asked for once."""
    begin(ledger, "a", world=2)
    begin(ledger, "b")
    stage(ledger)
    assert report(ledger, 0, run="a", world=2).note == "recorded"
    assert report(ledger, 0, run="a", world=2, message_id="again").note == "recorded"
    assert report(ledger, 1, run="a", world=2).note == "recorded"
    assert report(ledger, 0, run="b") == Answer(200, "complete")
    assert report(ledger, 0, run="b", message_id="late") == Answer(200, "complete")
    cleanups = [row for row in ledger.pending() if row.kind == "cleanup"]
    assert [(row.subject, row.key) for row in cleanups] == [(FIRST, f"cleanup-{FIRST}-g1")]


def test_a_repeated_delivery_gets_its_first_answer(ledger: Ledger) -> None:
    """The sender may not have heard it; another body under the same id is a bug of its own."""
    begin(ledger, world=2)
    stage(ledger)
    assert report(ledger, 0, world=2, message_id="m") == Answer(200, "recorded")
    report(ledger, 1, world=2)
    assert report(ledger, 0, world=2, message_id="m") == Answer(200, "recorded")
    assert report(ledger, 1, world=2, message_id="m").status == 409


def test_a_run_cannot_use_up_the_ids_of_another(ledger: Ledger) -> None:
    """Ids can be computed by everybody, so they count within the run whose key signed."""
    begin(ledger, "thief")
    begin(ledger, "honest")
    stage(ledger)
    assert report(ledger, run="thief", message_id="m").note == "recorded"
    assert report(ledger, run="honest", message_id="m") == Answer(200, "complete")


def test_a_worker_may_know_the_need_better_than_the_plan(ledger: Ledger) -> None:
    """What it claims is reserved, whoever registers the plan again with its own numbers."""
    with pytest.raises(BudgetError, match="it can never fit"):
        ledger.claim_staging(FIRST, budget=BUDGET, worker="w", need=BUDGET + 1)
    assert (ledger.megabatch(FIRST).state, ledger.reserved()) == (State.PLANNED, 0)
    needs = [row.bytes for row in ledger.megabatches(PLAN)]
    fence = ledger.claim_staging(FIRST, budget=BUDGET, worker="w", need=needs[0] + 20)
    ledger.register_plan(PLAN, ledger.plan_request(PLAN), needs=needs)
    assert ledger.reserved() == needs[0] + 20
    assert ledger.ready(FIRST, fence, size=needs[0] + 20) is State.READY


def test_another_need_is_forgotten_when_it_is_given_up(ledger: Ledger, clock: Clock) -> None:
    """It was staged in another form; what the plan says holds for who comes next."""
    fence = ledger.claim_staging(FIRST, budget=BUDGET, worker="w", need=40)
    ledger.give_up(FIRST, fence, reason="disk full")
    fence = ledger.claim_staging(FIRST, budget=BUDGET, worker="w")
    assert ledger.reserved() == ledger.megabatch(FIRST).bytes == 100
    assert ledger.ready(FIRST, fence, size=100) is State.READY
    ledger.claim_staging(SECOND, budget=BUDGET, worker="w", need=40)
    clock.now += 121
    fence = ledger.claim_staging(SECOND, budget=BUDGET, worker="w")
    assert ledger.ready(SECOND, fence, size=100) is State.READY


def test_who_takes_over_reserves_no_more_than_is_free(ledger: Ledger, clock: Clock) -> None:
    """The budget holds; the worker gives up at the end and claims anew."""
    ledger.claim_staging(FIRST, budget=190, worker="w", need=40)
    ledger.claim_staging(SECOND, budget=190, worker="w")
    clock.now += 121
    fence = ledger.claim_staging(FIRST, budget=190, worker="w")
    assert ledger.reserved() == 140
    with pytest.raises(LedgerError, match="has 100 bytes on fast storage but reserved 40"):
        ledger.ready(FIRST, fence, size=100)
    ledger.give_up(FIRST, fence, reason="it needs more")
    with pytest.raises(BudgetError):
        ledger.claim_staging(FIRST, budget=190, worker="w")


def test_what_does_not_fit_is_answered_without_an_effect(ledger: Ledger) -> None:
    """Each wrong report gets its own status, and is taken when it has become right."""
    stage(ledger)
    assert report(ledger).status == 409  # before begin; the run is not known
    assert report(ledger, megabatch=megabatch_id("f" * 16, 0)).status == 404
    begin(ledger, attempt=2)
    assert "zombie" in report(ledger, attempt=1).note
    assert report(ledger, attempt=1).status == 409
    assert report(ledger, attempt=3).status == 409
    assert report(ledger, attempt=2, world=2).status == 422
    assert report(ledger, attempt=2, megabatch=SECOND).status == 409  # before ready
    fence = ledger.claim_staging(SECOND, budget=BUDGET, worker="w")
    early = report(ledger, attempt=2, megabatch=SECOND)  # its manifest may be there already
    assert (early.status, ledger.megabatch(SECOND).state) == (425, State.STAGING)
    ledger.ready(SECOND, fence, size=100)
    assert report(ledger, attempt=2, megabatch=SECOND) == Answer(200, "complete")
    assert states(ledger) == [State.IN_USE, State.COMPLETE, State.PLANNED]
    with pytest.raises(BusyError, match="zombie"):
        begin(ledger, attempt=1)


def test_a_new_attempt_reports_again_what_is_not_complete(ledger: Ledger) -> None:
    """It went back to a checkpoint: ranks that were done before read the data again."""
    begin(ledger, world=2)
    stage(ledger, FIRST)
    stage(ledger, SECOND)
    for rank in (0, 1):
        report(ledger, rank, world=2, megabatch=FIRST)
    report(ledger, 0, world=2, megabatch=SECOND)
    begin(ledger, attempt=2, world=2)
    assert report(ledger, 1, world=2, attempt=2, megabatch=SECOND).note == "recorded"
    assert states(ledger)[:2] == [State.COMPLETE, State.IN_USE]
    assert report(ledger, 0, world=2, attempt=2, megabatch=SECOND).note == "complete"


def test_a_smaller_world_after_a_restart_is_enough(ledger: Ledger) -> None:
    """Ranks that are gone are not waited for."""
    begin(ledger, world=4)
    stage(ledger)
    report(ledger, 3, world=4)
    begin(ledger, attempt=2, world=1)
    assert report(ledger, 0, attempt=2, world=1) == Answer(200, "complete")


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_next_generation_waits_for_all_again(ledger: Ledger, attempt: int) -> None:
    """A rollback reads the data a second time: the reports of the first must not free it."""
    begin(ledger, world=2)
    stage(ledger)
    for rank in (0, 1):
        report(ledger, rank, world=2)
    fence = ledger.claim_removal(FIRST, worker="w")
    assert fence is not None
    ledger.removed(FIRST, fence)
    ledger.plan_again(FIRST)
    begin(ledger, attempt=attempt, world=2)
    stage(ledger)
    notes = [report(ledger, r, attempt=attempt, world=2, message_id=f"g2-{r}").note for r in (0, 1)]
    assert notes == ["recorded", "complete"]
    keys = [row.key for row in ledger.pending() if row.kind == "cleanup"]
    assert keys == [f"cleanup-{FIRST}-g1", f"cleanup-{FIRST}-g2"]


def removed(ledger: Ledger, megabatch: str = FIRST) -> None:
    """Remove a complete megabatch."""
    fence = ledger.claim_removal(megabatch, worker="w")
    assert fence is not None
    ledger.removed(megabatch, fence)


def test_a_second_run_gets_what_the_first_has_had(ledger: Ledger) -> None:
    """It is staged again without a word of a person, and the first run is not asked again."""
    begin(ledger, "first")
    stage(ledger)
    report(ledger, run="first")
    removed(ledger)
    assert begin(ledger, "first") == []
    assert ledger.megabatch(FIRST).state is State.REMOVED
    begin(ledger, "second")
    row = ledger.megabatch(FIRST)
    assert (row.state, row.generation) == (State.PLANNED, 2)
    assert stage(ledger) is State.IN_USE
    assert report(ledger, run="second") == Answer(200, "complete")
    removed(ledger)
    begin(ledger, "second", attempt=2)
    assert ledger.megabatch(FIRST).state is State.REMOVED


def test_what_a_run_has_still_to_read(ledger: Ledger) -> None:
    """All ranks of its present attempt have to report; an earlier generation is told apart."""
    begin(ledger, "first", world=2)
    stage(ledger)
    report(ledger, 0, run="first", world=2)
    assert unread(ledger) == {"first": [0, 1, 2]}
    report(ledger, 1, run="first", world=2)
    assert unread(ledger) == {"first": [1, 2]}
    removed(ledger)
    begin(ledger, "second")
    assert unread(ledger) == {"first": [1, 2], "second": [0, 1, 2]}
    begin(ledger, "first", attempt=2, world=2)
    assert unread(ledger) == {"first": [0, 1, 2], "second": [0, 1, 2]}
    report(ledger, run="second")
    begin(ledger, "second", attempt=2)
    stage(ledger)
    ledger.release_run("first")
    report(ledger, run="second", attempt=2)
    removed(ledger)
    ledger.plan_again(FIRST)
    assert [row.number for row in ledger.unread(PLAN) if row.again] == [0]
    ledger.release_run("second")
    assert unread(ledger) == {"": [0, 1, 2]}


def unread(ledger: Ledger) -> dict[str, list[int]]:
    """Number what each run has still to read."""
    found: dict[str, list[int]] = {}
    for row in ledger.unread(PLAN):
        found.setdefault(row.run, []).append(row.number)
    return found


def test_a_run_that_begins_before_the_cleanup_gets_it_too(ledger: Ledger) -> None:
    """Complete, it is removed first: nobody may begin to read what is about to go."""
    begin(ledger, "first")
    stage(ledger)
    report(ledger, run="first")
    begin(ledger, "second")
    assert ledger.megabatch(FIRST).state is State.COMPLETE
    removed(ledger)
    row = ledger.megabatch(FIRST)
    assert (row.state, row.generation) == (State.PLANNED, 2)


def test_a_run_that_is_beyond_it_lets_it_go(ledger: Ledger) -> None:
    """A new run goes on from a checkpoint of another, and reports what lies before: no byte moves.

    What was never staged it cannot have read.
    """
    begin(ledger, "first")
    stage(ledger)
    report(ledger, run="first")
    removed(ledger)
    begin(ledger, "second", world=2)
    assert report(ledger, 0, run="second", world=2).status == 200
    assert ledger.megabatch(FIRST).state is State.PLANNED
    assert report(ledger, 1, run="second", world=2).status == 200
    assert (ledger.megabatch(FIRST).state, ledger.reserved()) == (State.REMOVED, 0)
    assert report(ledger, run="second", world=2, megabatch=SECOND).status == 409
    begin(ledger, "third")
    assert ledger.megabatch(FIRST).state is State.PLANNED


def test_a_run_reads_several_plans(ledger: Ledger) -> None:
    """Each epoch is a plan of its own; late reports for the one before still count."""
    other = "f" * 16
    ledger.register_plan(other, "{}", needs=[10])
    begin(ledger)
    stage(ledger)
    begin(ledger, plan=other)
    assert report(ledger) == Answer(200, "complete")
    assert {(row.id, row.plan) for row in ledger.runs()} == {("run", PLAN), ("run", other)}


def test_the_history_names_the_checkpoint(ledger: Ledger) -> None:
    """People read there what a completed megabatch was saved in, whatever its name is made of."""
    begin(ledger)
    for name in (FIRST, SECOND):
        stage(ledger, name)
    report(ledger, checkpoint="s3://ckpt/step-123")
    report(ledger, megabatch=SECOND, checkpoint="a\0b\x1b[2J\nc")
    assert ledger.history(FIRST)[-1].why == "checkpoint s3://ckpt/step-123"
    assert ledger.history(SECOND)[-1].why == "checkpoint a\ufffdb\ufffd[2J\ufffdc"


def test_the_last_word_on_an_earlier_plan_counts(ledger: Ledger) -> None:
    """An attempt is old on the plans on which a later one has begun; elsewhere it may report."""
    other = "f" * 16
    ledger.register_plan(other, "{}", needs=[10])
    begin(ledger)
    stage(ledger)
    stage(ledger, SECOND)
    begin(ledger, plan=other, attempt=2)
    assert report(ledger, attempt=1) == Answer(200, "complete")
    with pytest.raises(BusyError, match="zombie"):
        begin(ledger, plan=other, attempt=1)
    with pytest.raises(BusyError, match="zombie"):
        begin(ledger, attempt=1)
    begin(ledger, attempt=2)
    assert "zombie" in report(ledger, attempt=1, megabatch=SECOND).note


def test_a_run_is_released_on_one_plan(ledger: Ledger) -> None:
    """What it reads of another stays."""
    other = "f" * 16
    ledger.register_plan(other, "{}", needs=[10])
    begin(ledger)
    stage(ledger)
    begin(ledger, plan=other)
    stage(ledger, megabatch_id(other, 0), size=10)
    assert ledger.release_run("run", plan=PLAN) == [FIRST]
    assert ledger.megabatch(megabatch_id(other, 0)).state is State.IN_USE
    assert [row.plan for row in ledger.runs() if row.released is None] == [other]
    with pytest.raises(RequestError, match="no run 'run' on plan 0000"):
        ledger.release_run("run", plan="0" * 16)


def test_a_released_run_is_not_waited_for(ledger: Ledger) -> None:
    """A dead run frees its space when a person says so; the others go on unharmed."""
    begin(ledger, "dead")
    begin(ledger, "alive")
    stage(ledger)
    stage(ledger, SECOND)
    report(ledger, run="alive")
    assert ledger.release_run("dead") == [FIRST]
    assert report(ledger, run="dead", megabatch=SECOND).status == 409
    assert states(ledger)[:2] == [State.COMPLETE, State.IN_USE]
    begin(ledger, "dead", attempt=2)
    assert report(ledger, run="alive", megabatch=SECOND).note == "recorded"


def test_the_outbox_keeps_a_row_until_it_is_sent(ledger: Ledger, clock: Clock) -> None:
    """A row that was not accepted comes again after its delay, with what went wrong."""
    begin(ledger)
    (row,) = ledger.pending()
    ledger.postpone(row.id, "server down", delay=5)
    assert ledger.pending() == []
    clock.now += 5
    (again,) = ledger.pending()
    assert (again.id, again.attempts, again.error) == (row.id, 1, "server down")
    ledger.sent(row.id, "flow-run")
    assert ledger.pending() == []


def test_racing_workers_share_nothing_and_fit(url: str, ledger: Ledger) -> None:
    """Each megabatch gets one worker, and together they stay within the budget."""
    ledger.register_plan("f" * 16, "{}", needs=[100] * 8)
    names = [row.id for row in ledger.megabatches("f" * 16)] * 2
    start = threading.Barrier(8)

    def claim(share: list[str]) -> int:
        won = 0
        with Ledger.open(url) as mine:
            start.wait()
            for name in share:
                try:
                    mine.claim_staging(name, budget=BUDGET, worker="w")
                except (BudgetError, BusyError):
                    continue
                won += 1
        return won

    with ThreadPoolExecutor(8) as pool:
        won = sum(pool.map(claim, [names[number::8] for number in range(8)]))
    assert won == 2
    assert ledger.reserved() == 200


def test_ranks_that_report_together_complete_once(url: str, ledger: Ledger, clock: Clock) -> None:
    """When the last ranks each see the others missing, nobody completes and space is lost."""
    begin(ledger, world=8)
    stage(ledger)
    with Ledger.open(url, clock=clock) as other, ThreadPoolExecutor(8) as pool:
        both = [ledger, other]
        answers = [pool.submit(report, both[rank % 2], rank, world=8) for rank in range(8)]
    notes = [answer.result().note for answer in answers]
    assert sorted(notes) == ["complete", *["recorded"] * 7]
    assert len([row for row in ledger.pending() if row.kind == "cleanup"]) == 1


def test_what_was_committed_is_there_after_a_restart(url: str, ledger: Ledger) -> None:
    """The ledger is the truth; a process is not."""
    stage(ledger)
    with Ledger.open(url) as again:
        assert again.megabatches() == ledger.megabatches()
        assert again.history(FIRST) == ledger.history(FIRST)


def test_a_lock_is_waited_for_and_then_said(sqlite_url: str, tmp_path: Path) -> None:
    """A locked database is a passing trouble: the caller may come again."""
    with Ledger.open(sqlite_url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[100])
        stage(ledger)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    with Ledger.open(sqlite_url, patience=0.1) as hasty:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match=r"database is locked.*try again"):
            hasty.reserved()
        holder.execute("ROLLBACK")
        assert hasty.reserved() == 100
    holder.close()


def test_the_database_uses_the_rollback_journal(sqlite_url: str, tmp_path: Path) -> None:
    """A database that somebody has set to WAL goes back: WAL needs shared memory of one host."""
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode=WAL")
    other.close()
    with Ledger.open(sqlite_url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[1])
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    other.close()


def test_the_database_itself_refuses_what_is_no_state(url: str, ledger: Ledger) -> None:
    """Also a hand at the database cannot put in what no code can read."""
    stage(ledger)
    engine = create_engine(url)
    for column, value in (("state", "'lost'"), ("reserved", "-1")):
        with pytest.raises(IntegrityError), engine.begin() as other:
            other.exec_driver_sql(f"UPDATE megabatch SET {column} = {value}")  # noqa: S608  constants
    engine.dispose()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("sqlite://", "lost with its process"),
        ("sqlite:///:memory:", "lost with its process"),
        ("nonsense", "URL is not usable"),
        ("oracle+nothing://u:p@h/d", "URL is not usable"),
        ("sqlite:////nowhere/at/all/ledger.db", "directory is there"),
    ],
)
def test_an_unsafe_place_is_refused_at_the_start(place: str, reason: str) -> None:
    """A ledger that cannot be trusted is worse than none."""
    with pytest.raises(LedgerError, match=reason):
        Ledger.open(place)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A wrong path must not destroy what lies there."""
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk " * 100)
    with pytest.raises(ChipmillError, match="not a database"):
        Ledger.open(f"sqlite:///{path}")
    assert path.read_text().startswith("remember")


MOUNTS = r"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:30 / /home rw - nfs4 server:/home rw
31 30 8:2 / /home/local rw - xfs /dev/sdb rw
32 22 0:32 / /fsx rw shared:1 master:2 - lustre 10.0.0.1@tcp:/fs rw
33 22 0:33 / /mnt/two\040words rw - fuse.sshfs me@host: rw
34 22 0:34 / /données rw - cifs //host/share rw
35 22 0:35 / /over rw - nfs host:/x rw
36 22 8:3 / /over rw - ext4 /dev/sdc rw"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/ledger.db", None),
        ("/home/me/ledger.db", "nfs4"),
        ("/home/local/ledger.db", None),
        ("/homes/ledger.db", None),
        ("/fsx/ledger.db", "lustre"),
        ("/mnt/two words/ledger.db", "fuse.sshfs"),
        ("/données/ledger.db", "cifs"),
        ("/over/ledger.db", None),
    ],
)
def test_network_file_systems_are_seen(path: str, kind: str | None) -> None:
    """SQLite's locks fail silently there, and two hosts would both believe that they hold one."""
    assert network_filesystem(Path(path), MOUNTS) == kind
