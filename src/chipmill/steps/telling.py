"""Tell how far staging is, to whom it may concern: the log, the ledger's page, the terminal."""

import logging
import threading
import time
from dataclasses import replace

from chipmill.errors import ChipmillError
from chipmill.io.ledger import Ledger
from chipmill.model.manner import Tell
from chipmill.model.staging_progress import StagingProgress

log = logging.getLogger(__name__)

EVERY = 2.0
LOG_EVERY = 30.0
"""Seconds between two words, as the one above."""


class Telling:
    """Adds up what scenes are done, from any thread."""

    def __init__(self, begun: StagingProgress, *, ledger: Ledger, fence: int, tell: Tell) -> None:
        """Begin with nothing done; the clock runs."""
        self.now = begun
        self._ledger, self._fence, self._tell = ledger, fence, tell
        self._began = self._logged = time.monotonic()
        self._told = 0.0
        self._lock = threading.Lock()
        self._say()

    def done(self, *, chips: int, size: int, kept: bool) -> None:
        """Count a scene; `kept` is one that an earlier try has left."""
        with self._lock:
            now = self.now
            self.now = replace(
                now,
                scenes=now.scenes + 1,
                chips=now.chips + chips,
                size=now.size + size,
                kept=now.kept + chips * kept,
                kept_size=now.kept_size + size * kept,
                seconds=time.monotonic() - self._began,
            )
            last = self.now.scenes == self.now.of_scenes
            if last or time.monotonic() - self._told >= EVERY:
                self._say()

    def _say(self) -> None:
        now = self.now
        self._told = time.monotonic()
        if self._told - self._logged >= LOG_EVERY:
            self._logged = self._told
            log.info("%s", now)
        try:
            self._ledger.progressed(
                now.megabatch, self._fence, scenes=now.scenes, of=now.of_scenes, size=now.size
            )
        except ChipmillError as err:
            # People see less; whether the lease is lost is told by who keeps it.
            log.debug("progress of %s was not noted (%s)", now.megabatch, err)
        try:
            self._tell(now)
        except Exception as err:  # noqa: BLE001  # a display that fails must not stop the work
            log.warning("the progress of %s cannot be shown (%s)", now.megabatch, err)
