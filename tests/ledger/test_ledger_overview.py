"""What the ledger shows people, on both databases: the same facts that its methods decide by."""

import pytest

from chipmill.errors import BusyError, RequestError, StaleFenceError
from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id

PLAN = "0123456789abcdef"
IDS = [megabatch_id(PLAN, number) for number in range(4)]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        """Begin at a thousand."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Give the seconds."""
        return self.now


def report(ledger: Ledger, megabatch: str, rank: int) -> None:
    """Let one of three ranks report."""
    data = {"megabatch": megabatch, "run": "run", "attempt": 1, "rank": rank, "world": 3}
    data |= {"epoch": 0, "minibatches": 1}
    message = {"type": "megabatch.completed", "timestamp": "2026-01-01T00:00:00Z", "data": data}
    found = MegabatchCompleted.model_validate(message, strict=False)
    assert ledger.complete(f"{megabatch}-{rank}", b"", message=found).status == 200


def test_the_overview_says_where_everything_is(url: str) -> None:
    """One in use with a rank missing, one being staged, one given up, one planned."""
    clock = Clock()
    with Ledger.open(url, clock=clock) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10, 20, 30, 40])
        ledger.begin_run("run", attempt=1, world=3, plan=PLAN)
        ledger.ready(IDS[0], ledger.claim_staging(IDS[0], budget=100, worker="w"), size=9)
        report(ledger, IDS[0], 1)
        fence = ledger.claim_staging(IDS[1], budget=100, worker="w")
        ledger.progressed(IDS[1], fence, scenes=1, of=8, size=3)
        clock.now += 10
        ledger.progressed(IDS[1], fence, scenes=4, of=8, size=12)
        ledger.give_up(IDS[2], ledger.claim_staging(IDS[2], budget=100, worker="w"), reason="full")
        seen = ledger.overview()
        assert seen.reserved == 29
        assert [plan.id for plan in seen.plans] == [PLAN]
        assert seen.plans[0].states == {State.IN_USE: 1, State.STAGING: 1, State.PLANNED: 2}
        assert [row.id for row in seen.current] == IDS[:3]
        far = seen.progress[IDS[1]]
        assert (far.first_at, far.first_scenes, far.at, far.scenes, far.of) == (1000, 1, 1010, 4, 8)
        assert [(w.megabatch, w.run, w.missing) for w in seen.waiting] == [(IDS[0], "run", (0, 2))]
        assert (seen.pending, seen.oldest_pending, seen.last_cleanup) == (1, 1000, None)
        ledger.sent(seen.requests[0].id, "flow-run")
        for rank in (0, 2):
            report(ledger, IDS[0], rank)
        clock.now += 5
        removal = ledger.claim_removal(IDS[0], worker="w")
        assert removal is not None
        ledger.removed(IDS[0], removal)
        seen = ledger.overview()
        assert (seen.pending, seen.oldest_pending, seen.last_cleanup) == (1, 1010, 1015)
        assert [(r.kind, r.sent_at is None) for r in seen.requests] == [
            ("cleanup", True),
            ("stage", False),
        ]
        assert not seen.waiting
        assert [row.id for row in seen.current] == IDS[1:3]


def test_progress_of_a_lost_lease_is_refused(url: str) -> None:
    """A worker that was taken over learns it, and what it says is not shown."""
    clock = Clock()
    with Ledger.open(url, clock=clock) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10])
        old = ledger.claim_staging(IDS[0], budget=10, worker="old")
        ledger.progressed(IDS[0], old, scenes=7, of=8, size=7)
        clock.now += 1000
        new = ledger.claim_staging(IDS[0], budget=10, worker="new")
        assert not ledger.overview().progress
        with pytest.raises(StaleFenceError):
            ledger.progressed(IDS[0], old, scenes=8, of=8, size=8)
        ledger.progressed(IDS[0], new, scenes=2, of=8, size=2)
        assert ledger.overview().progress[IDS[0]].first_scenes == 2
        ledger.ready(IDS[0], new, size=8)
        assert not ledger.overview().progress
        assert len(ledger.history(IDS[0])) == 3


def test_what_people_do_is_recorded_with_who_did_it(url: str) -> None:
    """A release, a request made again and one sent now each leave a line."""
    with Ledger.open(url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10, 10])
        ledger.begin_run("run", attempt=1, world=3, plan=PLAN)
        ledger.ready(IDS[0], ledger.claim_staging(IDS[0], budget=20, worker="w"), size=9)
        with pytest.raises(BusyError, match="in_use"):
            ledger.ask_again(IDS[0])
        (row,) = ledger.overview().requests
        ledger.postpone(row.id, "Prefect is away", delay=1000)
        assert not ledger.pending()
        assert ledger.send_now(row.id, actor="ada") == f"stage of {PLAN}"
        assert [found.id for found in ledger.pending()] == [row.id]
        ledger.sent(row.id, "flow-run")
        with pytest.raises(RequestError, match="no row"):
            ledger.send_now(row.id, actor="ada")
        assert ledger.release_run("run", actor="ada") == [IDS[0]]
        assert ledger.history(IDS[0])[-1].actor == "release of run run by ada"
        ledger.sent(ledger.pending()[0].id, "flow-run")
        assert ledger.ask_again(IDS[0], actor="bob") == "cleanup"
        assert ledger.ask_again(IDS[1], actor="bob") == "stage"
        assert [(r.kind, r.subject) for r in ledger.pending()] == [
            ("cleanup", IDS[0]),
            ("stage", PLAN),
        ]
        seen = [(done.what, done.subject, done.actor) for done in ledger.overview().actions]
        assert seen == [
            ("ask for stage", IDS[1], "bob"),
            ("ask for cleanup", IDS[0], "bob"),
            ("release", "run run", "ada"),
            ("send now", f"stage of {PLAN}", "ada"),
        ]
