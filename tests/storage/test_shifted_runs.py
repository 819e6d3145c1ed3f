"""Several trainings on one plan, far apart, and some that go back: all come to the end."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from chipmill.errors import BudgetError, RequestError
from chipmill.formats.webhook import MegabatchCompleted, completion_id
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id
from chipmill.steps.prefetch import next_to_stage

PLAN = "0123456789abcdef"
LARGEST, MEGABATCHES = 100, 7
NAMES = [megabatch_id(PLAN, number) for number in range(MEGABATCHES)]


@dataclass
class Training:
    """A run of one rank: where it is, and what it has open."""

    run: str
    attempt: int = 1
    at: int = 0
    open: bool = False


@dataclass
class Track:
    """A plan that trainings read; staging, reports and removals happen one at a time."""

    ledger: Ledger
    budget: int
    ahead: int = 1
    trainings: list[Training] = field(default_factory=list[Training])
    staged: int = 0
    allowed: int = 0
    """How often megabatches may be staged in all."""

    def begin(self, start: int) -> None:
        """Begin a training, or the next attempt of one, and report what lies before it."""
        training = Training(f"run{len(self.trainings)}", at=start)
        self.trainings.append(training)
        self.attempt(training)

    def attempt(self, training: Training) -> None:
        """Begin an attempt as a notifier and a dataset that resumes do."""
        self.allowed += MEGABATCHES
        self.ledger.begin_run(training.run, attempt=training.attempt, world=1, plan=PLAN)
        for number in range(training.at):
            self.report(training, number)

    def report(self, training: Training, number: int) -> int:
        """Report a megabatch; gives the status."""
        data = {"megabatch": NAMES[number], "run": training.run, "attempt": training.attempt}
        data |= {"rank": 0, "world": 1, "epoch": 0, "minibatches": 1}
        message = MegabatchCompleted.model_validate(
            {"timestamp": datetime(2026, 1, 1, tzinfo=UTC), "data": data}
        )
        message_id = completion_id(
            training.run, training.attempt, epoch=0, megabatch=NAMES[number], rank=0
        )
        body = message.model_dump_json().encode()
        return self.ledger.complete(message_id, body, message=message).status

    def step(self, training: Training) -> bool:
        """Open the next megabatch, or end and report it; tells whether something happened."""
        if training.at == MEGABATCHES:
            return False
        if training.open:
            assert self.report(training, training.at) == 200
            training.open, training.at = False, training.at + 1
            return True
        training.open = self.ledger.megabatch(NAMES[training.at]).state is State.IN_USE
        return training.open

    def stage(self) -> bool:
        """Stage what is next; tells whether there was room for something."""
        row = next_to_stage(self.ledger, budget=self.budget, ahead=self.ahead)
        if row is None:
            return False
        try:
            fence = self.ledger.claim_staging(row.id, budget=self.budget, worker="stager")
        except BudgetError:
            return False
        self.ledger.ready(row.id, fence, size=row.bytes)
        self.staged += 1
        return True

    def clean(self) -> bool:
        """Remove what is complete."""
        done = [row for row in self.ledger.megabatches() if row.state is State.COMPLETE]
        for row in done:
            fence = self.ledger.claim_removal(row.id, worker="cleaner")
            assert fence is not None
            self.ledger.removed(row.id, fence)
        return bool(done)

    def back(self, training: Training, to: int, *, release: bool) -> None:
        """Go back to a checkpoint, by the next attempt."""
        if release:
            self.ledger.release_run(training.run)
            self.clean()
        training.attempt += 1
        training.at, training.open = min(to, training.at), False
        self.attempt(training)
        self.clean()
        for name in NAMES[training.at :]:
            if self.ledger.megabatch(name).state is State.REMOVED:
                self.ledger.plan_again(name, run=training.run)

    def check(self) -> None:
        """See that the budget holds, and that what is read is there."""
        assert self.ledger.reserved() <= self.budget
        for training in self.trainings:
            if training.open:
                assert self.ledger.megabatch(NAMES[training.at]).state is State.IN_USE

    def run(self) -> None:
        """Go on until nothing happens any more."""
        moved = True
        while moved:
            moved = self.clean() | self.stage()
            for training in self.trainings:
                moved |= self.step(training)
            self.check()

    def happen(self, kind: str, number: int, flag: bool) -> None:  # noqa: FBT001  drawn
        """Let one thing happen."""
        if kind == "stage":
            self.stage()
        elif kind == "clean":
            self.clean()
        elif kind == "begin":
            furthest = max((training.at for training in self.trainings), default=0)
            self.begin(min(number, furthest) if flag else 0)
        elif self.trainings:
            training = self.trainings[number % len(self.trainings)]
            if kind == "back":
                self.back(training, number, release=flag)
            elif flag:
                self.go(training, training.at + number // 2)
            else:
                self.step(training)
        self.check()

    def go(self, training: Training, to: int) -> None:
        """Let one training go on alone, as far as it can, and stage what is ahead of it."""
        moved = True
        while moved and training.at < to:
            moved = self.clean() | self.stage() | self.step(training)
            self.check()
        while self.clean() | self.stage():
            self.check()


numbers = st.integers(0, MEGABATCHES - 1)
steps = st.tuples(st.just("step"), numbers, st.booleans())
others = st.tuples(st.sampled_from(["stage", "clean"]), numbers, st.booleans())
changes = st.tuples(st.sampled_from(["begin", "back"]), numbers, st.booleans())
needs = st.lists(st.integers(50, LARGEST), min_size=MEGABATCHES, max_size=MEGABATCHES)
events = st.lists(st.one_of(steps, steps, others, changes), min_size=10, max_size=40)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(needs=needs, ahead=st.integers(0, 2), drawn=events, most=st.integers(1, 4))
def test_all_come_to_the_end(
    tmp_path: Path,
    needs: list[int],
    ahead: int,
    drawn: list[tuple[str, int, bool]],
    most: int,
) -> None:
    """A budget of one megabatch for each run, and `ahead` more, is enough, in whatever order.

    Who goes back without a release keeps what it had, and counts as one run more.
    """
    url = f"sqlite:///{tmp_path}/{len(list(tmp_path.iterdir()))}.db"
    grow = [
        place
        for place, (kind, _, flag) in enumerate(drawn)
        if kind == "begin" or (kind, flag) == ("back", False)
    ]
    late = set(grow[most:])
    with Ledger.open(url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=needs)
        room = max(1, len(grow) - len(late)) + ahead
        track = Track(ledger, budget=room * max(needs), ahead=ahead)
        for number, event in enumerate(drawn):
            if number not in late:
                track.happen(*event)
        track.run()
        assert all(training.at == MEGABATCHES for training in track.trainings)
        assert track.staged <= track.allowed
        assert ledger.reserved() == 0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give a ledger with a plan of equal megabatches."""
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_plan(PLAN, "{}", needs=[LARGEST] * MEGABATCHES)
        yield ledger


