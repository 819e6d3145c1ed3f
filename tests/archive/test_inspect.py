"""`chipmill inspect`: what is believed of a scene, with its reasons."""

import http.server
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from chipmill.cli import app
from chipmill.errors import RequestError
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.inspect import inspect_item

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
S2 = "sentinel-2-l2a"


@pytest.fixture
def item(tmp_path: Path, draw: Draw) -> Path:
    """Draw a scene of two grids under an item that states a wrong offset."""
    rng = np.random.default_rng(3)
    layers = {
        "red": (rng.integers(1, 3000, (600, 600)).astype(np.uint16), 10.0, 0.0),
        "nir08": (rng.integers(1, 3000, (300, 300)).astype(np.uint16), 20.0, 0.0),
        "scl": (np.full((300, 300), 4, np.uint8), 20.0, None),
    }
    said = {"s2:processing_baseline": "05.10"}
    path = draw(tmp_path / "source", layers, properties=said)
    document = json.loads(path.read_text())
    document["assets"]["red"]["raster:bands"] = [{"offset": -0.1, "nodata": 7}]
    path.write_text(json.dumps(document))
    return path


def test_a_provider_s_item_is_read_with_its_headers(item: Path, archive: Store) -> None:
    """Before anything is copied: what would come of this scene."""
    seen = inspect_item(str(item), archive)
    assert [(band.name, band.gsd, band.scale, band.offset) for band in seen.bands] == [
        ("red", 10.0, 0.0001, -0.1),
        ("nir08", 20.0, 0.0001, -0.1),
    ]
    assert [(file.asset, file.read, file.ratio) for file in seen.files] == [
        ("red", True, (1.0, 1.0)),
        ("nir08", True, (2.0, 2.0)),
        ("scl", True, (2.0, 2.0)),
    ]
    assert [(chips.size, chips.rows, chips.cols) for chips in seen.chips] == [
        (128, 4, 4),
        (256, 2, 2),
        (512, 1, 1),
    ]
    assert seen.quality is not None
    assert seen.quality.cloud
    assert seen.offset is not None
    assert (seen.offset["verdict"], seen.offset["decided_by"]) == ("not applied", "baseline")
    assert seen.findings == ("red: the item says nodata 7, the file has 0",)
    assert "blue" in seen.missing
    assert seen.problem is None


def test_a_scene_of_the_archive_has_the_evidence_of_its_pixels(
    item: Path, archive: Store, ingest: Ingest
) -> None:
    """The pixels are dark: what the baseline says of them is wrong, and the archive knows it."""
    request = IngestRequest(sensor=S2, catalog=str(item), bands=("red", "nir08"), chip_size=128)
    ingest(request, archive)
    seen = inspect_item(f"{S2}/drawn", archive)
    assert seen.offset is not None
    assert (seen.offset["verdict"], seen.offset["decided_by"]) == ("applied", "pixels")
    assert {band.offset for band in seen.bands} == {0.0}
    assert "the item states the offset -0.1, but it is applied" in seen.findings
    assert all(file.read for file in seen.files)


def test_files_that_cannot_be_reached_are_said(item: Path, archive: Store) -> None:
    """Then what is shown is the item's word only, and the reader must know it."""
    (item.parent / "drawn-red.tif").unlink()
    seen = inspect_item(str(item), archive)
    red, nir08, _ = seen.files
    assert (red.read, nir08.read) == (False, True)
    assert red.why_not is not None
    assert "nothing at" in red.why_not
    assert red.nodata == 7


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as providers do."""

    def do_GET(self) -> None:
        data = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
        first, _, last = asked.partition("-")
        part = data[int(first) : int(last or len(data) - 1) + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        end = int(first) + len(part) - 1
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


@contextmanager
def _served(folder: Path) -> Generator[str]:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Ranges, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_headers_are_read_over_http(item: Path, archive: Store) -> None:
    """Most providers serve files by HTTP; a header is some kilobytes of them."""
    with _served(item.parent) as url:
        seen = inspect_item(f"{url}/drawn.json", archive)
    assert [file.why_not for file in seen.files] == [None, None, None]
    assert seen.chips


def test_the_command_says_it_in_words_and_as_json(
    item: Path, archive: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person reads the one, a script the other; both say the same."""
    monkeypatch.setenv("CHIPMILL_ARCHIVE", archive.url)
    words = CliRunner().invoke(app, ["inspect", str(item)])
    assert words.exit_code == 0, words.output
    for said in (
        "drawn: sentinel-2-l2a, sentinel-2a, 2024-05-06T07:08:09Z",
        "0.6646 um, FWHM 0.031 um",
        "nir08        300 x 300 px, EPSG:32633, uint16, nodata 0, 2 times the finest pixel",
        "chips of 256 px: 2 x 2 = 4, 27.2% of the scene in none",
        "offset not applied (decided_by baseline, baseline 05.10",
        "finding: red: the item says nodata 7, the file has 0",
    ):
        assert said in words.output
    answer = CliRunner().invoke(app, ["inspect", str(item), "--json"])
    found = json.loads(answer.output)
    assert found["offset"]["verdict"] == "not applied"
    assert [band["name"] for band in found["bands"]] == ["red", "nir08"]


def test_what_is_no_single_scene_is_refused(tmp_path: Path, item: Path, archive: Store) -> None:
    """One sentence for a list of items and for a collection that nobody knows."""
    document = json.loads(item.read_text())
    several = tmp_path / "several.json"
    several.write_text(json.dumps([document, document | {"id": "other"}]))
    with pytest.raises(RequestError, match="several items"):
        inspect_item(str(several), archive)
    item.write_text(json.dumps(document | {"collection": "sentinel-7"}))
    with pytest.raises(RequestError, match=r"'sentinel-7', which no sensor is for; .*--sensor"):
        inspect_item(str(item), archive)
    assert inspect_item(str(item), archive, kind=S2).sensor == S2
