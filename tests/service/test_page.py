"""The page's doors: who may do what, what a browser is told, and what another site cannot do."""

import http.cookies
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import hypothesis.strategies as st
import pytest
from fastapi import FastAPI
from hypothesis import given

from chipmill.errors import RequestError, StaleFenceError
from chipmill.formats.webhook import encode_key
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id
from chipmill.service.glance import ranges
from chipmill.service.keys import page_token
from chipmill.service.live import MOST_STREAMS, event
from chipmill.service.receiver import create_app
from chipmill.service.serve import token
from chipmill.service.session import COOKIE, HOURS, Door
from chipmill.service.templates import ago, size, span
from chipmill.settings import Settings

MASTER = bytes(range(32))
PLAN = "0123456789abcdef"
IDS = [megabatch_id(PLAN, number) for number in range(2)]
Serving = Callable[[FastAPI], AbstractContextManager[str]]


@dataclass(frozen=True)
class House:
    """A receiver whose run of one rank holds a megabatch, and somebody who looks at it."""

    ledger: Ledger
    client: httpx.Client

    def sign_in(self, **other: str) -> httpx.Response:
        """Send the form of the token."""
        return self.client.post(
            "/sign-in", data={"who": "Ada", "token": page_token(MASTER), **other}
        )

    def csrf(self) -> str:
        """Read the token that each form of the session carries."""
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.client.get("/").text)
        assert found is not None
        return found[1]


@pytest.fixture
def house(tmp_path: Path, serving: Serving) -> Iterator[House]:
    """Serve a ledger with a run, its megabatch, and one that was given up."""
    with Ledger.open(f"sqlite:///{tmp_path / 'l.db'}", patience=0.5) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10, 10])
        ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
        ledger.ready(IDS[0], ledger.claim_staging(IDS[0], budget=20, worker="w"), size=10)
        with (
            serving(create_app(ledger, [MASTER])) as url,
            httpx.Client(base_url=url, timeout=60) as client,
        ):
            yield House(ledger, client)


def test_a_stranger_sees_and_does_nothing(house: House) -> None:
    """Without a cookie the page has no buttons, and no form does anything."""
    page = house.client.get("/")
    assert page.status_code == 200
    assert "Release" not in page.text
    assert house.client.get("/do/release/run").headers["location"] == "/sign-in"
    for path in ("/do/release/run", f"/do/ask/{IDS[1]}", "/do/send/1", "/sign-out"):
        assert house.client.post(path, data={"csrf": "0" * 64}).status_code == 403
    for other in ({"token": "x"}, {"token": page_token(bytes(32))}, {"who": ""}, {"who": "a\nb"}):
        refused = house.sign_in(**other)
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers
    assert house.ledger.megabatch(IDS[0]).state is State.IN_USE
    assert house.ledger.overview().actions == []


def test_the_cookie_is_out_of_reach(house: House) -> None:
    """No script reads it, no other site sends it, and it ends with the day's work."""
    answer = house.sign_in()
    assert answer.status_code == 303
    cookie = http.cookies.SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert cookie["max-age"] == str(HOURS * 3600)
    assert house.client.get("/sign-in").headers["location"] == "/"
    assert house.client.post("/sign-out", data={"csrf": house.csrf()}).status_code == 303
    assert house.client.get("/do/release/run").headers["location"] == "/sign-in"


def test_another_site_cannot_send_a_form(house: House) -> None:
    """Neither a guessed token nor the right one from elsewhere moves anything."""
    house.sign_in()
    right = house.csrf()
    for csrf, told in (
        ("", {}),
        ("0" * 64, {}),
        (right[:-1], {}),
        (right, {"sec-fetch-site": "cross-site"}),
        (right, {"sec-fetch-site": "same-site"}),
        (right, {"origin": "https://elsewhere.example"}),
        (right, {"origin": "null"}),
    ):
        refused = house.client.post("/do/release/run", data={"csrf": csrf}, headers=told)
        assert refused.status_code == 403
    assert house.client.get("/do/release/run").status_code == 200
    assert house.ledger.megabatch(IDS[0]).state is State.IN_USE
    done = house.client.post("/do/release/run", data={"csrf": right})
    assert (done.status_code, done.headers["location"]) == (303, "/#by-hand")
    assert house.ledger.megabatch(IDS[0]).state is State.COMPLETE
    (action,) = house.ledger.overview().actions
    assert (action.what, action.subject, action.actor) == ("release", "run run", "Ada (page)")


