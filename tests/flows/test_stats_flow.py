"""The flow `stats` on a real Prefect server."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from chipmill.formats import layout
from chipmill.formats.statistics import decode_statistics
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

SCRIPT = """
import sys
from chipmill.model.stats_request import StatsRequest
from flows.stats import stats
print(stats(StatsRequest.model_validate_json(sys.stdin.read())))
"""


def test_the_flow_measures_and_writes_back(
    prefect_api: str, binaries: Path, tmp_path: Path, draw: Draw, ingest: Ingest
) -> None:
    """One run: a document beside the snapshot, figures in the items, a table for people."""
    archive = Store.open((tmp_path / "archive").as_uri())
    for number in range(3):
        pixels = np.full((32, 32), 100 * (number + 1), np.uint16)
        layers = {"red": (pixels, 10.0, 0.0), "scl": (np.full((32, 32), 4, "u1"), 10.0, None)}
        path = draw(tmp_path / "source", layers, item=f"scene-{number}")
        asked = IngestRequest(
            sensor="sentinel-2-l2a", catalog=str(path), bands=("red",), chip_size=16
        )
        ingest(asked, archive)
    snapshot = merge_index(archive, chip_size=16)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps({"chip_size": 16, "write_back": True}),
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
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    key = layout.statistics_key(snapshot.snapshot, done.stdout.split()[-1])
    (band,) = decode_statistics(archive.get(key), where=key).bands
    assert (band.scenes, band.chips, band.count) == (3, 12, 3 * 32 * 32)
    assert band.mean == pytest.approx(0.02)
    for number in range(3):
        item = json.loads(archive.get(layout.item_key("sentinel-2-l2a", f"scene-{number}")))
        assert item["properties"]["normalization_average"]["red"] == pytest.approx(200)
    found = _artifacts(prefect_api, "statistics")
    assert [row["band"] for row in found] == ["red"]


def _artifacts(api: str, key: str) -> list[dict[str, Any]]:
    asked = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
    answer = httpx.post(f"{api}/artifacts/filter", json=asked, timeout=30)
    return cast("list[dict[str, Any]]", json.loads(answer.json()[0]["data"]))
