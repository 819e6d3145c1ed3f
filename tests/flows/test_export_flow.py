"""The flow `export` on a real Prefect server."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index
from chipmill.steps.seal import load_export

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

SCRIPT = """
import sys
from chipmill.model.export_request import ExportRequest
from flows.export import export
request = ExportRequest.model_validate_json(sys.stdin.read())
print(export(request))
print(export(request))
"""


def test_the_flow_exports_a_filter_and_finds_it_again(
    prefect_api: str, binaries: Path, tmp_path: Path, draw: Draw, ingest: Ingest
) -> None:
    """Two runs: the first writes packs, the second finds them; people see progress and a table."""
    archive = Store.open((tmp_path / "archive").as_uri())
    for number in range(4):
        pixels = np.full((32, 32), 100 * (number + 1), np.uint16)
        layers = {"red": (pixels, 10.0, 0.0), "scl": (np.full((32, 32), 4, "u1"), 10.0, None)}
        path = draw(tmp_path / "source", layers, item=f"scene-{number}")
        asked = IngestRequest(
            sensor="sentinel-2-l2a", catalog=str(path), bands=("red",), chip_size=16
        )
        ingest(asked, archive)
    merge_index(archive, chip_size=16)
    chips = {"minibatch": 2, "chip_size": 16, "few_scenes": True, "leftover": "spread"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps({"chips": chips, "name": "all", "forms": ["webdataset"], "tar": 6}),
        env={
            "PATH": str(binaries),
            "HOME": str(tmp_path),
            "CHIPMILL_ARCHIVE": archive.url,
            "PREFECT_API_URL": prefect_api,
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "DO_NOT_TRACK": "1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{archive.url}/exports/all"] * 2
    whole = load_export(archive, "all")
    assert whole.plan.usable == 16
    assert sum(part.packs for part in whole.megabatches) == 4
    assert not list(archive.keys(layout.export_records_prefix("all")))
    tars = [key for key in archive.keys("exports/all/webdataset-6/") if key.endswith(".tar")]
    assert len(tars) == 3
    told = ["export-summary", "export-progress", "export-renderings", "rendering-progress"]
    asked = {"artifacts": {"key": {"any_": told}}}
    found = httpx.post(f"{prefect_api}/artifacts/filter", json=asked, timeout=30).json()
    assert {artifact["key"] for artifact in found} == set(told)
