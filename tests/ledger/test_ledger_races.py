"""Many at one moment on PostgreSQL, where transactions truly run beside each other."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import make_url

from chipmill.errors import BudgetError, BusyError
from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id

PLAN = "0123456789abcdef"
CROWD = 8

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture(scope="session")
def most(full: bool) -> int:  # noqa: FBT001  a fixture's value
    """Say how many rounds of a race there are at most."""
    return 200 if full else 100


@pytest.fixture
def ledger(request: pytest.FixtureRequest, new_schema: Callable[[], str]) -> Iterator[Ledger]:
    """Give an empty ledger on a server whose own isolation level is the parameter, if any."""
    url = make_url(new_schema())
    level = str(getattr(request, "param", "read committed")).replace(" ", r"\ ")
    options = f"{url.query['options']} -cdefault_transaction_isolation={level}"
    url = url.update_query_dict({"options": options})
    with Ledger.open(url.render_as_string(hide_password=False)) as opened:
        yield opened


@pytest.fixture
def together() -> Iterator[Callable[[Callable[[int], str]], list[str]]]:
    """Give a function that calls another with 0..7 at one moment and gives what came, sorted."""
    start = threading.Barrier(CROWD)
    with ThreadPoolExecutor(CROWD) as pool:

        def call(work: Callable[[int], str]) -> list[str]:
            def begin(number: int) -> str:
                start.wait(60)
                return work(number)

            return sorted(pool.map(begin, range(CROWD)))

        yield call


def report(ledger: Ledger, megabatch: str, rank: int) -> str:
    """Deliver one rank's completion; give the note."""
    data = {"megabatch": megabatch, "run": "run", "attempt": 1, "rank": rank, "world": CROWD}
    message = MegabatchCompleted.model_validate(
        {
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "data": data | {"epoch": 0, "minibatches": 7},
        }
    )
    body = message.model_dump_json().encode()
    return ledger.complete(f"{megabatch}-{rank}", body, message=message).note


def claim(ledger: Ledger, megabatch: str, *, budget: int) -> str:
    """Ask for a megabatch; say whether it was given."""
    try:
        ledger.claim_staging(megabatch, budget=budget, worker="w")
    except (BudgetError, BusyError):
        return "refused"
    return "won"


@pytest.mark.parametrize(
    ("ledger", "rounds"),
    [("read committed", 200), ("repeatable read", 20), ("serializable", 20)],
    indirect=["ledger"],
)
def test_the_last_ranks_together_complete_exactly_once(
    ledger: Ledger,
    rounds: int,
    most: int,
    together: Callable[[Callable[[int], str]], list[str]],
) -> None:
    """If each sees only the others missing, nobody completes and the space is lost for ever.

    Also on a server whose administrator has chosen another isolation level than is usual.
    """
    rounds = min(rounds, most)
    ledger.register_plan(PLAN, "{}", needs=[1] * rounds)
    ledger.begin_run("run", attempt=1, world=CROWD, plan=PLAN)
    stuck = 0
    for number in range(rounds):
        name = megabatch_id(PLAN, number)
        fence = ledger.claim_staging(name, budget=rounds, worker="w")
        assert ledger.ready(name, fence, size=1) is State.IN_USE
        notes = together(lambda rank, name=name: report(ledger, name, rank))
        stuck += notes != ["complete", *["recorded"] * (CROWD - 1)]
    assert stuck == 0
    cleanups = [row for row in ledger.pending(limit=2 * rounds) if row.kind == "cleanup"]
    assert len(cleanups) == len({row.key for row in cleanups}) == rounds


@pytest.mark.parametrize("plans", [1, CROWD])
def test_of_stagers_together_only_one_fits(
    ledger: Ledger, together: Callable[[Callable[[int], str]], list[str]], plans: int, most: int
) -> None:
    """If each sees the budget as the others have not yet used it, the disk overflows.

    Also where they come from other plans, which share no lock but the budget's.
    """
    names = [megabatch_id(f"{number % plans:016x}", number // plans) for number in range(CROWD)]
    for plan in range(plans):
        ledger.register_plan(f"{plan:016x}", "{}", needs=[10] * (CROWD // plans))
    over = 0
    for _ in range(most // 2):
        said = together(lambda number: claim(ledger, names[number], budget=10))
        over += said != [*["refused"] * (CROWD - 1), "won"]
        for row in ledger.megabatches():
            if row.state is State.STAGING:
                ledger.give_up(row.id, row.fence, reason="next round")
    assert over == 0


def test_of_stagers_together_only_one_gets_a_megabatch(
    ledger: Ledger, together: Callable[[Callable[[int], str]], list[str]], most: int
) -> None:
    """Two workers with one lease would write over each other."""
    ledger.register_plan(PLAN, "{}", needs=[1] * most)
    for number in range(most // 2):
        name = megabatch_id(PLAN, number)
        said = together(lambda _, name=name: claim(ledger, name, budget=most))
        assert said == [*["refused"] * (CROWD - 1), "won"]
        assert len(ledger.history(name)) == 1


def test_who_begins_while_a_megabatch_becomes_ready_gets_it(
    ledger: Ledger, together: Callable[[Callable[[int], str]], list[str]], most: int
) -> None:
    """If neither sees the other, the megabatch is ready for ever and its reader waits for ever."""
    for number in range(most // 4):
        plan = f"{number:016x}"
        ledger.register_plan(plan, "{}", needs=[1] * (CROWD - 1))
        names = [row.id for row in ledger.megabatches(plan)]
        for name in names:
            ledger.claim_staging(name, budget=most * CROWD, worker="w")

        def work(rank: int, *, plan: str = plan, names: list[str] = names) -> str:
            if rank == CROWD - 1:
                ledger.begin_run("run", attempt=1, world=1, plan=plan)
                return "begun"
            return ledger.ready(names[rank], 1, size=1)

        together(work)
        assert {row.state for row in ledger.megabatches(plan)} == {State.IN_USE}
