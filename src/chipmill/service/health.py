"""What watches over the receiver asks: does it live, is it of use, and how is everything."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from chipmill.errors import ChipmillError
from chipmill.service.answers import reply
from chipmill.service.contract import Status
from chipmill.service.metrics import Meters
from chipmill.service.outbox import Sender
from chipmill.service.watch import Watch

_ALIVE: Final[dict[int | str, dict[str, Any]]] = {200: {"model": Status, "description": "Alive."}}
_READY: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Status, "description": "The ledger answers and the outbox is being sent."},
    503: {
        "model": Status,
        "description": "Trainers will be told to come again, or no cleanup starts.",
    },
}
_METRICS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}
}


class Health:
    """The routes `/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, watch: Watch, meters: Meters, sender: Sender | None) -> None:
        """Judge by what is watched, and by the sender where there is one."""
        self._watch = watch
        self._meters = meters
        self._sender = sender

    def add_to(self, app: FastAPI) -> None:
        """Put the routes into an application."""
        app.get("/healthz", summary="Is the process alive?", responses=_ALIVE)(_healthz)
        app.get(
            "/readyz", summary="Does the ledger answer and does the outbox move?", responses=_READY
        )(self.readyz)
        app.get(
            "/metrics",
            summary="Figures for Prometheus",
            response_class=PlainTextResponse,
            responses=_METRICS,
        )(self.metrics)

    async def readyz(self) -> JSONResponse:
        """Say 200 when the ledger answers and the outbox is being sent.

        That Prefect is away does not count: reports are taken all the same, and wait.
        """
        if self._sender is not None and not self._sender.alive:
            return reply(503, "the outbox has stopped; restart the receiver")
        if self._sender is not None and self._sender.stuck:
            return reply(503, "the outbox does not move; look at the log")
        try:
            seen = await self._watch.overview()
        except ChipmillError:
            return reply(503, "the ledger does not answer")
        if seen.oldest_pending is None:
            return reply(200, "ready")
        waits = (
            f"{seen.pending} flow runs wait for Prefect since {seen.at - seen.oldest_pending:.0f} s"
        )
        return reply(200, f"ready; {waits}")

    async def metrics(self) -> Response:
        """Write all figures; those of the ledger are missing while it does not answer."""
        try:
            seen = await self._watch.overview()
        except ChipmillError:
            seen = None
        return Response(self._meters.text(seen), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _healthz() -> JSONResponse:
    """Say 200 while the process answers."""
    return reply(200, "alive")
