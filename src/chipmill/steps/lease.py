"""Keep a lease of the ledger while the work lasts, and learn when it is lost."""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager

from chipmill.errors import ChipmillError, StaleFenceError
from chipmill.io.ledger import LEASE, Ledger

log = logging.getLogger(__name__)


class Lease:
    """Tells the workers of a megabatch that the lease is lost."""

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
    """Renew a lease at a quarter of its time until the block ends."""
    lease = Lease(fence)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE / 4):
            try:
                ledger.renew(name, fence)
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
