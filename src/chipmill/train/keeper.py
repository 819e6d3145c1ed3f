"""The keeper: a thread that makes reports durable, so that no training loop waits for a disk."""

import logging
import threading
import time

from chipmill.errors import TransientError
from chipmill.train.spool import Spool

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a spool that cannot be written is tried again."""

_log = logging.getLogger(__name__)


class Keeper:
    """Writes and removes the messages of a spool in the order in which that is asked for."""

    def __init__(self, spool: Spool) -> None:
        """Start the thread."""
        self._spool = spool
        self.problem: str | None = None
        """Why the spool cannot be written at the moment."""
        self._orders: dict[str, bytes | None] = {}  # None: remove it
        self._busy = self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="chipmill-spool", daemon=True)
        self._thread.start()

    def keep(self, message_id: str, body: bytes) -> None:
        """Have a message made durable."""
        self._order(message_id, body)

    def drop(self, message_id: str) -> None:
        """Have a message forgotten that has arrived."""
        self._order(message_id, None)

    def flush(self, seconds: float) -> int:
        """Wait until all is done; gives how many messages are not durable then."""
        with self._changed:
            self._changed.wait_for(lambda: not self._orders and not self._busy, seconds)
            return sum(body is not None for body in self._orders.values()) + self._busy

    def stop(self, seconds: float) -> None:
        """Do what is left, trying each once, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _order(self, message_id: str, body: bytes | None) -> None:
        with self._changed:
            self._orders.pop(message_id, None)
            self._orders[message_id] = body
            self._changed.notify_all()

    def _work(self) -> None:
        """Run in the thread until it is stopped."""
        pause = _FIRST_PAUSE
        while (order := self._next()) is not None:
            message_id, body = order
            failed = not self._done(message_id, body)
            with self._changed:
                self._busy = False
                if failed and not self._stopped:
                    self._orders.setdefault(message_id, body)  # unless it was dropped meanwhile
                self._changed.notify_all()
            if failed:
                self._wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE

    def _next(self) -> tuple[str, bytes | None] | None:
        """Wait for something to do; None when there is nothing more."""
        with self._changed:
            self._changed.wait_for(lambda: self._orders or self._stopped)
            if not self._orders:
                return None
            message_id = next(iter(self._orders))
            self._busy = True
            return message_id, self._orders.pop(message_id)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, deadline - time.monotonic())

    def _done(self, message_id: str, body: bytes | None) -> bool:
        """Write or remove a message; say whether that could be done, once in the log if not."""
        if body is None:
            self._spool.remove(message_id)
            return True
        try:
            self._spool.put(message_id, body)
        except TransientError as err:
            if self.problem is None:
                _log.error("%s; until then reports are lost with this process", err)
            self.problem = str(err)
            return False
        if self.problem is not None:
            _log.warning("the spool %s can be written again", self._spool.folder)
            self.problem = None
        return True
