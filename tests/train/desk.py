"""The real receiver with its ledger, for the tests of this folder."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id
from chipmill.service.receiver import create_app

PLAN = "0123456789abcdef"
MASTER = bytes(range(32))


@dataclass
class Desk:
    """A port on which a receiver may listen, and its ledger with three staged megabatches."""

    port: int
    ledger: Ledger
    database: Path

    @property
    def url(self) -> str:
        """Where the receiver is, when it is up."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def up(self) -> Generator[None]:
        """Serve the receiver by uvicorn."""
        app = create_app(self.ledger, [MASTER])
        config = uvicorn.Config(app, port=self.port, log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield
        finally:
            server.should_exit = True
            thread.join()

    def states(self) -> list[State]:
        """Give the states of all megabatches in order."""
        return [row.state for row in self.ledger.megabatches(PLAN)]


def wait_until(true: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def set_up(folder: Path) -> Generator[Desk]:
    """Give a ledger with the plan staged, and a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    database = folder / "ledger.db"
    with Ledger.open(f"sqlite:///{database}", patience=0.1) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10, 10, 10])
        for number in range(3):
            fence = ledger.claim_staging(megabatch_id(PLAN, number), budget=100, worker="w")
            ledger.ready(megabatch_id(PLAN, number), fence, size=10)
        yield Desk(port, ledger, database)
