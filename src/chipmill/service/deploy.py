"""Put everything of chipmill on a Prefect server by one call; a second changes nothing."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import httpx
import yaml

from chipmill.errors import RequestError
from chipmill.formats.server_file import Json, ServerFile, parse_server_file
from chipmill.service.prefect_server import PrefectServer
from chipmill.settings import Settings, child_environment

_TIMEOUT: Final = 30.0  # seconds for one answer of Prefect's API
_PATIENCE: Final = 600.0  # seconds for `prefect deploy`, which imports every flow
_LAST_LINES: Final = 15

Tell = Callable[[str], None]


def deploy(settings: Settings, *, kind: str | None = None, tell: Tell) -> None:
    """Make work pool, limits, deployments and automations what the files in deployments/ say.

    Args:
        settings: Where Prefect is, and which of its blocks hold credentials.
        kind: Type of the work pool; None: that of the pool that is there, else `process`.
        tell: Called with a line for each thing.

    Raises:
        RequestError: The server is not there, refuses, or lacks a block; or the flows are not
            installed here.
    """
    root = flows_root()
    folder = root / "deployments"
    wanted = parse_server_file(_read(folder / "server.yaml"), where=str(folder / "server.yaml"))
    with httpx.Client(
        base_url=settings.prefect_api, headers=settings.prefect_headers, timeout=_TIMEOUT
    ) as client:
        server = PrefectServer(client)
        server.check()
        notify = _notify_block(settings, server)
        tell(f"work pool {wanted.work_pool.name}: {_pool(server, settings, wanted, kind, folder)}")
        for tag, limit in wanted.concurrency_limits.items():
            tell(f"task runs tagged {tag}, {limit} at once: {server.set_limit(tag, limit)}")
        _deployments(server, settings, root, tell)
        for name, done in server.set_automations(wanted.automations, notify=notify).items():
            tell(f"automation “{name}”: {done}")


def flows_root() -> Path:
    """Find the checkout that the flows are installed from.

    Raises:
        RequestError: They are not installed here.
    """
    found = importlib.util.find_spec("flows")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    for place in places:
        if (Path(place).parent / "deployments" / "prefect.yaml").exists():
            return Path(place).parent
    raise RequestError(
        "the flows are not installed here; install chipmill from its checkout with "
        "`pip install --editable .`, as the image does"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as err:
        raise RequestError(f"{path} cannot be read ({err.strerror})") from err


def _pool(
    server: PrefectServer, settings: Settings, wanted: ServerFile, kind: str | None, folder: Path
) -> str:
    there = server.pool(wanted.work_pool.name)
    kind = kind or (there.kind if there is not None else "process")
    path = folder / "pools" / f"{kind}.json"
    if path.exists():
        template = cast("Json", json.loads(_read(path)))
    elif there is not None:
        template = there.template
    else:
        raise RequestError(
            f"chipmill has no job template for work pools of the type {kind!r}; make the pool with "
            f"`prefect work-pool create --type {kind} {wanted.work_pool.name}`, and deploy again"
        )
    environment = _block_environment(settings, server)
    return server.set_pool(wanted.work_pool, kind, _with_environment(template, environment))


def _with_environment(template: Json, environment: dict[str, str]) -> Json:
    """Give every run of a pool these variables; those that name blocks the worker fills in."""
    changed = cast("Json", json.loads(json.dumps(template)))
    env = changed["variables"]["properties"].setdefault("env", {"type": "object"})
    kept = {
        name: value
        for name, value in cast("dict[str, str]", env.get("default") or {}).items()
        if "prefect.blocks." not in value  # of a deploy before
    }
    env["default"] = kept | environment
    return changed


def _block_environment(settings: Settings, server: PrefectServer) -> dict[str, str]:
    """Name the fields of the blocks that hold credentials and the archive's place."""
    environment: dict[str, str] = {}
    if settings.aws_block:
        found = server.find_block("aws-credentials", settings.aws_block)["data"]
        environment |= _variables("aws-credentials", settings.aws_block, found, _AWS)
    if settings.archive_block:
        name = settings.archive_block
        found = cast("Json", server.find_block("s3-bucket", name)["data"])
        bucket = f"{{{{ prefect.blocks.s3-bucket.{name}.bucket_name }}}}"
        folder = f"{{{{ prefect.blocks.s3-bucket.{name}.bucket_folder }}}}"
        path = f"{bucket}/{folder}" if found.get("bucket_folder") else bucket
        environment["CHIPMILL_ARCHIVE"] = f"s3://{path}"
    return environment


_AWS: Final = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
    "AWS_SESSION_TOKEN": "aws_session_token",
    "AWS_REGION": "region_name",
    "AWS_ENDPOINT_URL": "aws_client_parameters.endpoint_url",
}
"""Fields of the block AwsCredentials by the variable that every S3 client reads."""


def _variables(kind: str, name: str, data: Json, fields: dict[str, str]) -> dict[str, str]:
    """Refer to those fields of a block that are filled in."""
    return {
        variable: f"{{{{ prefect.blocks.{kind}.{name}.{field} }}}}"
        for variable, field in fields.items()
        if _at(data, field)
    }


def _at(data: Json, field: str) -> object:
    found: Any = data
    for part in field.split("."):
        found = cast("Json", found).get(part) if isinstance(found, dict) else None
    return found


def _notify_block(settings: Settings, server: PrefectServer) -> str | None:
    if not settings.notify_block:
        return None
    kind, slash, name = settings.notify_block.partition("/")
    if not slash:
        raise RequestError(
            f"CHIPMILL_NOTIFY_BLOCK is {settings.notify_block!r}; write type/name, such as "
            "slack-webhook/operations"
        )
    return str(server.find_block(kind, name)["id"])


def _deployments(server: PrefectServer, settings: Settings, root: Path, tell: Tell) -> None:
    """Let Prefect read its own file, and look whether the server has what it names."""
    path = root / "deployments" / "prefect.yaml"
    entries = cast("list[dict[str, str]]", yaml.safe_load(_read(path))["deployments"])
    names = [f"{entry['entrypoint'].rpartition('.')[2]}/{entry['name']}" for entry in entries]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    try:
        done = subprocess.run(  # noqa: S603  this Python and our own file
            [*command, "--prefect-file", str(path)],
            cwd=root,
            env=child_environment(**settings.prefect_environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as err:
        raise RequestError(
            f"`prefect deploy` did not end within {_PATIENCE:.0f} s; deploy again when the server "
            "is less busy"
        ) from err
    missing = sorted(set(names) - server.deployments(names))
    if done.returncode != 0 or missing:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        lacks = f", and the server lacks {', '.join(missing)}" if missing else ""
        raise RequestError(
            f"`prefect deploy` ended with {done.returncode}{lacks}; it said:\n{said}"
        )
    tell(f"deployments: {', '.join(name.partition('/')[2] for name in names)}")
