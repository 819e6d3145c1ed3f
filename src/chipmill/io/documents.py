"""Documents of catalogues, over HTTP or from a store: paced, tried again, never cut short."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import stamina

from chipmill.errors import CatalogError, ChipmillError, StoreError, TransientError
from chipmill.formats.signature import said
from chipmill.io.source import open_source
from chipmill.io.web import open_client
from chipmill.model.access import OWN, Access
from chipmill.url import store_url

TRIES = 6
_TIMEOUT = httpx.Timeout(60, connect=15)
"""Seconds; a search over years of a large catalogue takes its time."""
_LONGEST_WAIT = 120.0
"""Seconds; a server that says to come back later than that is given up for now."""
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers after which the same request may succeed."""
_LONGEST_ERROR = 200  # characters


class RefusedError(CatalogError):
    """The server understood the request and will not answer it: 4xx."""


class _BusyError(Exception):
    """The same request may succeed; after `wait` seconds, where the server said so."""

    def __init__(self, said: str, wait: float | None = None) -> None:
        super().__init__(said)
        self.wait = wait


class Documents:
    """Reads documents; many threads may share one, and it keeps their common pace."""

    def __init__(self, *typed: str, access: Access = OWN, rate: float = 10) -> None:
        """Make a reader.

        Args:
            typed: Addresses that the team itself typed: these, and what lies on their hosts, may be
                anywhere; what documents and redirects lead to is held against the rules.
            access: The rules.
            rate: HTTP requests a second that it sends at most.
        """
        self._typed = frozenset(map(address, typed))
        self._access = access.trusting(*typed)
        self._client = open_client(self._access, timeout=_TIMEOUT)
        self._pause = 1 / rate
        self._next = 0.0
        self._lock = threading.Lock()
        self._known = set[str]()

    def __enter__(self) -> Self:
        """Give the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self._client.close()

    def read(self, url: str) -> bytes:
        """Read a whole document.

        Args:
            url: `https://…`, `http://…`, `file://…`, or that of an object store.

        Raises:
            CatalogError: There is none, or the scheme is none that chipmill reads.
            TransientError: Nobody answers, after several tries.
        """
        if urlsplit(url).scheme in ("http", "https"):
            return self.ask("GET", url)
        own = OWN if url in self._typed else self._access
        try:
            with open_source(url, own) as source:
                return b"".join(source.pieces)
        except TransientError:
            raise
        except (ChipmillError, OSError) as err:
            raise CatalogError(f"{said(url)} cannot be reached: {err}") from err

    def ask(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send one request, again where that may help.

        Raises:
            RefusedError: The server will not answer.
            TransientError: It does not answer, or not in whole, after several tries.
        """

        def once() -> bytes:
            self._wait()
            return self._send(method, url, body, headers or {})

        try:
            for attempt in stamina.retry_context(
                on=_wait_of, attempts=TRIES, timeout=None, wait_initial=0.5, wait_max=30
            ):
                with attempt:
                    return once()
        except _BusyError as err:
            tries = f"{TRIES} tries" if _wait_of(err) else f"it asks for {err.wait:.0f} s"
            raise TransientError(
                f"{said(url)} cannot be reached: {err} ({tries}); it may work in a while"
            ) from err
        raise AssertionError("stamina gives a value or an error")

    def _send(
        self, method: str, url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> bytes:
        try:
            answer = self._client.request(method, url, json=body, headers=dict(headers))
        except (httpx.TransportError, httpx.DecodingError) as err:
            if isinstance(err, httpx.ConnectError) and _host(url) not in self._known:
                # Most likely a wrong address, which no waiting mends.
                raise CatalogError(f"{said(url)} cannot be reached: {err}") from err
            raise _BusyError(str(err) or type(err).__name__) from err
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, StoreError) as err:
            raise CatalogError(f"{said(url)} cannot be reached: {err}") from err
        self._known.add(_host(url))
        if answer.status_code in _AGAIN:
            wait = _seconds(answer.headers.get("retry-after"))
            if wait is not None and wait <= _LONGEST_WAIT:
                self._hold(wait)
            raise _BusyError(f"it answered {answer.status_code}", wait)
        if answer.status_code != HTTPStatus.OK:
            told = " ".join(answer.text[:_LONGEST_ERROR].split())
            raise RefusedError(
                f"{said(url)} answered {answer.status_code} ({told}); check the address and the "
                "access rights"
            )
        return answer.content

    def _wait(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._pause
        time.sleep(max(0.0, start - time.monotonic()))

    def _hold(self, seconds: float) -> None:
        """Let nobody send for some time: what one thread is told holds for all."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def address(typed: str) -> str:
    """Give the URL of what people type: a URL, or a path of this machine."""
    return store_url(typed)


def parsed(url: str, read: Callable[[], bytes]) -> object:
    """Read a document as JSON; one that is cut is read again.

    Raises:
        CatalogError: It is not JSON.
    """
    problem = ""
    for _ in range(2):
        try:
            return json.loads(read())
        except (ValueError, RecursionError) as err:
            problem = str(err)
    raise CatalogError(f"{said(url)} is not JSON ({problem}); is it the address of a catalogue?")


def _wait_of(err: Exception) -> bool | float:
    """Say when to try again: at the time that the server names, else with growing pauses."""
    if not isinstance(err, _BusyError) or (err.wait or 0) > _LONGEST_WAIT:
        return False
    return True if err.wait is None else err.wait


def _seconds(retry_after: str | None) -> float | None:
    """Read `Retry-After`: seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _host(url: str) -> str:
    return urlsplit(url).netloc
