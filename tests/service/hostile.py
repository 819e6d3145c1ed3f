"""Requests that nobody should send: each begins as a good one and is broken in one way."""

import json
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chipmill.formats.webhook import headers
from chipmill.service.keys import run_key

NOW = 1_800_000_000
"""The receiver's clock, in seconds since 1970."""

COMPLETE = "/v1/megabatch-complete"
MASTER, STRANGER = bytes(range(32)), bytes(range(2, 34))
PLAN = "0123456789abcdef"
IN_USE, STAGING, READY, PLANNED = (f"{PLAN}-{number:05d}" for number in range(4))
SECRETS = ("opensesame-in-a-body", "opensesame-in-a-header", "opensesame-in-a-path")
"""Marks that hostile requests carry: none of them may reach a log."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Sent:
    """A request as it comes over the wire."""

    headers: Headers
    parts: Sequence[bytes]
    method: str = "POST"
    path: str = COMPLETE
    breaks_off: bool = False
    """Whether the client goes away before its body is whole."""

    def without(self, name: bytes) -> "Sent":
        """Give the request without a header."""
        return replace(self, headers=[pair for pair in self.headers if pair[0] != name])

    def having(self, name: bytes, value: bytes) -> "Sent":
        """Give the request with another value of a header."""
        return replace(self, headers=[*self.without(name).headers, (name, value)])


def completion(**other: object) -> bytes:
    """Write a completion, good but for what is given otherwise."""
    data = {"megabatch": IN_USE, "run": "run", "attempt": 2, "rank": 0, "world": 2, "epoch": 0}
    data |= {"minibatches": 7, "checkpoint": SECRETS[0]} | other
    message = {"type": "megabatch.completed", "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return json.dumps(message).encode()


def begin(**other: object) -> bytes:
    """Write a begin, good but for what is given otherwise."""
    data = {"run": "run", "attempt": 2, "world": 2, "plan": PLAN} | other
    message = {"type": "run.begun", "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return json.dumps(message).encode()


def signed(
    body: bytes, *, message_id: str, run: str = "run", master: bytes = MASTER, at: int = NOW
) -> Sent:
    """Sign a body well."""
    found = headers(run_key(master, run), run=run, message_id=message_id, timestamp=at, body=body)
    size = (b"content-length", str(len(body)).encode())
    return Sent([(name.encode(), value.encode()) for name, value in found.items()] + [size], [body])


class Mischief:
    """Draws hostile requests from a seed, kind after kind."""

    def __init__(self, seed: int) -> None:
        """Begin the sequence of this seed."""
        self._draw = random.Random(seed)  # noqa: S311  mischief, no secrets

    def __call__(self, kind: str) -> Sent:
        """Make a request of a kind."""
        return KINDS[kind](self)

    def good(
        self, body: bytes | None = None, *, run: str = "run", master: bytes = MASTER, at: int = NOW
    ) -> Sent:
        """Sign a completion, under an id of its own."""
        name = "m_" + "".join(self._draw.choices(string.ascii_letters, k=16))
        return signed(
            completion() if body is None else body, message_id=name, run=run, master=master, at=at
        )

    def one_of(self, *values: bytes) -> bytes:
        """Draw one."""
        return self._draw.choice(values)

    def junk(self, count: int) -> bytes:
        """Draw bytes."""
        return self._draw.randbytes(count)

    def flipped(self, body: bytes) -> bytes:
        """Flip one bit."""
        at = self._draw.randrange(len(body))
        return body[:at] + bytes([body[at] ^ 1 << self._draw.randrange(8)]) + body[at + 1 :]

    def number(self, low: int, high: int) -> int:
        """Draw a whole number below `high`."""
        return self._draw.randrange(low, high)


def _tampered(m: Mischief) -> Sent:
    sent = m.good()
    return replace(sent, parts=[m.flipped(sent.parts[0])])


def _timestamp(m: Mischief) -> Sent:
    odd = (b"nan", b"inf", b"1e30", b"-1", b"", b" 1", b"0x10", b"9" * 500, m.junk(8))
    return m.good().having(b"webhook-timestamp", m.one_of(*odd, b"%d.5" % NOW, b"0%d" % NOW))


def _signature(m: Mischief) -> Sent:
    odd = (b"", b"v1", b"v1,", b"v1,a,b", b"v1,AAAAA", b"v2," + b"A" * 44, b" " * 5000, m.junk(60))
    more = (b"v1," + m.junk(44), b"v1a," + b"A" * 88, SECRETS[1].encode())
    return m.good().having(b"webhook-signature", m.one_of(*odd, *more))


def _id(m: Mischief) -> Sent:
    odd = (b"", b"a.b", b"x" * 129, m.junk(20), b"a b", b"../x", b"other")
    return m.good().having(b"webhook-id", m.one_of(*odd))


def _split_anew(m: Mischief) -> Sent:
    sent = m.good()
    found = dict(sent.headers)
    return sent.having(b"webhook-id", found[b"webhook-id"] + b"." + found[b"webhook-timestamp"])


def _repeated(m: Mischief) -> Sent:
    sent = m.good()
    name, value = sent.headers[m.number(0, 4)]
    return replace(sent, headers=[*sent.headers, (name.upper(), value)])


def _missing(m: Mischief) -> Sent:
    sent = m.good()
    return sent.without(sent.headers[m.number(0, 4)][0])


def _run(m: Mischief) -> Sent:
    odd = (b"", b"../run", b"run2", b"r" * 129, b"\xff", b"run'; DROP TABLE run;--", m.junk(9))
    return m.good().having(b"chipmill-run", m.one_of(*odd))


def _declared(m: Mischief) -> Sent:
    odd = (b"999999999", b"20481", b"-1", b"1e9", b"", b"\xb2", b"9" * 400)
    return m.good().having(b"content-length", m.one_of(*odd))


def _streamed(m: Mischief) -> Sent:
    return replace(m.good().without(b"content-length"), parts=[b"x" * 4096] * 20)


def _no_json(m: Mischief) -> Sent:
    odd = (b"", b"{", b"[" * 15_000, b'{"a":' * 3_000, b"9" * 9_000, m.junk(200), b"\xff\xfe")
    nan = completion().replace(b'"rank": 0', b'"rank": NaN')
    return m.good(m.one_of(*odd, nan, b'"\\ud800"', b"\xef\xbb\xbf{}"))


def _no_message(m: Mischief) -> Sent:
    odd = (b"null", b"[]", b'"x"', b'{"type":1}', b'{"type":"megabatch.completed","data":[]}')
    return m.good(m.one_of(*odd, begin(), b"{}", b"1e400"))


def _fields(m: Mischief) -> Sent:
    ranks: tuple[object, ...] = (True, 1.0, "0", -1, 2, 10**30, None, [0], {})
    names = ("", "../../etc", "m\n", None, ["m"], "x" * 200, "m\u0000", "m'; DROP TABLE run;--")
    bodies = [completion(rank=rank) for rank in ranks]
    bodies += [completion(megabatch=name) for name in names]
    bodies += [completion(more=1), completion(attempt=0), completion(checkpoint="c" * 2000)]
    return m.good(m.one_of(*bodies))


def _unknown(m: Mischief) -> Sent:
    return m.good(completion(megabatch=f"{'f' * 16}-{m.number(0, 99_999):05d}"))


def _not_in_use(m: Mischief) -> Sent:
    return m.good(m.one_of(*(completion(megabatch=name) for name in (READY, STAGING, PLANNED))))


def _other_run(m: Mischief) -> Sent:
    return m.good(completion(run="run2"), run=m.one_of(b"run", b"run2").decode())


def _zombie(m: Mischief) -> Sent:
    return m.good(m.one_of(completion(attempt=1), completion(attempt=3), completion(world=3)))


def _bad_begin(m: Mischief) -> Sent:
    odd = (begin(attempt=1), begin(world=3), begin(plan="f" * 16), begin(run="run2"))
    return replace(m.good(m.one_of(*odd, begin(attempt=0), completion())), path="/v1/runs")


def _method(m: Mischief) -> Sent:
    methods = ("PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW", "GET")
    return replace(m.good(), method=methods[m.number(0, len(methods))])


def _path(m: Mischief) -> Sent:
    paths = ("/v1", "/v1/megabatch-complete/../admin", "/v1/megabatch-complete\x00", "//v1/runs")
    paths += ("/metrics", f"/{SECRETS[2]}", "/../../etc/passwd", "/%2e%2e/x", "/page.css/..", "")
    return replace(m.good(), path=paths[m.number(0, len(paths))])


def _gone(m: Mischief) -> Sent:
    return replace(m.good(), parts=[b"{"], breaks_off=True)


def _junk_headers(m: Mischief) -> Sent:
    return replace(m.good(), headers=[(m.junk(5), m.junk(50)) for _ in range(20)])


def _page(m: Mischief) -> Sent:
    """Try the page's forms: without a cookie, with a forged one, from another site."""
    paths = (f"/do/release/run?{SECRETS[2]}", "/do/ask/" + IN_USE, "/do/send/1", "/sign-out")
    path = ("/sign-in", "/do/nothing/x", "/do/send/-1", "/do/send/x", *paths)[m.number(0, 8)]
    cookie = m.one_of(b"", b"chipmill-session=1.61." + b"0" * 64, b"chipmill-session=" + m.junk(20))
    body = m.one_of(b"", b"token=x&who=y", b"csrf=" + b"0" * 64, m.junk(50), b"a=b&" * 50)
    site = (b"sec-fetch-site", m.one_of(b"cross-site", b"same-origin", b"same-site"))
    more = [(b"cookie", cookie), (b"content-length", b"%d" % len(body)), site]
    more.append((b"authorization", SECRETS[1].encode()))
    return Sent(more, [body], path=path.partition("?")[0])


KINDS: dict[str, Callable[[Mischief], Sent]] = {
    "forged": lambda m: m.good(master=STRANGER),
    "tampered": _tampered,
    "old": lambda m: m.good(at=NOW - m.number(301, 10**6)),
    "future": lambda m: m.good(at=NOW + m.number(301, 10**6)),
    "timestamp": _timestamp,
    "signature": _signature,
    "id": _id,
    "id split anew": _split_anew,
    "header twice": _repeated,
    "header missing": _missing,
    "run": _run,
    "declared size": _declared,
    "streamed size": _streamed,
    "no JSON": _no_json,
    "no message": _no_message,
    "fields": _fields,
    "unknown megabatch": _unknown,
    "not in use": _not_in_use,
    "other run": _other_run,
    "zombie": _zombie,
    "begin": _bad_begin,
    "method": _method,
    "path": _path,
    "gone": _gone,
    "junk headers": _junk_headers,
    "page": _page,
}
"""By name, what makes one."""
