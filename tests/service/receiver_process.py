"""A receiver that is killed between its commit and its answer, and started again, as a process.

Arguments: the ledger's URL, a port, and a folder: a message that finds the file `kill` in it uses
the file up, and the process with it. The process that is started only watches over those that it
forks, which have all imports done.
"""

import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_runs import Answer
from chipmill.service.protocol import ImpatientProtocol
from chipmill.service.receiver import create_app

MASTER = bytes(range(32))
DOOM = Path(sys.argv[3], "kill")


class Doomed(Ledger):
    """A ledger whose process may die as soon as a report is durable."""

    def complete(self, message_id: str, body: bytes, *, message: MegabatchCompleted) -> Answer:
        """Take a report; answer, or die."""
        answer = super().complete(message_id, body, message=message)
        try:
            DOOM.unlink()
        except FileNotFoundError:
            return answer
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit("nobody survives SIGKILL")


def receive(url: str, port: int) -> None:
    """Receive until killed."""
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        Doomed.open(url, patience=5) as ledger,
    ):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            create_app(ledger, [MASTER]), http=ImpatientProtocol, log_config=None, ws="none"
        )
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Start a receiver again and again, until told to stop."""
    child = 0

    def stop(_number: int, _frame: object) -> None:
        os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            receive(sys.argv[1], int(sys.argv[2]))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
