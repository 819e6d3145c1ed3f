"""Read files by `http` and `https`, and reach nothing on the way that is not allowed.

A name is resolved once, its addresses are checked, and the connection goes to the address that was
checked: no second answer of a name server can lead it elsewhere. Each redirect is checked anew.
Where a proxy stands between, it resolves the names; addresses in figures are checked here even so.
"""

import atexit
import logging
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from chipmill.errors import MissingError, StoreError, TransientError
from chipmill.formats.signature import said
from chipmill.formats.stated import plain_etag
from chipmill.io.answer import Answer
from chipmill.io.proxy import proxy_of, said_proxy
from chipmill.io.shared import shared
from chipmill.io.signing import Signer
from chipmill.model.access import Access

_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers after which the same request may succeed."""
_GONE = {404, 410}
_FORBIDDEN = 403
_REDIRECTS = 5
LONGEST_WAIT = 120.0
"""Seconds; a server that says `Retry-After` with more is asked earlier."""


@contextmanager
def get(href: str, access: Access, *, start: int = 0, etag: str | None = None) -> Generator[Answer]:
    """Ask for a file, from a byte on.

    Raises:
        MissingError: There is nothing.
        TransientError: The server did not answer, said to come back later, or has another file now.
        StoreError: The server refuses, or the address is not allowed.
    """
    asked = {"Range": f"bytes={start}-", "If-Range": f'"{etag}"'} if start else {}
    with (
        _translated(href),
        _client(access).stream("GET", href, headers=asked) as answer,
    ):
        _check(answer, said(href), start=start)
        encoded = "content-encoding" in answer.headers
        size = answer.headers.get("content-length")
        yield Answer(
            size=None if size is None or encoded else int(size) + start,
            headers={name.lower(): value for name, value in answer.headers.items()},
            pieces=_pieces(answer, href, encoded=encoded),
            resumable=not encoded
            and answer.headers.get("accept-ranges") == "bytes"
            and plain_etag(answer.headers.get("etag")) is not None,
        )


def _pieces(answer: httpx.Response, href: str, *, encoded: bool) -> Iterator[bytes]:
    """Give the bytes as they come: of what is gathered first, a break would lose all."""
    with _translated(href):
        yield from answer.iter_bytes() if encoded else answer.iter_raw()


def _check(answer: httpx.Response, where: str, *, start: int) -> None:
    code = answer.status_code
    if code in _GONE:
        raise MissingError(f"nothing at {where}")
    if code in _AGAIN:
        raise TransientError(
            f"{where} answered {code}; it may work in a while",
            after=_seconds(answer.headers.get("retry-after")),
        )
    if start and not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
        raise TransientError(f"{where} is another file than before; it is fetched again")
    if not answer.is_success:
        raise StoreError(f"{where} answered {code}; check the access rights")


def _seconds(said_after: str | None) -> float | None:
    """Read `Retry-After`: seconds or a date (RFC 9110, 10.2.3)."""
    if said_after is None:
        return None
    try:
        wait = float(said_after)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(said_after) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(wait, 0.0), LONGEST_WAIT)


@contextmanager
def _translated(href: str) -> Generator[None]:
    try:
        yield
    except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as err:
        raise StoreError(f"{said(href)} leads nowhere ({err}); drop the scene") from err
    except (httpx.HTTPError, httpx.StreamError) as err:
        raise TransientError(f"{said(href)} did not answer ({err or type(err).__name__})") from err


def open_client(access: Access, *, timeout: httpx.Timeout | float) -> httpx.Client:
    """Make a client that reaches, by whatever redirect or name, only what is allowed."""

    def check(request: httpx.Request) -> None:
        access.check(str(request.url))

    logging.getLogger("httpx").addFilter(_Unsigned())
    return httpx.Client(
        transport=_Guarded(access),
        follow_redirects=True,
        max_redirects=_REDIRECTS,
        timeout=timeout,
        event_hooks={"request": [check]},
    )


@shared
def _client(access: Access) -> httpx.Client:
    client = open_client(access, timeout=access.patience)
    # A file that is packed for the way could be neither resumed nor measured.
    client.headers["Accept-Encoding"] = "identity"
    atexit.register(client.close)
    return client


class _Unsigned(logging.Filter):
    """Takes signatures out of what httpx logs of redirects."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                said(str(arg)) if isinstance(arg, httpx.URL) else arg for arg in record.args
            )
        return True


