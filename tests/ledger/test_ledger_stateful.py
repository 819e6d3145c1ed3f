"""Everything that can happen at once, in any order, against a model of what is allowed."""

from collections.abc import Callable
from datetime import UTC, datetime

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chipmill.errors import BudgetError, BusyError, StaleFenceError
from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import TRANSITIONS, State, megabatch_id

PLAN = "0123456789abcdef"
NAMES = [megabatch_id(PLAN, number) for number in range(3)]
NEED, BUDGET, LEASE = 10, 20, 5.0

names = st.sampled_from(NAMES)
run_names = st.sampled_from(["r1", "r2"])
grants = st.integers(0, 9)


class Fleet(RuleBasedStateMachine):
    """Stagers, cleaners and ranks, some of them zombies or liars, and a clock that jumps."""

    def __init__(self, url: str) -> None:
        """Begin with a new ledger and an empty model."""
        super().__init__()
        self.now = 0.0
        self.ledger = Ledger.open(url, clock=lambda: self.now)
        self.state = dict.fromkeys(NAMES, State.PLANNED)
        self.lease: dict[str, tuple[int, float]] = dict.fromkeys(NAMES, (0, 0.0))
        self.held = dict.fromkeys(NAMES, 0)
        self.generation = dict.fromkeys(NAMES, 1)
        self.runs: dict[str, tuple[int, int]] = {}
        self.reports: dict[str, set[tuple[str, int, int]]] = {name: set() for name in NAMES}
        self.cleanups: set[str] = set()
        self.grants: list[tuple[str, int]] = []
        self.abandoned: set[str] = set()
        self.ever: dict[str, set[str]] = {name: set() for name in NAMES}
        self.sweeping: set[str] = set()

    @initialize()
    def plan(self) -> None:
        """Register the plan."""
        self.ledger.register_plan(PLAN, "{}", needs=[NEED] * len(NAMES))

    @rule(seconds=st.sampled_from([0.1, 3, 6]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(name=names)
    def claim(self, name: str) -> None:
        """A stager asks."""
        fence, until = self.lease[name]
        new = self.state[name] is State.PLANNED and not self.is_swept(name)
        free = new or (self.state[name] is State.STAGING and until <= self.now)
        fits = not new or sum(self.held.values()) + NEED <= BUDGET
        try:
            got = self.ledger.claim_staging(name, budget=BUDGET, worker="w", lease=LEASE)
        except BusyError:
            assert not free
        except BudgetError:
            assert free
            assert not fits
        else:
            assert free
            assert fits
            assert got == fence + 1
            self.state[name], self.held[name] = State.STAGING, NEED
            self.sweeping.discard(name)
            self.lease[name] = (got, self.now + LEASE)
            self.grants.append((name, got))

    @precondition(lambda self: self.grants)
    @rule(grant=grants, size=st.integers(0, NEED), verb=st.sampled_from(["ready", "give_up"]))
    def end_staging(self, grant: int, size: int, verb: str) -> None:
        """A stager, perhaps a zombie, comes to its end."""
        name, fence = self.grants[grant % len(self.grants)]
        current = self.state[name] is State.STAGING and self.lease[name][0] == fence
        try:
            if verb == "ready":
                state = self.ledger.ready(name, fence, size=size)
            else:
                self.ledger.give_up(name, fence, reason="x")
                state, size = State.PLANNED, 0
        except StaleFenceError:
            assert not current
            return
        assert current
        assert state is {"give_up": State.PLANNED}.get(
            verb, State.IN_USE if self.runs else State.READY
        )
        self.state[name], self.held[name] = state, size

    @rule(run=run_names, attempt=st.integers(1, 3), world=st.integers(1, 2))
    def begin(self, run: str, attempt: int, world: int) -> None:
        """A run begins, begins again, or is a zombie."""
        known = self.runs.get(run, (0, world))
        ready = [name for name in NAMES if self.state[name] is State.READY]
        try:
            moved = self.ledger.begin_run(run, attempt=attempt, world=world, plan=PLAN)
        except BusyError:
            assert attempt < known[0] or (attempt == known[0] and world != known[1])
            return
        assert attempt > known[0] or (attempt, world) == known
        assert moved == ready
        self.runs[run] = (attempt, world)
        self.state |= dict.fromkeys(ready, State.IN_USE)
        self.plan_what_is_wanted()

    @rule(
        name=names,
        run=run_names,
        attempt=st.integers(1, 3),
        rank=st.integers(0, 1),
        world=st.just(2),
    )
    def report_of_two(self, name: str, run: str, attempt: int, rank: int, world: int) -> None:
        """A rank of a world of two reports."""
        self.report(name, run, attempt, rank, world)

    @rule(name=names, run=run_names, attempt=st.integers(1, 3))
    def report_alone(self, name: str, run: str, attempt: int) -> None:
        """The only rank of a run reports."""
        self.report(name, run, attempt, 0, 1)

    def report(self, name: str, run: str, attempt: int, rank: int, world: int) -> None:
        """Deliver, and do in the model what should happen."""
        data = {"megabatch": name, "run": run, "attempt": attempt, "rank": rank, "world": world}
        message = MegabatchCompleted.model_validate(
            {
                "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
                "data": data | {"epoch": self.generation[name], "minibatches": 1},
            }
        )
        body = message.model_dump_json().encode()
        message_id = f"{name}-{self.generation[name]}-{run}-{attempt}-{rank}-{world}"
        answer = self.ledger.complete(message_id, body, message=message)
        assert self.ledger.complete(message_id, body, message=message).status == answer.status
        after = (State.IN_USE, State.COMPLETE, State.REMOVING, State.REMOVED)
        again = self.state[name] is State.PLANNED and self.generation[name] > 1
        good = self.runs.get(run) == (attempt, world) and (self.state[name] in after or again)
        if answer.status == 200 and not good:
            # Only a delivery that was taken before may be answered 200 when it is late.
            assert (run, attempt, rank) in self.reports[name]
            return
        assert (answer.status == 200) is good
        if good:
            self.reports[name].add((run, attempt, rank))
            self.ever[name].add(run)
        if good and self.state[name] is State.PLANNED and self.nobody_reads(name):
            self.state[name] = State.REMOVED
        if good and self.state[name] is State.IN_USE and self.nobody_reads(name):
            self.state[name] = State.COMPLETE
            self.cleanups.add(f"cleanup-{name}-g{self.generation[name]}")

    def nobody_reads(self, name: str) -> bool:
        """Tell whether each rank of each run's present attempt has reported."""
        return all(
            (run, attempt, rank) in self.reports[name]
            for run, (attempt, world) in self.runs.items()
            for rank in range(world)
        )

    @rule(name=names, abandon=st.booleans())
    def clean(self, name: str, *, abandon: bool) -> None:
        """A cleaner asks."""
        fence, until = self.lease[name]
        allowed = {State.COMPLETE, State.READY} if abandon else {State.COMPLETE}
        free = self.state[name] in allowed
        free |= self.state[name] is State.REMOVING and until <= self.now
        try:
            got = self.ledger.claim_removal(name, worker="c", lease=LEASE, abandon=abandon)
        except BusyError:
            assert not free
            return
        if got is None:
            assert self.state[name] is State.REMOVED
            return
        assert free
        assert got == fence + 1
        self.abandoned |= {name} if self.state[name] is State.READY else set()
        self.state[name], self.lease[name] = State.REMOVING, (got, self.now + LEASE)
        self.grants.append((name, got))

    @precondition(lambda self: self.grants)
    @rule(grant=grants)
    def end_cleaning(self, grant: int) -> None:
        """A cleaner, perhaps a zombie, says that all is gone."""
        name, fence = self.grants[grant % len(self.grants)]
        current = self.state[name] is State.REMOVING and self.lease[name][0] == fence
        try:
            self.ledger.removed(name, fence)
        except StaleFenceError:
            assert not current
            return
        assert current
        self.state[name], self.held[name] = State.REMOVED, 0
        if self.runs:
            self.plan_what_is_wanted()

    @rule(name=names)
    def again(self, name: str) -> None:
        """A rollback needs it once more."""
        try:
            generation = self.ledger.plan_again(name)
        except BusyError:
            assert self.state[name] is not State.REMOVED or self.is_swept(name)
            return
        assert self.state[name] is State.REMOVED
        assert not self.is_swept(name)
        assert generation == self.generation[name] + 1
        self.begin_generation(name)

    def plan_what_is_wanted(self) -> None:
        """Plan again what no run has had, or what one of them has never reported."""
        for name in NAMES:
            lacking = self.runs.keys() - self.ever[name]
            if self.state[name] is State.REMOVED and (lacking or name in self.abandoned):
                reports = self.reports[name]
                self.begin_generation(name)
                self.reports[name] = {
                    report for report in reports if self.runs[report[0]][0] == report[1]
                }

    def begin_generation(self, name: str) -> None:
        """Plan a removed megabatch again, in the model."""
        self.generation[name] += 1
        self.state[name], self.reports[name] = State.PLANNED, set()
        self.abandoned.discard(name)

    def is_swept(self, name: str) -> bool:
        """Tell whether somebody has the lease to clear its folder."""
        return name in self.sweeping and self.lease[name][1] > self.now

    @rule(name=names)
    def sweep(self, name: str) -> None:
        """Somebody finds a folder where none should be."""
        free = self.state[name] in (State.PLANNED, State.REMOVED) and not self.is_swept(name)
        try:
            got = self.ledger.claim_sweep(name, worker="s", lease=LEASE)
        except BusyError:
            assert not free
            return
        assert free
        assert got == self.lease[name][0] + 1
        self.lease[name] = (got, self.now + LEASE)
        self.sweeping.add(name)
        self.grants.append((name, got))

    @precondition(lambda self: self.grants)
    @rule(grant=grants)
    def end_sweep(self, grant: int) -> None:
        """A sweeper, perhaps a zombie, comes to its end."""
        name, fence = self.grants[grant % len(self.grants)]
        there = self.state[name] in (State.PLANNED, State.REMOVED)
        try:
            self.ledger.swept(name, fence)
        except StaleFenceError:
            assert not there or self.lease[name][0] != fence
            return
        assert there
        assert self.lease[name][0] == fence
        self.sweeping.discard(name)

    @rule(name=names)
    def free_lease(self, name: str) -> None:
        """A person says that a worker is dead."""
        leased = self.state[name] in (State.STAGING, State.REMOVING)
        try:
            self.ledger.free_lease(name, who="me", why="dead")
        except BusyError:
            assert not leased
            return
        assert leased
        self.lease[name] = (self.lease[name][0] + 1, self.now)

    @invariant()
    def ledger_is_the_model(self) -> None:
        """States, bytes and requested cleanups are as the model says, and within the budget."""
        rows = self.ledger.megabatches()
        assert {row.id: row.state for row in rows} == (self.state if rows else {})
        assert {row.id: row.reserved for row in rows} == (self.held if rows else {})
        assert self.ledger.reserved() == sum(self.held.values()) <= BUDGET
        cleanups = [row.key for row in self.ledger.pending(limit=99) if row.kind == "cleanup"]
        assert sorted(cleanups) == sorted(self.cleanups)

    def teardown(self) -> None:
        """Each history is one legal chain without a gap."""
        for name in NAMES:
            was, fences = State.PLANNED, 0
            for version, row in enumerate(self.ledger.history(name), start=1):
                assert (row.version, row.was) == (version, was)
                fences += row.was is row.now
                assert row.now in TRANSITIONS[row.was] or row.was is row.now
                was = row.now
            assert was is self.state[name]
            assert fences <= self.lease[name][0]
        self.ledger.close()


def test_the_ledger_is_the_model(new_url: Callable[[], str]) -> None:
    """Whatever order things happen in, nothing is lost, freed too early or over the budget."""

    class Here(Fleet):
        """The same on a new ledger of this database."""

        def __init__(self) -> None:
            """Begin."""
            super().__init__(new_url())

    slow = new_url().startswith("postgresql")  # the same law, told by another database
    run_state_machine_as_test(  # pyright: ignore[reportUnknownVariableType]
        Here,
        settings=settings(
            max_examples=8 if slow else 40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
