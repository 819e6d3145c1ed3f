"""Work pools on AWS ECS: the job template on a real server, its task taken by an ECS API (moto)."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer
from prefect_aws.workers.ecs_worker import ECSWorker

from chipmill.formats.server_file import PoolEntry
from chipmill.service.prefect_server import PrefectServer

pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

Json = dict[str, Any]
REGION = "eu-west-1"
POOL = PoolEntry(name="chipmill-ecs")


class Server(Protocol):
    """The server of conftest.py."""

    api: str

    def ask(self, method: str, path: str, **body: object) -> Any: ...  # noqa: ANN401, D102
    def deployments(self) -> dict[str, Json]: ...  # noqa: D102


@pytest.fixture(scope="module")
def template(root: Path) -> Json:
    """Read the job template."""
    return json.loads((root / "deployments" / "pools" / "ecs.json").read_text())


@pytest.fixture(scope="module")
def aws(free_port: Callable[[], int]) -> Iterator[dict[str, str]]:
    """Serve AWS's APIs and give the variables that every client of them reads."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    yield {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    server.stop()


def _client(kind: str, aws: dict[str, str]) -> Any:  # noqa: ANN401  # boto3 ships no types
    session = cast("Any", boto3).session.Session(
        aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"], region_name=REGION
    )
    return session.client(kind, endpoint_url=aws["AWS_ENDPOINT_URL"])


@pytest.fixture(scope="module")
def cluster(aws: dict[str, str]) -> Any:  # noqa: ANN401
    """Give an ECS client whose default cluster has one host."""
    ecs, ec2 = _client("ecs", aws), _client("ec2", aws)
    ecs.create_cluster(clusterName="default")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="r5.2xlarge")
    host = made["Instances"][0]
    # What a host says of itself (docs.aws.amazon.com, "Instance identity documents").
    document = {"instanceId": host["InstanceId"], "region": REGION, "imageId": image}
    ecs.register_container_instance(
        cluster="default", instanceIdentityDocument=json.dumps(document)
    )
    return ecs


def test_the_template_is_prefects_with_fast_storage(template: Json) -> None:
    """An upgrade of prefect-aws that adds a variable shows here, not at the first run."""
    ours, theirs = template, ECSWorker.get_default_base_job_template()
    wanted = set(theirs["variables"]["properties"])
    assert set(ours["variables"]["properties"]) == wanted | {"fast"}
    assert ours["job_configuration"].keys() == theirs["job_configuration"].keys()
    defaults = {name: each.get("default") for name, each in ours["variables"]["properties"].items()}
    assert (defaults["launch_type"], defaults["cpu"], defaults["memory"]) == ("EC2", 4096, 16384)
    for name, value in theirs["job_configuration"].items():
        if name not in ("env", "task_definition"):
            assert ours["job_configuration"][name] == value


def test_a_run_becomes_a_task_with_fast_storage_mounted(
    server: Server,
    template: Json,
    aws: dict[str, str],
    cluster: Any,  # noqa: ANN401
    binaries: Path,
    tmp_path: Path,
) -> None:
    """A real worker takes a run of the pool, registers the task definition, and ECS starts it."""
    with httpx.Client(base_url=server.api) as client:
        prefect = PrefectServer(client)
        assert prefect.set_pool(POOL, "ecs", template) == "made"
        assert prefect.set_pool(POOL, "ecs", template) == "as it was"
    # A host of moto's has 4 CPUs and 7.5 GB.
    size = {"cpu": 2048, "memory": 4096}
    deployment = _deploy_on(server, POOL.name, "stage", fast="/mnt/lustre", **size)
    order: Json = {"parameters": {"plan": "p"}, "state": {"type": "SCHEDULED"}}
    run = server.ask("POST", f"/deployments/{deployment}/create_flow_run", **order)["id"]
    _work_once(binaries, tmp_path, server.api, POOL.name, aws)
    server.ask("DELETE", f"/deployments/{deployment}")

    (arn,) = cluster.list_tasks(cluster="default")["taskArns"]
    (task,) = cluster.describe_tasks(cluster="default", tasks=[arn])["tasks"]
    assert task["launchType"] == "EC2"
    described = cluster.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
    definition = described["taskDefinition"]
    assert definition["family"] == "chipmill"
    assert (definition["cpu"], definition["memory"]) == ("2048", "4096")
    assert definition["volumes"] == [{"name": "fast", "host": {"sourcePath": "/mnt/lustre"}}]
    (container,) = definition["containerDefinitions"]
    assert container["image"] == "chipmill:0.1.0"
    assert container["mountPoints"] == [{"sourceVolume": "fast", "containerPath": "/mnt/lustre"}]
    (override,) = task["overrides"]["containerOverrides"]
    environment = {each["name"]: each["value"] for each in override["environment"]}
    assert environment["CHIPMILL_FAST"] == "/mnt/lustre"
    assert environment["PREFECT_LOGGING_EXTRA_LOGGERS"] == "chipmill"
    assert environment["PREFECT__FLOW_RUN_ID"] == run
    assert "prefect" in " ".join(override["command"])


def _deploy_on(server: Server, pool: str, name: str, **variables: object) -> str:
    """Deploy a flow on another pool; gives the id of the deployment."""
    deployed = server.deployments()[name]
    made = server.ask(
        "POST",
        "/deployments/",
        name=f"{name} on {pool}",
        flow_id=deployed["flow_id"],
        entrypoint=deployed["entrypoint"],
        work_pool_name=pool,
        job_variables=deployed["job_variables"] | variables,
    )
    return str(made["id"])


def _work_once(
    binaries: Path, home: Path, api: str, pool: str, environment: dict[str, str]
) -> None:
    """Let a worker look once for runs of a pool."""
    done = subprocess.run(
        [str(binaries / "prefect"), "worker", "start", "--pool", pool, "--run-once"],
        env={"PATH": str(binaries), "HOME": str(home), "PREFECT_HOME": str(home)}
        | {"PREFECT_API_URL": api, "DO_NOT_TRACK": "1"}
        | environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