class _Guarded(httpx.BaseTransport):
    """Signs requests, and connects to checked addresses only."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._signer = Signer(access)
        self._tls = httpx.create_ssl_context()
        self._transports: dict[str, httpx.HTTPTransport] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        signed = self._signer.sign(request.url)
        answer = self._send(request, signed)
        if answer.status_code != _FORBIDDEN:
            return answer
        again = self._signer.renew(request.url, signed)
        if again is None:
            return answer
        answer.close()
        return self._send(request, again)

    def _send(self, request: httpx.Request, url: httpx.URL) -> httpx.Response:
        proxy = proxy_of(url)
        return self._send_by(proxy, request, url) if proxy else self._send_pinned(request, url)

    def _send_by(self, proxy: str, request: httpx.Request, url: httpx.URL) -> httpx.Response:
        """Send a request by a proxy, which resolves the name; what is no name is checked here."""
        is_own = f".{url.host}".rstrip(".").lower().endswith(".localhost")
        with suppress(socket.gaierror):
            self._admitted(url, "127.0.0.1" if is_own else url.host, socket.AI_NUMERICHOST)
        asked = httpx.Request(
            request.method,
            url,
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        try:
            return self._transport(proxy, proxy).handle_request(asked)
        except (httpx.ConnectError, httpx.ProxyError) as err:
            raise type(err)(f"by the proxy {said_proxy(proxy)}: {err}") from err

    def _send_pinned(self, request: httpx.Request, url: httpx.URL) -> httpx.Response:
        broken: httpx.ConnectError | None = None
        for address in self._addresses(url):
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # with the name of the host
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
            try:
                return self._transport(url.host).handle_request(pinned)
            except httpx.ConnectError as err:
                broken = err
        raise broken or httpx.ConnectError(f"{url.host} has no address")

    def _addresses(self, url: httpx.URL) -> list[str]:
        try:
            return self._admitted(url, url.host)
        except OSError as err:
            raise httpx.ConnectError(f"{url.host} has no address: {err}") from err

    def _admitted(self, url: httpx.URL, name: str, flags: int = 0) -> list[str]:
        """Resolve the name of a host and give the addresses at which it may be reached."""
        found = socket.getaddrinfo(name, url.port or 443, type=socket.SOCK_STREAM, flags=flags)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        admitted = [each for each in addresses if self._access.admits(url.host, each)]
        if addresses and not admitted:
            raise StoreError(
                f"the host {url.host!r} has the private address {addresses[0]}; "
                "CHIPMILL_PRIVATE_HOSTS would allow it"
            )
        return admitted

    def _transport(self, place: str, proxy: str | None = None) -> httpx.HTTPTransport:
        """Give the connections of a host or a proxy: hosts of one address must not share any."""
        with self._lock:
            if place not in self._transports:
                self._transports[place] = _opened(self._tls, proxy)
            return self._transports[place]


def _opened(tls: ssl.SSLContext, proxy: str | None) -> httpx.HTTPTransport:
    try:
        return httpx.HTTPTransport(verify=tls, proxy=proxy)
    except (ImportError, ValueError, httpx.InvalidURL) as err:
        raise StoreError(
            f"the proxy {said_proxy(proxy or '')} cannot be used; HTTP_PROXY, HTTPS_PROXY and "
            "ALL_PROXY take http://host:port or https://host:port"
        ) from err
