"""The webhook receiver: what training runs say becomes a change of the ledger, once."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from chipmill.errors import BusyError, ChipmillError, RequestError
from chipmill.formats.webhook import MegabatchCompleted, RunBegun
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_runs import Answer
from chipmill.service.answers import reply
from chipmill.service.contract import add_messages, post_of
from chipmill.service.health import Health
from chipmill.service.intake import believe, parse
from chipmill.service.keys import page_token
from chipmill.service.logs import facts
from chipmill.service.metrics import Measured, Meters
from chipmill.service.outbox import Sender
from chipmill.service.page import Page
from chipmill.service.reading import ReadingRoom, check_size
from chipmill.service.refusal import Refusal
from chipmill.service.session import Door
from chipmill.service.watch import Watch

AT_ONCE: Final = 64
"""Messages that are with the ledger at one time; one more is asked to come again."""

_Message = TypeVar("_Message", RunBegun, MegabatchCompleted)
_log: Final = logging.getLogger(__name__)


def create_app(
    ledger: Ledger,
    masters: Sequence[bytes],
    *,
    clock: Callable[[], float] = time.time,
    sender: Sender | None = None,
    watch: Watch | None = None,
    door: Door | None = None,
) -> FastAPI:
    """Make the receiver as an ASGI application.

    Args:
        ledger: Open; the caller closes it.
        masters: The master secret and, in a rotation, the one before.
        clock: Gives seconds since 1970, for the age of signatures.
        sender: Starts flow runs from the outbox for as long as the application lives.
        watch: What the page and the metrics see; by default of the ledger alone.
        door: Who may do something on the page; by default who has the token that is derived from
            the master.
    """
    desk = _Desk(ledger, masters, clock=clock, sender=sender)
    watch = watch or Watch(ledger)
    meters = Meters(budget=watch.budget)
    app = FastAPI(
        title="chipmill receiver",
        description="What training runs tell the pipeline, signed by Standard Webhooks.",
        lifespan=_lifespan(sender, desk),
        docs_url=None,  # the pages load scripts from other people's hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Measured, meters=meters)
    app.post("/v1/runs", **post_of(RunBegun))(desk.begin_run)
    app.post("/v1/megabatch-complete", **post_of(MegabatchCompleted))(desk.complete)
    Health(watch, meters, sender).add_to(app)
    Page(ledger, watch, door or Door(page_token(masters[0]))).add_to(app)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(RequestValidationError, _not_here)
    app.add_exception_handler(Exception, _broken)
    add_messages(app, RunBegun, MegabatchCompleted)
    return app


class _Desk:
    """Answers the two messages; knows how many of them are with the ledger."""

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
        self._room = ReadingRoom()
        self._in_work = 0
        # Threads of their own: while the ledger is locked they all wait for it, side by side.
        self._threads = ThreadPoolExecutor(AT_ONCE, "chipmill-ledger")

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
        route = request.url.path
        _log.info("%s: %d", route, answer.status, extra=facts(route=route, status=answer.status))
        return reply(answer.status, answer.note)

    async def _receive(
        self,
        request: Request,
        kind: type[_Message],
        work: Callable[[str, bytes, _Message], Answer],
    ) -> Answer:
        check_size(request)
        body = await self._room.read(request)
        run, message_id = believe(request, body, masters=self._masters, clock=self._clock)
        message = parse(body, kind, run=run)
        if self._in_work >= AT_ONCE:
            raise Refusal(503, "too many requests at once; send it again")
        self._in_work += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, message_id, body, message)
        finally:
            self._in_work -= 1

    def close(self) -> None:
        """Let the threads go when the last message is done."""
        self._threads.shutdown()


def _lifespan(
    sender: Sender | None, desk: _Desk
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def live(_app: FastAPI) -> AsyncGenerator[None]:
        async with sender.running() if sender else nullcontext():
            yield
        await asyncio.to_thread(desk.close)

    return live


def _not_here(_request: Request, err: Exception) -> JSONResponse:
    status = err.status_code if isinstance(err, HTTPException) else HTTPStatus.NOT_FOUND
    return reply(status, HTTPStatus(status).phrase.lower())


def _broken(_request: Request, _err: Exception) -> JSONResponse:
    return reply(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
