"""The form of a flow as people see it: Prefect's own UI in a browser that reaches no network."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

Json = dict[str, Any]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,2400",
)
PATIENCE = 300
"""Seconds for a page to draw on a busy machine."""


class Server(Protocol):
    """The server of conftest.py."""

    api: str

    def ask(self, method: str, path: str, **body: object) -> Any: ...  # noqa: ANN401, D102
    def deployments(self) -> dict[str, Json]: ...  # noqa: D102


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Start Chromium with an empty profile."""
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("no chromium is installed here: the form is not drawn in a real browser")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    except WebDriverException as err:
        pytest.skip(f"the browser of this machine does not start: {err.msg}")
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


def test_the_form_of_an_ingest_says_what_each_field_means(
    server: Server, driver: webdriver.Chrome, tmp_path: Path
) -> None:
    """Who opens Custom run finds titles, words and defaults, and not a field for JSON."""
    deployment = server.deployments()["ingest"]["id"]
    address = server.api.removesuffix("/api")
    driver.get(f"{address}/deployments/deployment/{deployment}/run")
    shown = ("Sensor", "Catalogue", "Area as GeoJSON", "Most cloud (%)", "Chip size (px)")

    def text(_driver: object = None) -> str:
        return str(driver.execute_script("return document.body.innerText"))

    WebDriverWait(driver, PATIENCE).until(lambda _: all(word in text() for word in shown))
    said = text()
    assert "Name of the sensor, such as sentinel-2-l2a or naip." in said
    assert "URL or path of a STAC API" in said
    values = driver.execute_script(
        "return [...document.querySelectorAll('input, textarea, select')].map(each => each.value)"
    )
    assert "256" in values
    assert "1000" in values
    picture = driver.get_screenshot_as_png()
    (tmp_path / "form.png").write_bytes(picture)
    pixels = np.asarray(Image.open(BytesIO(picture)).convert("L"))
    assert pixels.shape[0] > 1000
    assert pixels.std() > 5
