"""`chipmill deploy` on a real Prefect server: all of it, once, however often it is called."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessJobConfiguration

from chipmill.errors import RequestError
from chipmill.formats.server_file import AutomationEntry, parse_server_file
from chipmill.service.prefect_server import PrefectServer

pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

Json = dict[str, Any]
Deploy = Callable[..., "subprocess.CompletedProcess[str]"]


class Server(Protocol):
    """The server of conftest.py."""

    api: str

    def ask(self, method: str, path: str, **body: object) -> Any: ...  # noqa: ANN401, D102
    def deployments(self) -> dict[str, Json]: ...  # noqa: D102
    def automations(self) -> dict[str, Json]: ...  # noqa: D102


def _entries(root: Path) -> dict[str, Json]:
    read = yaml.safe_load((root / "deployments" / "prefect.yaml").read_text())
    return {str(entry["name"]): entry for entry in read["deployments"]}


def test_everything_of_the_files_is_on_the_server(server: Server, root: Path) -> None:
    """Deployments with schedules, tags and limits; triggers and automations; pool and tag limit."""
    wanted = _entries(root)
    found = server.deployments()
    assert found.keys() == wanted.keys()
    for name, entry in wanted.items():
        deployed = found[name]
        assert deployed["entrypoint"] == entry["entrypoint"]
        assert deployed["description"] == entry["description"]
        assert set(deployed["tags"]) == set(entry["tags"])
        assert deployed["work_pool_name"] == "chipmill"
        limit = entry.get("concurrency_limit", {})
        assert deployed["global_concurrency_limit"] is None or (
            deployed["global_concurrency_limit"]["limit"] == limit["limit"]
        )
        assert (deployed["concurrency_options"] or {}).get("collision_strategy") == limit.get(
            "collision_strategy"
        )
        assert [
            (each["slug"], each["active"], each["parameters"]) for each in deployed["schedules"]
        ] == [
            (each["slug"], each["active"], each.get("parameters", {}))
            for each in entry.get("schedules", [])
        ]
    triggers = {each["name"] for entry in wanted.values() for each in entry.get("triggers", [])}
    text = (root / "deployments" / "server.yaml").read_text()
    more = parse_server_file(text, where="server.yaml")
    assert server.automations().keys() == triggers | {each.name for each in more.automations}
    assert server.ask("GET", "/work_pools/chipmill")["type"] == "process"
    assert server.ask("GET", "/concurrency_limits/tag/archive-write")["concurrency_limit"] == 32


def test_the_server_keeps_typed_forms(server: Server) -> None:
    """What the UI draws is the schema on the server: each field has a type, a title and words."""
    for name, deployed in server.deployments().items():
        schema = deployed["parameter_openapi_schema"]
        assert deployed["enforce_parameter_schema"]
        assert schema["properties"], name
        models: dict[str, Json] = schema.get("definitions", {})
        for model in (schema, *models.values()):
            for field, form in model.get("properties", {}).items():
                assert form.keys() & {"type", "$ref", "anyOf", "enum", "const"}, (name, field)
                named = models.get(str(form.get("$ref", "")).rpartition("/")[2], {})
                assert form.get("title") or named["title"], (name, field)
                assert form.get("description") or named["description"], (name, field)


def test_deploying_twice_changes_nothing(server: Server, deploy: Deploy) -> None:
    """Ids stay, so links, histories and what people have switched off stay too."""
    before, automations = server.deployments(), server.automations()
    late = automations["chipmill: no run is taken"]
    server.ask("PATCH", f"/automations/{late['id']}", enabled=False)
    done = deploy()
    assert done.returncode == 0, done.stderr
    assert "made" not in done.stdout
    assert "changed" not in done.stdout
    assert done.stdout.count("as it was") == len(done.stdout.splitlines()) - 1
    for name, deployed in server.deployments().items():
        for kept in ("id", "parameter_openapi_schema", "tags", "job_variables", "description"):
            assert deployed[kept] == before[name][kept], (name, kept)
        assert [each["id"] for each in deployed["schedules"]] == [
            each["id"] for each in before[name]["schedules"]
        ]
    after = server.automations()
    assert after.keys() == automations.keys()
    assert not after["chipmill: no run is taken"]["enabled"]
    server.ask("PATCH", f"/automations/{late['id']}", enabled=True)
    for name, each in after.items():
        # Prefect makes the triggers of a deployment anew each time.
        if "chipmill deploy" in each["tags"]:
            assert each["id"] == automations[name]["id"]


def test_an_automation_that_the_file_changes_or_drops_follows(server: Server) -> None:
    """A rename must not leave the old one at work; one of somebody else is never touched."""
    trigger: Json = {"type": "event", "expect": ["chipmill.test"], "posture": "Reactive"}
    trigger |= {"threshold": 1, "within": 0}
    actions = ({"type": "do-nothing"},)
    entry = AutomationEntry(name="of a test", trigger=trigger, actions=actions)
    theirs = {"name": "theirs", "trigger": trigger, "actions": list(actions)}
    other = server.ask("POST", "/automations/", **theirs)
    with httpx.Client(base_url=server.api) as client:
        prefect = PrefectServer(client)
        kept = [
            AutomationEntry(
                name=each["name"],
                description=each["description"],
                trigger=each["trigger"],
                actions=tuple(each["actions"]),
            )
            for each in server.automations().values()
            if "chipmill deploy" in each["tags"]
        ]
        assert prefect.set_automations([*kept, entry], notify=None)["of a test"] == "made"
        changed = entry.model_copy(update={"trigger": trigger | {"within": 60}})
        assert prefect.set_automations([*kept, changed], notify=None)["of a test"] == "changed"
        assert server.automations()["of a test"]["trigger"]["within"] == 60
        assert prefect.set_automations(kept, notify=None)["of a test"] == "removed"
    left = server.automations()
    assert "of a test" not in left
    assert left["theirs"]["id"] == other["id"]
    server.ask("DELETE", f"/automations/{other['id']}")


def test_runs_get_credentials_from_blocks(server: Server, deploy: Deploy) -> None:
    """The worker fills them in when a run starts; the pool itself only has the blocks' names."""
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "never shown"}
    _make_block(server, "aws-credentials", "prod", region_name="eu-west-1", **keys)
    _make_block(server, "s3-bucket", "team", bucket_name="pixels", bucket_folder="archive")
    done = deploy(CHIPMILL_AWS_BLOCK="prod", CHIPMILL_ARCHIVE_BLOCK="team")
    assert done.returncode == 0, done.stderr
    pool = server.ask("GET", "/work_pools/chipmill")
    assert "never shown" not in json.dumps(pool)
    assert asyncio.run(_environment_of_a_run(server, pool)) == {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "never shown",
        "AWS_REGION": "eu-west-1",
        "CHIPMILL_ARCHIVE": "s3://pixels/archive",
        "OF_THE_DEPLOYMENT": "1",
    }
    done = deploy()
    assert done.returncode == 0, done.stderr
    assert asyncio.run(
        _environment_of_a_run(server, server.ask("GET", "/work_pools/chipmill"))
    ) == {"OF_THE_DEPLOYMENT": "1"}


