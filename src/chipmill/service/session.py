"""Who is signed in on the page: a signed cookie, and a token in every form that does something."""

import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from chipmill.errors import RequestError
from chipmill.service.keys import page_key

COOKIE: Final = "chipmill-session"
HOURS: Final = 12
"""How long a sign-in lasts."""

_LEAST: Final = 20  # characters of a token that people choose
_NAME: Final = re.compile(r"[^\W_](?:[\w .@-]{0,38}[\w.])?")
_FORM: Final = re.compile(r"([0-9]{1,12})\.((?:[0-9a-f]{2}){1,160})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in."""

    who: str
    """The name that was given, for the record."""

    csrf: str
    """What each form of this session carries; another site cannot know it."""


class Door:
    """Signs people in by a token, and knows them again by the cookie."""

    def __init__(self, token: str, *, clock: Callable[[], float] = time.time) -> None:
        """Open to those who have `token`; `RequestError` when it is too short to be a secret."""
        if len(token) < _LEAST:
            raise RequestError(
                f"the page's token has {len(token)} characters, at least {_LEAST} are needed; "
                "unset CHIPMILL_PAGE_TOKEN to have one derived, or set a longer one"
            )
        self._token = token.encode()
        self._key = page_key(self._token)
        self._clock = clock

    def sign_in(self, token: str, who: str) -> str | None:
        """Give the cookie's value; None when the token is wrong or the name is none."""
        right = hmac.compare_digest(token.strip().encode(), self._token)
        if not (right and _NAME.fullmatch(who.strip())):
            return None
        ends = int(self._clock()) + HOURS * 3600
        text = f"{ends}.{who.strip().encode().hex()}"
        return f"{text}.{self._mac('cookie', text)}"

    def session(self, cookie: str | None) -> Session | None:
        """Know a person again; None when nobody is signed in, or no longer."""
        found = _FORM.fullmatch(cookie or "")
        if found is None or not cookie:
            return None
        text = f"{found[1]}.{found[2]}"
        if not hmac.compare_digest(found[3], self._mac("cookie", text)):
            return None
        if int(found[1]) < self._clock():
            return None
        return Session(bytes.fromhex(found[2]).decode(), self._mac("form", cookie))

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose} {text}".encode(), sha256).hexdigest()


def is_meant(session: Session | None, csrf: str) -> bool:
    """Tell whether a form was sent by the person who is signed in, and not by another site."""
    return session is not None and hmac.compare_digest(csrf.encode(), session.csrf.encode())
