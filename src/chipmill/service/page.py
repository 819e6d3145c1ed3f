"""The status page: what a team looks at, live, and what it may do there once signed in."""

import asyncio
import logging
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from chipmill.errors import BusyError, ChipmillError, RequestError
from chipmill.io.ledger import Ledger
from chipmill.service.deeds import DEEDS
from chipmill.service.live import Streams
from chipmill.service.reading import ReadingRoom, check_size
from chipmill.service.refusal import Refusal
from chipmill.service.session import COOKIE, HOURS, Door, Session, is_meant
from chipmill.service.templates import WEB, render
from chipmill.service.watch import Watch

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Sent with each page: nothing of anybody else's is loaded, run, framed or kept."""

_FILES: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "page.svg": "image/svg+xml",
}
_WRONG: Final = "That is not the token, or the name has signs that a record cannot hold."

_log: Final = logging.getLogger(__name__)


class Page:
    """The routes of the page."""

    def __init__(self, ledger: Ledger, watch: Watch, door: Door) -> None:
        """Show what `watch` sees; let those in whom `door` knows."""
        self._ledger = ledger
        self._watch = watch
        self._door = door
        self._room = ReadingRoom()
        self._streams = Streams()

    def add_to(self, app: FastAPI) -> None:
        """Put the routes into an application; its OpenAPI document does not have them."""
        for path, methods, answer in (
            ("/", ["GET"], self.overview),
            ("/live", ["GET"], self.live),
            ("/sign-in", ["GET"], self.ask_token),
            ("/sign-in", ["POST"], self.sign_in),
            ("/sign-out", ["POST"], self.sign_out),
            ("/do/{deed}/{subject}", ["GET"], self.ask),
            ("/do/{deed}/{subject}", ["POST"], self.do),
        ):
            app.add_api_route(path, answer, methods=methods, include_in_schema=False)
        for name, kind in _FILES.items():
            app.add_api_route(f"/{name}", _file(name, kind), include_in_schema=False)

    async def overview(self, request: Request) -> Response:
        """Show everything; without the ledger say that it does not answer."""
        session = self._session(request)
        try:
            seen = await self._watch.glance()
        except ChipmillError as err:
            _log.warning("the page: %s", err)
            return _html("overview.html", HTTPStatus.SERVICE_UNAVAILABLE, glance=None)
        return _html("overview.html", glance=seen, session=session)

    async def live(self, request: Request) -> Response:
        """Stream the sections as they change."""
        if self._streams.full:
            return Response(status_code=503, headers={**HEADERS, "retry-after": "30"})
        session = self._session(request)

        async def draw() -> str:
            try:
                return render("sections.html", glance=await self._watch.glance(), session=session)
            except ChipmillError:
                return render("sections.html", glance=None, session=session)

        stream = self._streams.events(draw)
        return StreamingResponse(stream, media_type="text/event-stream", headers=HEADERS)

    async def ask_token(self, request: Request) -> Response:
        """Show the form of the token."""
        if self._session(request) is not None:
            return _to("/")
        return _html("sign_in.html", wrong="", who="")

    async def sign_in(self, request: Request) -> Response:
        """Give the cookie to whoever has the token."""
        form = await self._form(request)
        if form is None:
            return _said(HTTPStatus.FORBIDDEN, "This form was not sent from this page.")
        who = form.get("who", "")
        cookie = self._door.sign_in(form.get("token", ""), who)
        if cookie is None:
            _log.warning("/sign-in: refused")
            return _html("sign_in.html", HTTPStatus.FORBIDDEN, wrong=_WRONG, who=who)
        _log.info("/sign-in: %s is signed in", who.strip())
        answer = _to("/")
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=HOURS * 3600,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Take the cookie away."""
        form = await self._form(request)
        if form is None or not is_meant(self._session(request), form.get("csrf", "")):
            return _said(HTTPStatus.FORBIDDEN, "This form was not sent from this page.")
        answer = _to("/")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def ask(self, request: Request, deed: str, subject: str) -> Response:
        """Ask whether it is meant, and say what will happen."""
        session = self._session(request)
        if session is None:
            return _to("/sign-in")
        if deed not in DEEDS:
            return _said(HTTPStatus.NOT_FOUND, "There is no such page.", session)
        chosen = DEEDS[deed]
        return _html(
            "confirm.html",
            question=chosen.question.format(subject),
            effect=chosen.effect,
            word=chosen.word,
            session=session,
        )

    async def do(self, request: Request, deed: str, subject: str) -> Response:
        """Do it, when the form is that of the person who is signed in."""
        session = self._session(request)
        form = await self._form(request)
        if form is None or session is None or not is_meant(session, form.get("csrf", "")):
            return _said(HTTPStatus.FORBIDDEN, "This form was not sent from this page.", session)
        if deed not in DEEDS:
            return _said(HTTPStatus.NOT_FOUND, "There is no such page.", session)
        who = f"{session.who} (page)"
        try:
            await asyncio.to_thread(DEEDS[deed].do, self._ledger, subject, who)
        except (RequestError, BusyError) as err:
            return _said(HTTPStatus.CONFLICT, str(err), session)
        except ChipmillError as err:
            _log.warning("/do/%s: %s", deed, err)
            text = "The ledger does not answer; nothing has changed."
            return _said(HTTPStatus.SERVICE_UNAVAILABLE, text, session)
        _log.info("/do/%s: by %s", deed, who)
        self._watch.forget()
        return _to("/#by-hand")

    def _session(self, request: Request) -> Session | None:
        return self._door.session(request.cookies.get(COOKIE))

    async def _form(self, request: Request) -> dict[str, str] | None:
        """Read a form; None when it is none, or another site has sent it."""
        if not _is_own(request):
            return None
        try:
            check_size(request)
            text = (await self._room.read(request)).decode()
            return dict(parse_qsl(text, max_num_fields=8))
        except (Refusal, ValueError):
            return None


def _is_own(request: Request) -> bool:
    """Tell whether a browser says that this site has sent the form; others say nothing."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _html(name: str, status: int = HTTPStatus.OK, **values: object) -> HTMLResponse:
    return HTMLResponse(render(name, **values), status_code=status, headers=HEADERS)


def _said(status: HTTPStatus, text: str, session: Session | None = None) -> HTMLResponse:
    return _html("said.html", status, title="Not done", text=text, session=session)


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER, headers=HEADERS)


def _file(name: str, kind: str):  # noqa: ANN202
    async def answer() -> FileResponse:
        return FileResponse(WEB / name, media_type=kind, headers=HEADERS)

    return answer
