"""The outbox's sender: starts flow runs by Prefect's API, again and again until it has them.

Prefect's idempotency key makes a flow run that was already created the answer to the next try, so
a lost answer costs nothing.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx

from chipmill.errors import ChipmillError, TransientError
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import OutboxRow
from chipmill.service.prefect_api import emit, start_flow

_PAUSE: Final = 0.5  # seconds between looks at the ledger, when nobody wakes the sender
_TIMEOUT: Final = 10.0  # seconds for one call of Prefect's API
_FIRST_DELAY: Final = 1.0  # seconds
_LONGEST_DELAY: Final = 60.0  # seconds
_STUCK: Final = 120.0  # seconds without a look, though a call of Prefect takes 10 at most
_PARAMETER: Final = {"cleanup": "megabatch", "stage": "plan"}  # of the flow of each kind
_EVENT: Final = {
    "cleanup": ("chipmill.megabatch.complete", "chipmill.megabatch"),
    "stage": ("chipmill.plan.begun", "chipmill.plan"),
}  # what is told besides: the event, and the kind of its resource

_log: Final = logging.getLogger(__name__)


class Sender:
    """Sends one ledger's outbox; several may run at once, on one host or many."""

    def __init__(
        self, ledger: Ledger, api: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Make a sender that is not running yet.

        Args:
            ledger: Open, for longer than the sender runs.
            api: URL of Prefect's API, with `/api`.
            headers: Sent with each call, for a server that asks for a key.
        """
        self._ledger = ledger
        self._api = api
        self._headers = dict(headers or {})
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._troubles: dict[str, str] = {}
        self._looked = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._task is not None and not self._task.done()

    @property
    def stuck(self) -> bool:
        """Whether it has not looked at the ledger for so long that it will not by itself."""
        return time.monotonic() - self._looked > _STUCK

    def wake(self) -> None:
        """Look at the ledger at once; to be called on the event loop."""
        self._wake.set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send in the background until the block ends; what is unsent stays in the ledger."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_tell_why)
        try:
            yield
        finally:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        async with httpx.AsyncClient(
            base_url=self._api, headers=self._headers, timeout=_TIMEOUT
        ) as client:
            while True:
                self._looked = time.monotonic()
                self._wake.clear()  # before the look: what comes during it is seen next time
                await self._round(client)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE):
                        await self._wake.wait()

    async def _round(self, client: httpx.AsyncClient) -> None:
        """Try what is due, up to the first that is not accepted; the others come soon again."""
        try:
            for row in await asyncio.to_thread(self._ledger.pending):
                if not await self._try(client, row):
                    break
            self._tell("ledger", "")
        except ChipmillError as err:
            self._tell("ledger", str(err))

    async def _try(self, client: httpx.AsyncClient, row: OutboxRow) -> bool:
        try:
            subject = {_PARAMETER[row.kind]: row.subject}
            flow_run = await start_flow(client, row.kind, subject, key=row.key)
        except TransientError as err:
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(row.attempts, 10))
            delay *= random.uniform(0.5, 1)  # noqa: S311  spreads tries, not a secret
            await asyncio.to_thread(self._ledger.postpone, row.id, str(err), delay=delay)
            self._tell(row.kind, str(err))
            return False
        await asyncio.to_thread(self._ledger.sent, row.id, flow_run)
        self._tell(row.kind, "")
        _log.info("%s of %s is flow run %s", row.kind, row.subject, flow_run)
        await self._emit(client, row)
        return True

    async def _emit(self, client: httpx.AsyncClient, row: OutboxRow) -> None:
        """Tell people's automations, once and without a promise: the flow run is what counts."""
        event, resource = _EVENT[row.kind]
        try:
            await emit(client, event, f"{resource}.{row.subject}", key=row.key)
            self._tell("events", "")
        except TransientError as err:
            self._tell("events", str(err))

    def _tell(self, what: str, trouble: str) -> None:
        """Log a trouble when it begins, changes or ends, not at each try."""
        if trouble == self._troubles.get(what, ""):
            return
        if trouble:
            _log.warning("the outbox waits with %s: %s", what, trouble)
        else:
            _log.warning("the outbox moves again with %s", what)
        self._troubles[what] = trouble


def _tell_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("the outbox has stopped", exc_info=task.exception())
