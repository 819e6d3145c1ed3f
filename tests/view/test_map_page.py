"""The map of the index, drawn by a real browser that reaches no network."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.support.ui import WebDriverWait

from chipmill.errors import RequestError
from chipmill.formats.columns import back_to_back
from chipmill.formats.map_page import quads
from chipmill.io.store import Store
from chipmill.model.chip_filter import ChipFilter
from chipmill.model.footprint import lonlat_corners, polygons
from chipmill.model.grid import ChipGrid, Grid
from chipmill.steps.look import look_at
from chipmill.steps.map import chips_map, index_map, parts_map
from chipmill.steps.merge import load_snapshot

pytestmark = pytest.mark.xdist_group("ingested")

# Software WebGL: continuous integration has no graphics card.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=900,700",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120
"""Seconds for a page to draw on a busy machine."""


@dataclass(frozen=True)
class Browser:
    """One headless browser; every page is opened from a file."""

    driver: webdriver.Chrome

    def open(self, page: Path) -> None:
        """Open a page and wait until its script says that it is done, well or not."""
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri())
        WebDriverWait(self.driver, PATIENCE).until(
            lambda driver: driver.execute_script("return document.body.dataset.state")
        )

    def ask(self, script: str) -> Any:  # noqa: ANN401  # whatever the script gives
        """Run a script in the page."""
        return self.driver.execute_script(script)

    def complaints(self) -> list[str]:
        """List what the console has as errors since the page was opened."""
        lines = cast("list[dict[str, str]]", self.driver.get_log("browser"))
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """List what the page has asked for since it was opened, as the network layer saw it."""
        lines = cast("list[dict[str, str]]", self.driver.get_log("performance"))
        events = [json.loads(line["message"])["message"] for line in lines]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return [str(event["params"]["request"]["url"]) for event in sent]


def _program(names: tuple[str, ...]) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no {names[0]} is installed here: pages are not drawn in a real browser")
    return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start Chromium with an empty profile; all of it is one worker's."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program(NAMES)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(_program(("chromedriver",)))
    try:
        driver = webdriver.Chrome(options=options, service=service)
    except WebDriverException as err:
        pytest.skip(f"the browser of this machine does not start: {err.msg}")
    driver.set_page_load_timeout(PATIENCE)
    yield Browser(driver)
    driver.quit()


def colours(browser: Browser) -> NDArray[np.uint8]:
    """Take a picture of the map without the panel, once its layers are drawn: shape (y, x, 3)."""
    browser.driver.execute_async_script(
        "const done = arguments[0]; chipmill.deck.redraw('test');"
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 300)));"
    )
    picture = Image.open(BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
    return np.asarray(picture)[:, 320:]


def share(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    """Give the share of pixels near a colour."""
    return float((np.abs(picture.astype(int) - colour).max(axis=2) < 25).mean())


def outlines(chips: ChipGrid) -> NDArray[np.object_]:
    """Give the polygons of chips."""
    found = polygons(lonlat_corners(chips))
    column = back_to_back(found.data, found.ends, pa.binary())
    return shapely.from_wkb(column.to_numpy(zero_copy_only=False))


def drawn_table(shapes: NDArray[np.object_], cloud: NDArray[Any], *, name: str) -> pa.Table:
    """Make rows of a chip index."""
    count = len(shapes)
    columns: dict[str, Any] = {
        "scene": pa.array([f"naip/{name}"] * count).dictionary_encode(),
        "collection": pa.array(["naip"] * count).dictionary_encode(),
        "row": np.arange(count, dtype=np.uint16),
        "col": np.zeros(count, np.uint16),
        "cloud_fraction": cloud.astype(np.float32),
        "nodata_fraction": np.zeros(count, np.float32),
        "geometry": pa.array(shapely.to_wkb(shapes).tolist(), pa.binary()),
    }
    return pa.table(columns)


def test_the_page_shows_the_index_and_asks_for_nothing(
    ingested: Store, tmp_path: Path, browser: Browser
) -> None:
    """Real scenes: the layers are there with every chip, no error, and not one request leaves."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    page = tmp_path / "map.html"
    page.write_text(index_map(ingested, snapshot), encoding="utf-8")
    browser.open(page)
    assert browser.ask("return document.body.dataset.state") == "ready"
    told = browser.ask("return document.getElementById('told').textContent")
    assert told == f"{snapshot.chips:,} chips in {snapshot.scenes:,} scenes"
    layers = "return chipmill.deck.props.layers.map((layer) => [layer.id, layer.isLoaded])"
    assert browser.ask(layers) == [["land", True], ["chips", True], ["scenes", True]]
    assert browser.ask("return chipmill.deck.props.layers[1].props.data.length") == snapshot.chips
    legend = browser.ask("return document.getElementById('legend').textContent")
    assert all(word in legend for word in ("usable: ", "cloud: ", "nodata: "))
    assert browser.ask("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    # The browser's own pages ask for its icons by the scheme chrome.
    own = ("data:", "blob:", "chrome:")
    assert [url for url in browser.requests() if not url.startswith(own)] == [page.as_uri()]
    assert browser.complaints() == []


def test_a_million_chips_are_drawn(tmp_path: Path, browser: Browser, *, full: bool) -> None:
    """Each chip is there and can be pointed at, in its colour; a tenth of them without `--full`."""
    edge = 1_000 if full else 320
    row, col = np.divmod(np.arange(edge**2), edge)
    west, south = -5 + 30 / edge * col, 35 + 20 / edge * row
    shapes = shapely.box(west, south, west + 28 / edge, south + 18 / edge)
    cloudy = (col >= edge // 2).astype(np.float64)
    table = drawn_table(shapes, cloudy, name="many")
    page = tmp_path / "map.html"
    page.write_text(chips_map(table, title="many", max_cloud=0.3, max_nodata=0), encoding="utf-8")
    browser.open(page)
    assert browser.ask("return document.body.dataset.state") == "ready"
    assert browser.ask("return chipmill.about.chips") == edge**2
    assert browser.ask("return chipmill.deck.props.layers[1].props.data.length") == edge**2
    picture = colours(browser)
    assert min(share(picture, colour) for colour in ((84, 177, 121), (160, 170, 180))) > 0.03
    said = (
        f"return chipmill.deck.props.getTooltip({{layer: {{id: 'chips'}}, index: {edge**2 - 1}}})"
    )
    assert browser.ask(said)["text"].startswith("naip/many/")
    assert browser.complaints() == []


def test_colours_switch(tmp_path: Path, browser: Browser) -> None:
    """What a person chooses is what is drawn: green and grey, then a ramp of blue, then one hue."""
    grid = Grid(
        height=640, width=640, transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 5e6), crs="EPSG:32633"
    )
    shapes = outlines(ChipGrid(grid=grid, size=64))
    cloud = np.repeat([0.0, 1.0], 50)
    page = tmp_path / "map.html"
    page.write_text(
        chips_map(
            drawn_table(shapes, cloud, name="</script><b>"),
            title="<i>two halves</i>",
            max_cloud=0.3,
            max_nodata=0.0,
        ),
        encoding="utf-8",
    )
    browser.open(page)
    assert browser.ask("return document.querySelector('h1').textContent") == "<i>two halves</i>"
    on_paper = {"green": (84, 177, 121), "grey": (160, 170, 180), "blue": (54, 87, 136)}
    first = colours(browser)
    assert share(first, on_paper["green"]) > 0.1 < share(first, on_paper["grey"])
    pick = "const s = document.getElementById('colour'); s.value = '{}';"
    pick += "s.dispatchEvent(new Event('change')); return document.body.dataset.colour"
    assert browser.ask(pick.replace("{}", "cloud")) == "cloud"
    second = colours(browser)
    assert share(second, on_paper["green"]) < 0.01
    assert share(second, on_paper["blue"]) > 0.1
    assert browser.ask(pick.replace("{}", "collection")) == "collection"
    assert browser.ask("return document.getElementById('legend').textContent") == "naip"
    said = browser.ask("return chipmill.deck.props.getTooltip({layer: {id: 'chips'}, index: 99})")
    assert said["text"].startswith("naip/</script><b>/99-0\ncloud: cloud 100.0 %")
    assert browser.complaints() == []


def test_a_chip_on_the_antimeridian_is_on_both_sides(tmp_path: Path, browser: Browser) -> None:
    """Its two halves are one chip: one row of the table, two polygons of the map."""
    transform = (90.0, 0.0, 160_000.0, 0.0, -90.0, 8e6)
    grid = Grid(height=128, width=512, transform=transform, crs="EPSG:32701")
    chips = ChipGrid(grid=grid, size=64)
    shapes = outlines(chips)
    table = drawn_table(shapes, np.zeros(len(shapes)), name="fiji")
    split = sum(shape.geom_type == "MultiPolygon" for shape in shapes)
    assert split > 0
    page = tmp_path / "map.html"
    page.write_text(chips_map(table, title="fiji", max_cloud=0.3, max_nodata=0), encoding="utf-8")
    browser.open(page)
    drawn = browser.ask("return chipmill.deck.props.layers[1].props.data.length")
    assert drawn >= len(shapes) + split
    assert browser.ask("return chipmill.about.chips") == len(shapes)
    owner = (
        "return chipmill.deck.props.getTooltip({layer: {id: 'chips'}, index: arguments[0]}).text"
    )
    last = browser.driver.execute_script(owner, drawn - 1)
    assert "naip/fiji/" in str(last)
    assert browser.complaints() == []


@settings(max_examples=50)
@given(
    sides=st.lists(st.integers(3, 9), min_size=1, max_size=6),
    turn=st.floats(0, 3),
)
def test_quads_cover_every_polygon(sides: list[int], turn: float) -> None:
    """Whatever its number of corners, a chip's area is drawn, under the chip's own number."""
    shapes = np.array(
        [
            shapely.Polygon(
                [(n + np.cos(turn + a), np.sin(turn + a)) for a in np.arange(k) * 2 * np.pi / k]
            )
            for n, k in enumerate(sides)
        ]
    )
    found = quads(shapes)
    assert found.owner[: len(sides)].tolist() == list(range(len(sides)))
    for number, shape in enumerate(shapes):
        mine = [shapely.Polygon(c).buffer(0) for c in found.corners[found.owner == number]]
        assert shapely.union_all(mine).area == pytest.approx(shape.area, rel=1e-9)


def test_parts_are_drawn_without_an_archive(ingested: Store) -> None:
    """Who indexes one scene wants to see it, before there is any snapshot."""
    keys = [key for key in ingested.keys("index/parts/64/naip/") if key.endswith(".parquet")]
    paths = [path for key in keys if (path := ingested.local_path(key))]
    assert f"in {len(paths)} scenes" in parts_map(paths)
    everywhere = ChipFilter("S_INTERSECTS(geometry, BBOX(-180, -90, 180, 90))")
    assert f"in {len(paths)} scenes" in parts_map(paths, chosen=everywhere)
    with pytest.raises(RequestError, match="ask for other chips"):
        parts_map(paths, chosen=ChipFilter("collection = 'modis'"))
    empty = drawn_table(np.empty(0, object), np.empty(0), name="none")
    with pytest.raises(RequestError, match="no chip to draw"):
        chips_map(empty, title="none", max_cloud=0.3, max_nodata=0.0)


def test_what_is_seen_lies_beside_the_snapshot(ingested: Store) -> None:
    """A link in Prefect must lead somewhere after the run, and a rerun draws nothing again."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    seen = look_at(ingested, snapshot.snapshot)
    assert seen.map is not None
    first = ingested.get(ingested.key_of(seen.map))
    assert b"chipmill snapshot" in first
    small = Image.open(BytesIO(seen.thumbnail))
    assert small.format == "JPEG"
    assert len(seen.thumbnail) < 200_000
    ingested.put(ingested.key_of(seen.map), b"kept")
    assert look_at(ingested, snapshot.snapshot) == seen
    assert ingested.get(ingested.key_of(seen.map)) == b"kept"
