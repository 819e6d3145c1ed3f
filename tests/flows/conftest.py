"""One Prefect server with everything of chipmill on it, as `chipmill deploy` puts it there."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from chipmill.service.deploy import flows_root
from tests.prefect_rest import ask

Json = dict[str, Any]
Deploy = Callable[..., "subprocess.CompletedProcess[str]"]


class Server:
    """The REST API of one server, as the UI speaks it."""

    def __init__(self, api: str) -> None:
        """Talk to `http://host:port/api`."""
        self.api = api

    def ask(self, method: str, path: str, **body: object) -> Any:  # noqa: ANN401  # JSON
        """Give the JSON of an answer that has to be a good one."""
        return ask(self.api, method, path, **body)

    def deployments(self) -> dict[str, Json]:
        """Read all deployments by name."""
        return {str(each["name"]): each for each in self.ask("POST", "/deployments/filter")}

    def automations(self) -> dict[str, Json]:
        """Read all automations by name."""
        found = self.ask("POST", "/automations/filter", limit=200)
        return {str(each["name"]): each for each in cast("list[Json]", found)}


@pytest.fixture(scope="session")
def deploy(prefect_api: str, binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Give a function that runs `chipmill deploy` with these variables and gives what it said."""
    home = tmp_path_factory.mktemp("deploy")

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(binaries / "chipmill"), "deploy", *arguments],
            env={
                "PATH": str(binaries),
                "HOME": str(home),
                "PREFECT_HOME": str(home),
                "PREFECT_API_URL": prefect_api,
                "DO_NOT_TRACK": "1",
                **more,
            },
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def server(prefect_api: str, deploy: Deploy) -> Server:
    """Give a server that chipmill is deployed on; mark with `xdist_group("prefect")`."""
    done = deploy()
    assert done.returncode == 0, done.stderr
    return Server(prefect_api)


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the checkout that the flows are installed from."""
    return flows_root()
