"""The status page in a real browser: live, by keyboard, light and dark, and as it is read out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from chipmill.formats import layout
from chipmill.formats.finding import Finding
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import State, megabatch_id
from chipmill.service.keys import page_token
from chipmill.service.receiver import create_app
from chipmill.service.watch import Watch
from tests.service.chromium import Chromium, chromium

MASTER = bytes(range(32))
PLAN = "0123456789abcdef"
IDS = [megabatch_id(PLAN, number) for number in range(4)]
HEADINGS = [
    "Fast storage",
    "Plans",
    "Megabatches",
    "Training runs",
    "Flow runs",
    "Scenes left out",
    "Done by hand",
]
ENOUGH = 4.5
"""Least contrast of text, WCAG 2.2, 1.4.3 (AA)."""

Serving = Callable[[FastAPI], AbstractContextManager[str]]
pytestmark = pytest.mark.xdist_group("browser")


@dataclass(frozen=True)
class House:
    """A receiver with its ledger, shown in a browser."""

    url: str
    ledger: Ledger
    browser: Chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Start one browser for all pages."""
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def house(browser: Chromium, tmp_path: Path, serving: Serving) -> Iterator[House]:
    """Serve a ledger with something of everything."""
    archive = Store.open((tmp_path / "archive").as_uri())
    reason = "assets do not align <script>alert(1)</script>; choose other bands"
    finding = Finding(
        collection="naip", item="left", step="index", kind="quarantined", reason=reason,
        at=datetime.now(UTC),
    )  # fmt: skip
    archive.put(layout.finding_key("naip", "left"), finding.encode())
    with Ledger.open(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10] * 4)
        ledger.begin_run("run", attempt=1, world=3, plan=PLAN)
        ledger.sent(ledger.pending()[0].id, "0d9b5d6e-5d7a-4c3b-9f0e-0123456789ab")
        ledger.ready(IDS[0], ledger.claim_staging(IDS[0], budget=40, worker="w"), size=10)
        fence = ledger.claim_staging(IDS[1], budget=40, worker="w")
        ledger.progressed(IDS[1], fence, scenes=2, of=8, size=3)
        full = ledger.claim_staging(IDS[2], budget=40, worker="w")
        ledger.give_up(IDS[2], full, reason="the disk is full; free space")
        watch = Watch(ledger, budget=40, ui="http://127.0.0.1:4200", archive=archive)
        with serving(create_app(ledger, [MASTER], watch=watch)) as url:
            browser.scheme("light")
            browser.width(1180)
            browser.driver.delete_all_cookies()
            browser.open(url)
            browser.driver.delete_all_cookies()
            browser.open(url)
            browser.until("return document.getElementById('live').dataset.state === 'live'")
            yield House(url, ledger, browser)
            browser.open("about:blank")


def sign_in(house: House, who: str = "Ada") -> None:
    """Sign in by the keyboard alone."""
    house.browser.open(f"{house.url}/sign-in")
    driver = house.browser.driver
    driver.find_element(By.ID, "who").send_keys(who, Keys.TAB)
    driver.switch_to.active_element.send_keys(page_token(MASTER), Keys.ENTER)
    house.browser.until("return document.getElementById('sign-out') !== null")


def test_the_page_is_read_out_well(house: House) -> None:
    """Headings in order, tables with named columns, states and progress as words, no duplicates."""
    tree = house.browser.tree()
    headings = [(node.level, node.name) for node in tree if node.role == "heading"]
    assert headings == [(1, "Overview"), *((2, name) for name in HEADINGS)]
    roles = {node.role for node in tree}
    assert {"banner", "main", "table", "progressbar", "status", "list"} <= roles
    regions = [node.name for node in tree if node.role == "region"]
    assert {"Fast storage", "Plans", "Megabatches", "Training runs"} <= set(regions)
    columns = [node.name for node in tree if node.role == "columnheader"]
    for name in ("Megabatch", "State", "Reserved", "How far", "Run", "Reports", "Why"):
        assert name in columns
    rows = [node.name for node in tree if node.role == "rowheader"]
    assert {PLAN, "run", "naip/left"} <= set(rows)
    pictures = [node.name for node in tree if node.role == "image"]
    assert "10 bytes in use, 10 bytes staging of 40 bytes" in pictures
    assert "1 in use, 1 staging, 2 planned" in pictures
    assert any("megabatch 1" in node.name for node in tree if node.role == "progressbar")
    nameless = [n for n in tree if n.role in ("link", "button", "image", "region") and not n.name]
    assert nameless == []
    ids = house.browser.ask("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_the_page_says_what_the_ledger_knows(house: House) -> None:
    """Who has not reported, why something was given up, what was left out, where flow runs are."""
    text = house.browser.ask("return document.querySelector('main').innerText")
    for said in (
        "20 bytes of 40 bytes reserved",
        "3 reports missing",
        "megabatch 0: 0 of 3 ranks; missing 0\N{EN DASH}2",
        "2 of 8 scenes",
        "given up: the disk is full; free space",
        "assets do not align <script>alert(1)</script>; choose other bands",
        "0 of 4",
    ):
        assert said in text
    link = house.browser.driver.find_element(By.PARTIAL_LINK_TEXT, "0d9b5d6e")
    target = "http://127.0.0.1:4200/runs/flow-run/0d9b5d6e-5d7a-4c3b-9f0e-0123456789ab"
    assert link.get_attribute("href") == target
    assert house.browser.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1180, 360])