def test_a_block_that_is_not_there_is_one_sentence(server: Server, deploy: Deploy) -> None:
    """A misspelt name must not show as runs without credentials at night."""
    done = deploy(CHIPMILL_AWS_BLOCK="prdo")
    assert done.returncode == 1
    assert "no block aws-credentials/prdo" in done.stderr
    done = deploy(CHIPMILL_NOTIFY_BLOCK="slack")
    assert done.returncode == 1
    assert "write type/name" in done.stderr


def test_a_pool_of_another_type_is_left_alone(server: Server, deploy: Deploy) -> None:
    """Its runs may be at work: a person decides."""
    done = deploy("--type", "ecs")
    assert done.returncode == 1
    assert "is of the type 'process', not 'ecs'" in done.stderr


def test_without_a_server_there_is_one_sentence(
    deploy: Deploy, free_port: Callable[[], int]
) -> None:
    """It says where it looked and what to do."""
    address = f"http://127.0.0.1:{free_port()}/api"
    done = deploy(PREFECT_API_URL=address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"chipmill: Prefect's API {address}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["work_pool: [", "work_pool: {}", "nothing: 1"])
def test_a_file_that_cannot_be_used_says_where(text: str) -> None:
    """The message names the file and the place in it."""
    with pytest.raises(RequestError, match=r"server\.yaml"):
        parse_server_file(text, where="server.yaml")


def _make_block(server: Server, kind: str, name: str, **data: object) -> None:
    block_type = server.ask("GET", f"/block_types/slug/{kind}")["id"]
    asked: Json = {"block_schemas": {"block_type_id": {"any_": [block_type]}}}
    (schema, *_) = server.ask("POST", "/block_schemas/filter", **asked)
    server.ask(
        "POST",
        "/block_documents/",
        name=name,
        data=data,
        block_schema_id=schema["id"],
        block_type_id=block_type,
    )


async def _environment_of_a_run(server: Server, pool: Json) -> dict[str, str | None]:
    with temporary_settings({PREFECT_API_URL: server.api}):
        async with get_client() as client:
            job = await ProcessJobConfiguration.from_template_and_values(
                pool["base_job_template"], {"env": {"OF_THE_DEPLOYMENT": "1"}}, client=client
            )
    return dict(job.env)
