"""Keep a lease of the ledger while the work lasts, and learn when it is lost."""

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

from chipmill.errors import ChipmillError, StaleFenceError
from chipmill.io.ledger import LEASE, Ledger

log = logging.getLogger(__name__)


class Lease:
    """Tells those who work under a lease that it is lost."""

    def __init__(self, fence: int) -> None:
        """Begin with the lease held; `fence` is its number."""
        self.fence = fence
        self.lost: ChipmillError | None = None

    def check(self) -> None:
        """Stop here when somebody else has taken over."""
        if self.lost:
            raise self.lost


@contextmanager
def kept(ledger: Ledger, name: str, fence: int) -> Generator[Lease]:
    """Renew the lease on a megabatch at a quarter of its time until the block ends."""
    with renewed(name, fence, partial(ledger.renew, name, fence)) as lease:
        yield lease


@contextmanager
def renewed(name: str, fence: int, extend: Callable[[], None]) -> Generator[Lease]:
    """Call `extend` at a quarter of a lease's time until the block ends."""
    lease = Lease(fence)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE / 4):
            try:
                extend()
            except StaleFenceError as err:
                lease.lost = err
                return
            except ChipmillError as err:
                log.warning("%s: the lease could not be renewed (%s)", name, err)

    keeper = threading.Thread(target=renew, name=f"lease {name}", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        over.set()
        keeper.join()