def test_requests_are_made_again_from_the_page(house: House) -> None:
    """A row is sent now, a planned megabatch asks for staging, and nonsense is said to be that."""
    house.sign_in()
    form = {"csrf": house.csrf()}
    (row,) = house.ledger.overview().requests
    house.ledger.postpone(row.id, "away", delay=1000)
    assert house.client.post(f"/do/send/{row.id}", data=form).status_code == 303
    assert [found.id for found in house.ledger.pending()] == [row.id]
    assert house.client.post(f"/do/ask/{IDS[1]}", data=form).status_code == 303
    assert [found.kind for found in house.ledger.pending()] == ["stage", "stage"]
    fence = house.ledger.claim_staging(IDS[1], budget=20, worker="dead")
    assert "Free" in house.client.get("/").text
    assert house.client.post(f"/do/free/{IDS[1]}", data=form).status_code == 303
    with pytest.raises(StaleFenceError):
        house.ledger.renew(IDS[1], fence)
    for path, text in (
        ("/do/send/99", "no row 99"),
        ("/do/send/x", "numbers its rows"),
        ("/do/release/nobody", "knows no run"),
        (f"/do/ask/{IDS[0]}", "in_use"),
    ):
        refused = house.client.post(path, data=form)
        assert refused.status_code == 409
        assert text in refused.text
    assert house.client.post("/do/nothing/x", data=form).status_code == 404
    assert house.client.get("/do/nothing/x").status_code == 404


def test_every_page_forbids_what_it_does_not_need(house: House) -> None:
    """Nothing foreign is loaded or run, nobody frames it, nothing is kept, nothing is inline."""
    for path in ("/", "/sign-in", "/page.css", "/page.js", "/page.svg", "/do/release/run"):
        answer = house.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        if "html" in answer.headers.get("content-type", ""):
            assert (
                re.findall(r"\son\w+=|style=|<style|<script(?! src)|https?://", answer.text) == []
            )


def test_names_from_outside_are_only_text(house: House) -> None:
    """What a worker calls itself, or a scene, becomes no markup."""
    fence = house.ledger.claim_staging(IDS[1], budget=20, worker="<b onclick=x>")
    house.ledger.give_up(IDS[1], fence, reason="<script>alert(1)</script> & more")
    page = house.client.get("/").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    house.sign_in()
    strange = house.client.get("/do/release/%3Cimg%20src=x%3E").text
    assert "<img" not in strange


def test_the_stream_begins_with_the_page_and_has_its_limits(house: House) -> None:
    """A browser has the sections at once; more readers than places are asked to come later."""
    with ExitStack() as streams:
        opened = [
            streams.enter_context(house.client.stream("GET", "/live")) for _ in range(MOST_STREAMS)
        ]
        lines = [stream.iter_lines() for stream in opened]
        assert opened[0].headers["content-type"].startswith("text/event-stream")
        for each in lines:
            assert next(line for line in each if line.startswith("event")) == "event: page"
            assert next(each).startswith("data: ")
        full = house.client.get("/live")
        assert (full.status_code, full.headers["retry-after"]) == (503, "30")


def test_a_session_ends_and_cannot_be_made_up() -> None:
    """The cookie is worth nothing after its hours, changed in any place, or at another door."""
    now = [1000.0]
    door = Door(page_token(MASTER), clock=lambda: now[0])
    cookie = door.sign_in(page_token(MASTER), "Ada")
    assert cookie is not None
    session = door.session(cookie)
    assert session is not None
    assert session.who == "Ada"
    for place in range(len(cookie)):
        other = "1" if cookie[place] != "1" else "2"
        assert door.session(cookie[:place] + other + cookie[place + 1 :]) is None
    assert Door("another token of some length").session(cookie) is None
    now[0] += HOURS * 3600 + 1
    assert door.session(cookie) is None
    with pytest.raises(RequestError, match="at least 20"):
        Door("short")


@given(text=st.text(max_size=100))
def test_any_cookie_is_looked_at_without_a_crash(text: str) -> None:
    """What a stranger sends as a cookie, token or name is refused, never an error."""
    door = Door(page_token(MASTER))
    assert door.session(text) is None
    assert door.sign_in(text, text) is None


def test_the_token_is_the_one_that_was_set_or_follows_from_the_master() -> None:
    """No default secret: without a master there is no token either."""
    master = encode_key(MASTER)
    assert token(Settings.model_validate({"webhook_master": master})) == page_token(MASTER)
    chosen = {"webhook_master": master, "page_token": "chosen by the team"}
    assert token(Settings.model_validate(chosen)) == "chosen by the team"
    with pytest.raises(RequestError, match="no master secret"):
        token(Settings.model_validate({"webhook_master": None}))


def test_figures_are_short_and_true() -> None:
    """What people read of bytes, times and ranks."""
    assert [size(n) for n in (0, 999, 1_000, 12_345, 1.5e12)] == [
        "0 bytes",
        "999 bytes",
        "1.00 kB",
        "12.3 kB",
        "1.50 TB",
    ]
    assert [span(n) for n in (5, 65, 3_600, 7_500, 90_000)] == [
        "5 s",
        "1 min",
        "1 h",
        "2 h 5 min",
        "1 d 1 h",
    ]
    assert [ago(0, n) for n in (3, 90, 7_300)] == ["just now", "1 min ago", "2 h ago"]
    assert ranges([0, 1, 2, 5, 7, 8]) == "0\N{EN DASH}2, 5, 7\N{EN DASH}8"
    assert event("page", "a\nb") == "event: page\ndata: a\ndata: b\n\n"
