"""Ledger and archive as the page and the metrics see them: read once for all who ask at a time."""

import asyncio
import logging
import time
from typing import Final

from chipmill.errors import ChipmillError
from chipmill.formats.finding import Finding
from chipmill.io.findings import read_findings
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_overview import Overview
from chipmill.io.store import Store
from chipmill.service.glance import Glance, glance

FRESH: Final = 1.0
"""Seconds for which one reading is good enough: scrapes and open pages cost the ledger no more."""

_FINDINGS_FRESH: Final = 30.0
_MOST_FINDINGS: Final = 50

_log: Final = logging.getLogger(__name__)


class Watch:
    """Reads the overview at most once a second, however many ask."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        budget: int = 0,
        ui: str | None = None,
        archive: Store | None = None,
    ) -> None:
        """Watch an open ledger.

        Args:
            ledger: Open.
            budget: Bytes that fast storage may hold.
            ui: URL of Prefect's UI, as browsers reach it.
            archive: Where findings are; None: nobody looks for them.
        """
        self.budget = budget
        self._ledger = ledger
        self._ui = ui
        self._archive = archive
        self._turn = asyncio.Lock()
        self._seen: Overview | None = None
        self._when = float("-inf")
        self._findings: list[Finding] | None = None
        self._more = False
        self._looked = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def overview(self) -> Overview:
        """Give an overview that is not older than `FRESH` seconds.

        Raises:
            ChipmillError: The ledger does not answer.
        """
        async with self._turn:
            if self._seen is None or time.monotonic() - self._when > FRESH:
                when = time.monotonic()  # what changes while it is read is in the next one
                self._seen = await asyncio.to_thread(self._ledger.overview)
                self._when = when
            return self._seen

    async def glance(self) -> Glance:
        """Give what the page says; an archive that is slow or away keeps its last findings.

        Raises:
            ChipmillError: The ledger does not answer.
        """
        seen = await self.overview()
        if self._archive is not None:
            if self._reading is None and time.monotonic() - self._looked > _FINDINGS_FRESH:
                self._reading = asyncio.create_task(self._read_findings(self._archive))
            if self._reading is not None:
                await asyncio.wait({self._reading}, timeout=FRESH)
        return glance(
            seen,
            budget=self.budget,
            ui=self._ui,
            findings=self._findings,
            more_findings=self._more,
        )

    async def _read_findings(self, archive: Store) -> None:
        try:
            self._findings, self._more = await asyncio.to_thread(
                read_findings, archive, most=_MOST_FINDINGS
            )
        except ChipmillError as err:
            _log.warning("findings are not read: %s", err)
        finally:
            self._looked, self._reading = time.monotonic(), None

    def forget(self) -> None:
        """Read anew for whoever asks next: somebody has changed something."""
        self._when = float("-inf")
