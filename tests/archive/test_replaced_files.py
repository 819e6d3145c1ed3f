"""Files that a provider replaced under the same address, where no document promises anything."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import Copied, copy_assets
from tests.archive.ranged_server import RangedServer, serving

Draw = Callable[..., Path]
S2 = "sentinel-2-l2a"
SCENE = SceneRef(collection=S2, item="drawn")
FILE = "drawn-red.tif"
BANDS = ("red", "nir08")


class Place:
    """A provider of one scene, by HTTP or as files, and the archive's copy of its document."""

    def __init__(self, path: Path, archive: Store, server: RangedServer | None) -> None:
        """Begin with the scene as it was drawn."""
        self.path, self.archive, self.server = path, archive, server
        self.folder = path.parent

    def say(self, promised: str = "", **properties: object) -> None:
        """Put the document into the archive as a refresh does; `promised`: of the red band."""
        item: dict[str, Any] = json.loads(self.path.read_text())
        for key, asset in item["assets"].items():
            file = self.folder / f"drawn-{key}.tif"
            asset["href"] = f"{self.server.url}/{file.name}" if self.server else file.as_uri()
        data = (self.folder / FILE).read_bytes()
        known = {"size": len(data), "checksum": f"1220{hashlib.sha256(data).hexdigest()}"}
        if promised:
            item["assets"]["red"][f"file:{promised}"] = known[promised]
        item["properties"] |= properties
        self.archive.put(layout.source_item_key(S2, "drawn"), json.dumps(item).encode())

    def replace(self) -> bytes:
        """Write other pixels of the same size."""
        data = bytearray((self.folder / FILE).read_bytes())
        data[-1] ^= 1
        (self.folder / FILE).write_bytes(data)
        return bytes(data)

    def copy(self) -> Copied:
        """Copy what is to be copied."""
        access = Access(private=("127.0.0.1",), files=True, patience=5)
        return copy_assets(SCENE, self.archive, bands=BANDS, access=access)

    def kept(self) -> bytes:
        """Give what the archive holds."""
        return self.archive.get(layout.asset_key(S2, "drawn", "red"))

    def asked(self) -> int:
        """Count the requests since the last call."""
        assert self.server is not None
        count = self.server.asked.total()
        self.server.asked.clear()
        return count


@pytest.fixture(params=["http", "file"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, draw: Draw, archive: Store
) -> Iterator[Place]:
    """Give a provider whose scene is copied."""
    pixels = np.random.default_rng(4).integers(1, 9000, (40, 40)).astype(np.uint16)
    layers = {"red": (pixels, 10.0, 0.0), "nir08": (pixels + 1, 10.0, 0.0)}
    scl = {"scl": (np.full((20, 20), 4, np.uint8), 20.0, None)}
    path = draw(tmp_path / "provider", {**layers, **scl})
    with serving(path.parent) as server:
        made = Place(path, archive, server if request.param == "http" else None)
        made.say()
        assert made.copy().copied == 3
        server.asked.clear()
        yield made


def test_a_replaced_file_is_copied_when_the_document_changed(place: Place) -> None:
    """Else new metadata would stand beside old pixels, for ever."""
    newer = place.replace()
    place.say(updated="2030-01-01T00:00:00Z")
    done = place.copy()
    assert (done.copied, done.skipped) == (1, 2)
    assert place.kept() == newer
    again = place.copy()
    assert (again.copied, again.skipped) == (0, 3)


@pytest.mark.parametrize("place", ["http"], indirect=True)
def test_requests_are_few(place: Place) -> None:
    """None for a document that did not change or promises something; else one a file, once."""
    assert (place.copy().copied, place.asked()) == (0, 0)
    before = {key: record.copied for key, record in read_records(SCENE, place.archive).items()}
    place.say(updated="2030-01-01T00:00:00Z")
    assert (place.copy().copied, place.asked()) == (0, 3)
    assert (place.copy().copied, place.asked()) == (0, 0)
    records = read_records(SCENE, place.archive)
    assert before == {key: record.copied for key, record in records.items()}
    for promised in ("size", "checksum"):
        place.say(promised=promised, updated="2031-01-01T00:00:00Z")
        place.copy()
        assert place.server is not None
        assert place.server.asked[FILE] == 0
        place.asked()


@pytest.mark.parametrize("place", ["http"], indirect=True)
def test_a_file_that_is_gone_is_no_proof(place: Place) -> None:
    """The document speaks of a file that nobody can read: the scene says so."""
    (place.folder / FILE).unlink()
    assert place.copy().copied == 0
    data = place.kept()
    (place.folder / FILE).write_bytes(data)
    place.say(updated="2030-01-01T00:00:00Z")
    (place.folder / FILE).unlink()
    with pytest.raises(SceneError, match="missing at its source"):
        place.copy()
    assert place.kept() == data