def test_text_can_be_read(house: House, scheme: str, width: int) -> None:
    """In both schemes every text stands out enough, and no window is too narrow."""
    house.browser.scheme(scheme)
    house.browser.width(width)
    for path in ("/", "/sign-in"):
        house.browser.open(house.url + path)
        contrasts = house.browser.contrasts()
        assert len(contrasts) > 5
        assert [pair for pair in contrasts if pair[0] < ENOUGH] == []
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert house.browser.ask(wide) <= 0
    dark = house.browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(19, 24, 23)") == (scheme == "dark")


def test_the_keyboard_reaches_everything_in_order(house: House) -> None:
    """First the way past the header, then what one can do, then the tables, which scroll."""
    stops = house.browser.tabbed(7)
    assert stops == [
        "Skip to the content",
        "chipmill, to the overview",
        "Sign in",
        "plans-title",
        "megabatches-title",
        "runs-title",
        "requests-title",
    ]
    visible = house.browser.ask("return getComputedStyle(document.activeElement).outlineStyle")
    assert visible == "solid"


def test_the_page_is_live_and_keeps_the_focus(house: House) -> None:
    """What changes in the ledger is there by itself; a reader's place is not lost."""
    sign_in(house)
    house.browser.until("return document.getElementById('live').dataset.state === 'live'")
    house.browser.ask(f"document.getElementById('ask-{IDS[2]}').focus(); window.same = true;")
    fence = house.ledger.claim_staging(IDS[3], budget=40, worker="w")
    house.ledger.ready(IDS[3], fence, size=7)
    house.browser.until(
        "return document.getElementById('megabatches').innerText.includes('7 bytes')"
    )
    assert house.browser.ask("return window.same") is True
    assert house.browser.ask("return document.activeElement.id") == f"ask-{IDS[2]}"
    house.ledger.release_run("run", actor="somebody")
    house.browser.until("return document.getElementById('runs').innerText.includes('released')")


def test_a_run_is_released_from_the_page(house: House) -> None:
    """By keyboard: sign in, ask, think, confirm; the ledger has it with the name."""
    assert "Release" not in house.browser.ask("return document.body.innerText")
    sign_in(house, "Ada L.")
    driver = house.browser.driver
    driver.find_element(By.ID, f"release-run-{PLAN}").send_keys(Keys.ENTER)
    house.browser.until("return document.getElementById('confirm') !== null")
    heading = [node.name for node in house.browser.tree() if node.role == "heading"]
    assert heading == [f"Release run run on plan {PLAN}?"]
    driver.find_element(By.ID, "back").send_keys(Keys.ENTER)
    house.browser.until("return document.getElementById('storage') !== null")
    assert house.ledger.megabatch(IDS[0]).state is State.IN_USE
    driver.find_element(By.ID, f"release-run-{PLAN}").send_keys(Keys.ENTER)
    house.browser.until("return document.getElementById('confirm') !== null")
    driver.find_element(By.ID, "confirm").send_keys(Keys.ENTER)
    house.browser.until("return document.getElementById('by-hand') !== null")
    assert house.ledger.megabatch(IDS[0]).state is State.COMPLETE
    assert house.ledger.history(IDS[0])[-1].actor == "release of run run by Ada L. (page)"
    shown = house.browser.ask("return document.getElementById('by-hand').innerText")
    assert "Ada L. (page) release, run run" in shown
    assert house.browser.complaints() == []