def there(ledger: Ledger) -> list[int]:
    """Number what is on fast storage."""
    return [row.number for row in ledger.megabatches() if row.reserved]


def test_one_training_has_what_it_reads_and_what_is_ahead(ledger: Ledger) -> None:
    """However large the budget is."""
    track = Track(ledger, budget=10**9, ahead=2)
    track.begin(0)
    for number in range(MEGABATCHES):
        while track.stage():
            pass
        assert there(ledger) == list(range(number, min(number + 3, MEGABATCHES)))
        track.step(track.trainings[0])
        track.step(track.trainings[0])
        track.clean()


def test_who_is_ahead_need_not_wait_while_there_is_room(ledger: Ledger) -> None:
    """What it has read stays for the one behind, and it goes on beside it."""
    track = Track(ledger, budget=10**9)
    lead(track, 3)
    first = track.trainings[0]
    track.begin(0)
    while track.stage() or track.step(first):
        pass
    assert first.at == MEGABATCHES
    assert there(ledger) == [0, 1, 3, 4, 5, 6]


def test_a_rare_checkpoint_of_who_is_behind_finds_room(ledger: Ledger) -> None:
    """It reports two megabatches at a time, and needs both there at once."""
    track = Track(ledger, budget=6 * LARGEST)
    lead(track, 3)
    track.begin(0)
    while track.stage() or track.step(track.trainings[0]):
        pass
    assert there(ledger)[:2] == [0, 1]


def test_a_report_asks_for_what_the_run_wants_next(ledger: Ledger) -> None:
    """Another run keeps the megabatch there, so no cleanup would stage it."""
    track = Track(ledger, budget=10**9)
    track.begin(0)
    track.begin(0)
    while track.stage():
        pass
    before = {row.key for row in ledger.pending(limit=99)}
    assert track.report(track.trainings[0], 0) == 200
    (asked,) = [row for row in ledger.pending(limit=99) if row.key not in before]
    assert (asked.kind, asked.subject) == ("stage", PLAN)
    assert track.stage()
    assert there(ledger) == [0, 1, 2]


def test_a_budget_that_cannot_do_says_so(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """All of it is taken by what the second run reads later; a release is the way out."""
    track = Track(ledger, budget=2 * LARGEST)
    lead(track, 3)
    assert there(ledger) == [3, 4]
    track.begin(0)
    assert not track.stage()
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith(f"{NAMES[0]} needs 100 bytes and can never be staged")
    assert "megabatches 3, 4, which run run1 reads after it" in said
    track.run()
    assert [training.at for training in track.trainings] == [5, 0]
    ledger.release_run("run1")
    second = track.trainings.pop()
    track.run()
    assert track.trainings[0].at == MEGABATCHES
    second.attempt = 2
    track.attempt(second)
    track.trainings.append(second)
    track.run()
    assert second.at == MEGABATCHES


@pytest.mark.parametrize(("named", "left"), [("run0", []), ("", [1, 2])])
def test_the_others_need_not_read_what_one_goes_back_to(
    ledger: Ledger, named: str, left: list[int]
) -> None:
    """They go on beside it; where nobody is named it stays there for their reports."""
    track = Track(ledger, budget=6 * LARGEST)
    lead(track, 3)
    track.begin(3)
    first = track.trainings[0]
    first.attempt, first.at = 2, 1
    track.attempt(first)
    for name in NAMES[1:3]:
        ledger.plan_again(name, run=named)
    track.run()
    assert [training.at for training in track.trainings] == [MEGABATCHES, MEGABATCHES]
    assert there(ledger) == left
    with pytest.raises(RequestError, match=r"no run other reads plan .* run0, run1"):
        ledger.plan_again(NAMES[0], run="other")


def lead(track: Track, to: int) -> None:
    """Let a first training come to a megabatch, and what is behind it be removed."""
    track.begin(0)
    track.go(track.trainings[0], to)
