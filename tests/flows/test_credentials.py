"""A Prefect server that asks who is there: its user and password stand in `.env`, as all else."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.conftest import prefect_server

PAIR = "admin:a password"
pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]


def test_all_that_calls_prefect_says_who_it_is(
    binaries: Path, tmp_path: Path, item_collection: Path
) -> None:
    """`deploy`, whose child process has another directory, and `ingest`, which starts a run.

    The run has another directory too: it is told of an absolute path.
    """
    request = tmp_path / "request.yaml"
    catalog = os.path.relpath(item_collection, tmp_path)
    request.write_text(f"sensor: naip\ncatalog: {catalog}\nchip_size: 64\n")
    home = tmp_path / "server"
    home.mkdir()
    with prefect_server(binaries, home, PREFECT_SERVER_API_AUTH_STRING=PAIR) as api:
        assert httpx.post(f"{api}/flows/filter", json={}).status_code == httpx.codes.UNAUTHORIZED
        said = f"PREFECT_API_URL={api}\nPREFECT_API_AUTH_STRING={PAIR}\n"
        (tmp_path / ".env").write_text(said)
        for words in (["deploy"], ["ingest", "--request", str(request)]):
            done = subprocess.run(
                [str(binaries / "chipmill"), *words],
                env={"PATH": str(binaries), "HOME": str(tmp_path), "DO_NOT_TRACK": "1"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
        user, _, password = PAIR.partition(":")
        runs = httpx.post(f"{api}/flow_runs/filter", json={}, auth=(user, password)).json()
    asked = [run["parameters"].get("request", {}).get("catalog") for run in runs]
    assert str(item_collection.resolve()) in asked
