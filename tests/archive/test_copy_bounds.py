"""Copies take little memory whatever the size of a file, and two at once do no harm."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chipmill.formats import layout
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import Copied, copy_assets

Draw = Callable[..., Path]
Layer = tuple[NDArray[np.generic], float, float | None]
S2 = "sentinel-2-l2a"
SIZE = 600 * 2**20
LIMIT = 300 * 2**20
COPIER = """
import re, sys
from pathlib import Path
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
scene = SceneRef(collection="sentinel-2-l2a", item="drawn")
copy_assets(scene, Store.open(sys.argv[1]), bands=("red",))
# What getrusage tells begins with the peak of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.fixture
def item(tmp_path: Path, draw: Draw, archive: Store) -> Path:
    """Draw a scene of two bands and keep its document."""
    pixels = np.random.default_rng(3).integers(1, 9000, (200, 200)).astype(np.uint16)
    layers: dict[str, Layer] = {"red": (pixels, 10.0, 0.0), "nir08": (pixels + 1, 10.0, 0.0)}
    layers["scl"] = (np.full((100, 100), 4, np.uint8), 20.0, None)
    path = draw(tmp_path / "provider", layers)
    found = json.loads(path.read_text())
    for key, asset in found["assets"].items():
        asset["href"] = (path.parent / f"drawn-{key}.tif").as_uri()
    archive.put(layout.source_item_key(S2, "drawn"), json.dumps(found).encode())
    return path


def test_memory_is_bounded(item: Path, archive: Store) -> None:
    """A file of 600 MB passes through a process that never has half of it."""
    with (item.parent / "drawn-red.tif").open("r+b") as file:
        file.truncate(SIZE)  # the end is a hole of the file system
    command = [sys.executable, "-c", COPIER, archive.url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < LIMIT
    assert archive.size(layout.asset_key(S2, "drawn", "red")) == SIZE


def test_two_ingests_of_a_scene_lose_nothing(item: Path, archive: Store) -> None:
    """Both write the same bytes, and a record of one is never undone by the other."""
    scene = SceneRef(collection=S2, item="drawn")
    bands = [("red",), ("nir08",), ("red", "nir08"), ("nir08", "red")]
    begun = threading.Barrier(len(bands))
    done: list[Copied] = []

    def copy(wanted: tuple[str, ...]) -> None:
        begun.wait()
        done.append(copy_assets(scene, archive, bands=wanted, access=Access(files=True)))

    threads = [threading.Thread(target=copy, args=(wanted,)) for wanted in bands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(bands)
    records = read_records(scene, archive)
    assert records.keys() == {"red", "nir08", "scl"}
    for key, record in records.items():
        assert archive.get(record.key) == (item.parent / f"drawn-{key}.tif").read_bytes()
