"""Tokens for hosts that want signed addresses, as the Planetary Computer's storage does.

A token is used where a request is sent and nowhere else: no href, record, message or log has it.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx

from chipmill.errors import StoreError, TransientError
from chipmill.model.access import Access

log = logging.getLogger(__name__)

_BUSY = 429
_LATE = 0.8
"""Part of a token's life after which a new one is taken."""
_NONE_FOR = timedelta(minutes=5)
"""How long the answer holds that a container has no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    query: str
    """Empty: the container is read without one."""
    taken: datetime
    until: datetime

    @property
    def is_fresh(self) -> bool:
        return datetime.now(UTC) < self.taken + _LATE * (self.until - self.taken)


class Signer:
    """The tokens of a process, one a container."""

    def __init__(self, access: Access) -> None:
        """Begin without tokens."""
        self._access = access
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def sign(self, url: httpx.URL) -> httpx.URL:
        """Add the token of its container to an address; another host's stays as it is.

        Raises:
            TransientError: The token is not to be had now.
        """
        source = self._source(url)
        return _signed(url, self._token(source)) if source else url

    def renew(self, url: httpx.URL, refused: httpx.URL) -> httpx.URL | None:
        """Sign an address anew whose signed form was refused; None: there is nothing to renew."""
        source = self._source(url)
        if source is None:
            return None
        with self._lock:
            known = self._tokens.get(source)
            # Another copy may have renewed it meanwhile.
            if known and known.query and _signed(url, known) == refused:
                del self._tokens[source]
        again = _signed(url, self._token(source))
        return None if again == refused else again

    def _source(self, url: httpx.URL) -> str | None:
        """Give the address where the token of a container is to be had."""
        account, _, _ = url.host.partition(".")
        container = url.path.strip("/").partition("/")[0]
        place = url.host if url.port is None else f"{url.host}:{url.port}"
        for end, template in self._access.signers:
            if place == end or url.host.endswith(f".{end}"):
                # Of other people's text: it may name a container and nothing else of the address.
                return template.format(account=account, container=quote(container, safe=""))
        return None

    def _token(self, source: str) -> _Token:
        # One at a time: a hundred copies that begin together need one token.
        with self._lock:
            known = self._tokens.get(source)
            if known is None or not known.is_fresh:
                known = self._tokens[source] = _ask(source, self._access.patience)
            return known


def _signed(url: httpx.URL, token: _Token) -> httpx.URL:
    query = "&".join(part for part in (url.query.decode(), token.query) if part)
    return url.copy_with(query=query.encode()) if query else url


def _ask(source: str, patience: float) -> _Token:
    now = datetime.now(UTC)
    try:
        answer = httpx.get(source, timeout=patience)
    except httpx.HTTPError as err:
        raise TransientError(f"{source} gave no token ({err})") from err
    if answer.is_client_error and answer.status_code != _BUSY:
        log.info("%s answered %d: its files are read unsigned", source, answer.status_code)
        return _Token(query="", taken=now, until=now + _NONE_FOR)
    if not answer.is_success:
        raise TransientError(f"{source} answered {answer.status_code} instead of a token")
    try:
        said = answer.json()
        until = datetime.fromisoformat(said["msft:expiry"])
        return _Token(query=str(said["token"]), taken=now, until=until)
    except (KeyError, TypeError, ValueError):
        # What was answered may hold a token, so it is not part of the chain.
        raise StoreError(f"{source} answers no token; check CHIPMILL_SIGNERS") from None
