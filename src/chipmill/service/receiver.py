"""The webhook receiver: what training runs say becomes a change of the ledger, once."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from chipmill.errors import BusyError, ChipmillError, RequestError
from chipmill.formats.webhook import MegabatchCompleted, RunBegun
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_runs import Answer
from chipmill.service.contract import add_messages, post_of
from chipmill.service.intake import Refusal, believe, check_size, parse, read_body
from chipmill.service.outbox import Sender

AT_ONCE: Final = 64
"""Requests in work at one time; one more is asked to come again."""

_RETRY_AFTER: Final = "2"  # seconds
_Message = TypeVar("_Message", RunBegun, MegabatchCompleted)
_log: Final = logging.getLogger(__name__)


def create_app(
    ledger: Ledger,
    masters: Sequence[bytes],
    *,
    clock: Callable[[], float] = time.time,
    sender: Sender | None = None,
) -> FastAPI:
    """Make the receiver as an ASGI application.

    Args:
        ledger: Open; the caller closes it.
        masters: The master secret and, in a rotation, the one before.
        clock: Gives seconds since 1970, for the age of signatures.
        sender: Starts flow runs from the outbox for as long as the application lives.
    """
    desk = _Desk(ledger, masters, clock=clock, sender=sender)
    app = FastAPI(
        title="chipmill receiver",
        description="What training runs tell the pipeline, signed by Standard Webhooks.",
        lifespan=_lifespan(sender),
        docs_url=None,  # the pages load scripts from other people's hosts
        redoc_url=None,
    )
    app.post("/v1/runs", **post_of(RunBegun))(desk.begin_run)
    app.post("/v1/megabatch-complete", **post_of(MegabatchCompleted))(desk.complete)
    app.get("/healthz", summary="Is the process alive?")(_healthz)
    app.get("/readyz", summary="Does the ledger answer and does the outbox move?")(desk.readyz)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(Exception, _broken)
    add_messages(app, RunBegun, MegabatchCompleted)
    return app


class _Desk:
    """Answers the two messages; knows how many requests are in work."""

    def __init__(
        self,
        ledger: Ledger,
        masters: Sequence[bytes],
        *,
        clock: Callable[[], float],
        sender: Sender | None,
    ) -> None:
        self._ledger = ledger
        self._masters = masters
        self._clock = clock
        self._sender = sender
        self._in_work = 0

    async def begin_run(self, request: Request) -> JSONResponse:
        """Register a run, or a new attempt of it, on a plan."""

        def work(_message_id: str, _body: bytes, message: RunBegun) -> Answer:
            data = message.data
            try:
                self._ledger.begin_run(
                    data.run, attempt=data.attempt, world=data.world, plan=data.plan
                )
            except RequestError as err:
                return Answer(404, str(err))
            except BusyError as err:
                return Answer(409, str(err))
            return Answer(200, "begun")

        return await self._serve(request, RunBegun, work)

    async def complete(self, request: Request) -> JSONResponse:
        """Record that one rank is done with a megabatch."""

        def work(message_id: str, body: bytes, message: MegabatchCompleted) -> Answer:
            return self._ledger.complete(message_id, body, message=message)

        return await self._serve(request, MegabatchCompleted, work)

    async def readyz(self) -> JSONResponse:
        """Say 200 when the ledger answers and the outbox is being sent."""
        if self._sender is not None and not self._sender.alive:
            return _reply(Answer(503, "the outbox has stopped; restart the receiver"))
        try:
            await asyncio.to_thread(self._ledger.reserved)
        except ChipmillError:
            return _reply(Answer(503, "the ledger does not answer"))
        return _reply(Answer(200, "ready"))

    async def _serve(
        self,
        request: Request,
        kind: type[_Message],
        work: Callable[[str, bytes, _Message], Answer],
    ) -> JSONResponse:
        try:
            answer = await self._receive(request, kind, work)
        except Refusal as refusal:
            answer = Answer(refusal.status, refusal.note)
        except ChipmillError as err:
            _log.warning("%s: %s", request.url.path, err)
            answer = Answer(503, "the ledger does not answer; send it again")
        if answer.status == HTTPStatus.OK and self._sender is not None:
            self._sender.wake()
        # Neither the body nor a header of a refused request reaches the log.
        _log.info("%s: %d", request.url.path, answer.status)
        return _reply(answer)

    async def _receive(
        self,
        request: Request,
        kind: type[_Message],
        work: Callable[[str, bytes, _Message], Answer],
    ) -> Answer:
        check_size(request)
        if self._in_work >= AT_ONCE:
            raise Refusal(503, "too many requests at once; send it again")
        self._in_work += 1
        try:
            body = await read_body(request)
            run, message_id = believe(request, body, masters=self._masters, clock=self._clock)
            message = parse(body, kind, run=run)
            return await asyncio.to_thread(work, message_id, body, message)
        finally:
            self._in_work -= 1


def _lifespan(sender: Sender | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def live(_app: FastAPI) -> AsyncGenerator[None]:
        if sender is None:
            yield
            return
        async with sender.running():
            yield

    return live


async def _healthz() -> JSONResponse:
    """Say 200 while the process answers."""
    return _reply(Answer(200, "alive"))


def _not_here(_request: Request, err: Exception) -> JSONResponse:
    status = err.status_code if isinstance(err, HTTPException) else HTTPStatus.NOT_FOUND
    return _reply(Answer(status, HTTPStatus(status).phrase.lower()))


def _broken(_request: Request, _err: Exception) -> JSONResponse:
    return _reply(Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error"))


def _reply(answer: Answer) -> JSONResponse:
    more: dict[str, str] = {}
    if answer.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        more["connection"] = "close"  # the rest of the body is not wanted
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        more["retry-after"] = _RETRY_AFTER
    return JSONResponse({"status": answer.note}, status_code=answer.status, headers=more)
