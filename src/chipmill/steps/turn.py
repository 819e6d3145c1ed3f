"""turn: merges take turns by a lock of the ledger, where the store cannot keep them apart."""

import os
import socket
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

import stamina

from chipmill.errors import BusyError, StaleFenceError
from chipmill.io.ledger import Ledger
from chipmill.steps.history import Check
from chipmill.steps.lease import renewed

PATIENCE = 3600.0
"""Seconds to wait for one's turn: several merges of 50 million chips."""


def turns(open_ledger: Callable[[], Ledger]) -> Callable[[str], AbstractContextManager[Check]]:
    """Give the lock of a ledger, which is opened when the lock is needed."""
    return partial(_turn, open_ledger)


@contextmanager
def _turn(open_ledger: Callable[[], Ledger], name: str) -> Generator[Check]:
    with open_ledger() as ledger:
        fence = _take(ledger, name)
        try:
            with renewed(name, fence, partial(ledger.hold_lock, name, fence)) as lease:
                yield lease.check
        finally:
            with suppress(StaleFenceError):
                ledger.free_lock(name, fence)


@stamina.retry(on=BusyError, attempts=None, timeout=PATIENCE, wait_initial=0.1, wait_max=5)
def _take(ledger: Ledger, name: str) -> int:
    return ledger.take_lock(name, worker=f"{socket.gethostname()} {os.getpid()}")
