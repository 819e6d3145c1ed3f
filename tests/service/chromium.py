"""A headless Chromium that reaches loopback alone, and what is read out of a page."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--window-size=1180,900",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120
"""Seconds for a page on a busy machine."""

_CONTRAST = """
const channel = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const ground = element => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement;
  if (!text || !element.checkVisibility()) continue;
  const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
  found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), text]);
}
return found;
"""


@dataclass(frozen=True)
class Node:
    """A node of the accessibility tree."""

    role: str
    name: str
    level: int | None
    """Of a heading."""


@dataclass(frozen=True)
class Chromium:
    """One browser with an empty profile."""

    driver: webdriver.Chrome

    def open(self, url: str) -> None:
        """Open a page and forget what the console said before."""
        self.driver.get_log("browser")
        self.driver.get(url)

    def until(self, script: str) -> Any:  # noqa: ANN401  # whatever the script gives
        """Wait until a script gives something true; gives it."""
        return WebDriverWait(self.driver, PATIENCE).until(lambda d: d.execute_script(script))

    def ask(self, script: str) -> Any:  # noqa: ANN401  # whatever the script gives
        """Run a script in the page."""
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """List what the console has as errors, such as a breach of the content security policy."""
        lines = cast("list[dict[str, str]]", self.driver.get_log("browser"))
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def tree(self) -> list[Node]:
        """Read the accessibility tree, in order, without what is ignored."""
        self.driver.execute_cdp_cmd("Accessibility.enable", {})
        found = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})
        nodes: list[Node] = []
        for node in cast("list[dict[str, Any]]", found["nodes"]):
            if node["ignored"]:
                continue
            said = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
            name = str(node.get("name", {}).get("value", ""))
            nodes.append(Node(str(node["role"]["value"]), name, said.get("level")))
        return nodes

    def tabbed(self, count: int) -> list[str]:
        """Press the tabulator from the top of the page; gives what has the focus each time."""
        self.ask("document.activeElement.blur(); window.getSelection().removeAllRanges();")
        stops: list[str] = []
        for _ in range(count):
            webdriver.ActionChains(self.driver).send_keys(Keys.TAB).perform()
            stops.append(
                self.ask(
                    "const e = document.activeElement;"
                    "return e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
                    " || e.textContent.trim() || e.name || e.tagName"
                )
            )
        return stops

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def width(self, pixels: int) -> None:
        """Make the window this wide."""
        size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def contrasts(self) -> list[tuple[float, str]]:
        """Measure the contrast of each text with its ground, as WCAG 2 has it."""
        return [(ratio, text) for ratio, text in self.ask(_CONTRAST)]


@contextmanager
def chromium(profile: Path) -> Generator[Chromium]:
    """Start the browser, or skip the test where there is none."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program(_NAMES)
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        driver = webdriver.Chrome(options, webdriver.ChromeService(_program(("chromedriver",))))
    except WebDriverException as err:
        pytest.skip(f"the browser of this machine does not start: {err.msg}")
    driver.set_page_load_timeout(PATIENCE)
    yield Chromium(driver)
    driver.quit()


def _program(names: tuple[str, ...]) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no {names[0]} is installed here: pages are not shown in a real browser")
    return found
