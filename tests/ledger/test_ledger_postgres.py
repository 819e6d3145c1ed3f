"""What only a database server can do to a ledger."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text

from chipmill.errors import TransientError
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import megabatch_id

PLAN = "0123456789abcdef"
FIRST = megabatch_id(PLAN, 0)
LOCK = text("SELECT id FROM plan FOR UPDATE")

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.fixture
def url(new_schema: Callable[[], str]) -> str:
    """Give the URL of a ledger with a plan of one megabatch."""
    url = new_schema()
    with Ledger.open(url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[100])
    return url


def test_a_lock_of_the_server_is_waited_for_and_then_said(url: str) -> None:
    """A lock that somebody keeps is a passing trouble, and no worker hangs on it for ever."""
    engine = create_engine(url)
    with Ledger.open(url, patience=1) as hasty:
        with engine.begin() as holder:
            holder.execute(LOCK)
            begun = time.monotonic()
            with pytest.raises(TransientError, match=r"lock timeout.*try again"):
                hasty.claim_staging(FIRST, budget=100, worker="w")
            assert time.monotonic() - begun < 30  # a lock timeout of 0 would never end
        assert hasty.claim_staging(FIRST, budget=100, worker="w") == 1
    engine.dispose()


def test_who_falls_silent_in_a_transaction_loses_its_locks(url: str) -> None:
    """A host without power sends no farewell: the server itself must free what it held."""
    ledger = Ledger.open(url, patience=2)
    frozen = ledger._engine.connect()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    frozen.execute(LOCK)
    with Ledger.open(url, patience=10) as patient:
        assert patient.claim_staging(FIRST, budget=100, worker="w") == 1
    frozen.invalidate()
    frozen.close()
    ledger.close()
