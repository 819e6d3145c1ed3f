# pyright: reportUnknownVariableType=false
# rasterio ships no types.
"""`chipmill ingest`: a request in, and what it took or would take out."""

import json
import subprocess
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import rasterio

from chipmill.formats.scene_list import decode_scene_list
from chipmill.io.store import Store
from chipmill.model.access import OWN
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.estimate import estimate
from chipmill.steps.search import search_scenes

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def naip(item_collection: Path, tmp_path: Path) -> Path:
    """Write a request for the NAIP scenes of the demo."""
    path = tmp_path / "request.yaml"
    path.write_text(f"sensor: naip\ncatalog: {item_collection}\nchip_size: 64\n")
    return path


@pytest.fixture
def run(binaries: Path, tmp_path: Path, archive: Store) -> Run:
    """Give a function that runs the command with this test's archive."""

    def call(
        *arguments: str, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(binaries / "chipmill"), "ingest", *arguments],
            cwd=tmp_path,
            env={**_path(), "CHIPMILL_ARCHIVE": archive.url, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


def _path() -> dict[str, str]:
    """Let the command import the code that is under test."""
    return {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": "/usr/bin:/bin"}


def test_a_dry_run_copies_nothing_and_says_how_much(run: Run, naip: Path, archive: Store) -> None:
    """Scenes, bytes, chips, cost, space and time; only the list is in the archive after it."""
    done = run("--request", str(naip), "--dry-run", environment={"CHIPMILL_THROUGHPUT": "1MB"})
    assert done.returncode == 0, done.stderr
    said = dict(line.split(maxsplit=1) for line in done.stdout.replace("t s", "t_s").splitlines())
    assert said["scenes"] == "4"
    assert "4 of them estimated from a sample" in said["assets"]
    assert "as CHIPMILL_THROUGHPUT says" in said["time"]
    assert "measured" in run("--request", str(naip), "--dry-run").stdout
    assert {key.split("/")[0] for key in archive.keys("")} == {"searches", "provenance"}
    assert not list(archive.keys("provenance/assets/"))


def test_without_prefect_it_runs_here(run: Run, naip: Path, archive: Store) -> None:
    """The same steps in this process; what is done already is not done again."""
    first = run("--request", str(naip))
    assert first.returncode == 0, first.stderr
    assert "4 of 4 scenes are indexed: 4 assets copied" in first.stdout
    again = run("--request", str(naip))
    assert "0 assets copied (0.0 MB), 4 there already" in again.stdout
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    (key,) = [key for key in archive.keys("searches/") if key.endswith(".json")]
    assert decode_scene_list(archive.get(key), where=key).scenes == 4


def test_a_wrong_request_is_one_sentence(run: Run, tmp_path: Path) -> None:
    """Before anything runs, on standard error, with exit code 1."""
    path = tmp_path / "wrong.yaml"
    path.write_text("sensor: naip\ncatalog: x.json\nmax_clouds: 3\n")
    done = run("--request", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"chipmill: {path}: there is no field max_clouds; did you mean max_cloud?\n"
    )
    missing = run("--request", str(tmp_path / "no.yaml"))
    assert "no.yaml cannot be read" in missing.stderr


def test_a_scene_that_fails_is_named(run: Run, naip: Path, tmp_path: Path) -> None:
    """The others go through, and the reason is on the screen as in the findings."""
    document = json.loads(Path(naip.read_text().split("catalog: ")[1].split("\n")[0]).read_text())
    scenes = [item for item in document["features"] if item["collection"] == "naip"]
    scenes[0]["assets"]["image"]["href"] = (tmp_path / "gone.tif").as_uri()
    (tmp_path / "items.json").write_text(json.dumps(scenes))
    naip.write_text(f"sensor: naip\ncatalog: {tmp_path / 'items.json'}\nchip_size: 64\n")
    done = run("--request", str(naip))
    assert done.returncode == 0, done.stderr
    assert f"naip/{scenes[0]['id']} is quarantined" in done.stdout
    assert "3 of 4 scenes are indexed" in done.stdout


@pytest.mark.flows
@pytest.mark.xdist_group("prefect")
def test_where_prefect_is_it_starts_the_flow(run: Run, naip: Path, prefect_api: str) -> None:
    """The run has the request as its parameter; without the deployment the sentence says so."""
    environment = {"PREFECT_API_URL": prefect_api}
    with httpx.Client(base_url=prefect_api, timeout=30) as client:
        flow = client.post("/flows/", json={"name": "ingest"}).json()["id"]
        if client.get("/deployments/name/ingest/ingest").status_code == HTTPStatus.NOT_FOUND:
            refused = run("--request", str(naip), environment=environment)
            assert refused.returncode == 1
            assert "Prefect has no deployment ingest/ingest; deploy with" in refused.stderr
            client.post("/deployments/", json={"name": "ingest", "flow_id": flow})
        done = run("--request", str(naip), environment=environment)
        assert done.returncode == 0, done.stderr
        name = done.stdout.split()[2]
        started = client.get(f"/flow_runs/{name}").json()
        client.delete(f"/flow_runs/{name}")
    asked = IngestRequest.model_validate(started["parameters"]["request"])
    assert (asked.sensor, asked.chip_size) == ("naip", 64)


def test_an_estimate_holds(
    item_collection: Path, archive: Store, ingest: Callable[..., list[SceneRef]]
) -> None:
    """Against what the run then did: bytes and assets exactly, chips and space as upper bounds."""
    request = IngestRequest(sensor="naip", catalog=str(item_collection), chip_size=64)
    scenes = search_scenes(request, archive)
    found = estimate(request, scenes, archive, access=OWN, throughput=1e6)
    ingest(request, archive)
    files = [key for key in archive.keys("assets/") if key.endswith(".tif")]
    assert found.need.assets == found.need.reads == len(files)
    assert found.need.bytes == sum(archive.size(key) or 0 for key in files)
    shapes: list[Any] = []
    for key in files:
        with rasterio.open(archive.local_path(key)) as raster:
            shapes.append((raster.height // 64) * (raster.width // 64))
    assert found.need.chips >= sum(shapes)
    assert found.need.objects >= len(list(archive.keys("")))
    assert found.seconds == found.need.bytes / 1e6
