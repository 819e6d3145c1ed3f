"""deployments/server.yaml: what a Prefect server has besides the deployments."""

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from chipmill.errors import RequestError

Json = dict[str, Any]


class PoolEntry(BaseModel):
    """The work pool that the deployments name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str = ""


class AutomationEntry(BaseModel):
    """One automation, in Prefect's form; an action of the type `notify` is a message to people."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str = ""
    trigger: Json
    actions: tuple[Json, ...]

    def body(self, *, notify: str | None) -> Json:
        """Give what Prefect's API takes.

        Args:
            notify: Id of the block that messages go through; None: they only show as events.
        """
        actions = [_action(action, notify) for action in self.actions]
        named = {"name": self.name, "description": self.description}
        return named | {"trigger": self.trigger, "actions": actions}


class ServerFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    work_pool: PoolEntry
    concurrency_limits: dict[str, PositiveInt] = {}
    automations: tuple[AutomationEntry, ...] = ()


def parse_server_file(text: str, *, where: str) -> ServerFile:
    """Read the file.

    Raises:
        RequestError: It is not YAML of this form; the message names the place.
    """
    try:
        return ServerFile.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as err:
        raise RequestError(f"{where} is not YAML ({err}); mend it") from err
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{where} is not usable at {place!r}: {first['msg']}") from err


def _action(action: Json, notify: str | None) -> Json:
    if action.get("type") != "notify":
        return action
    if notify is None:
        return {"type": "do-nothing"}
    return action | {"type": "send-notification", "block_document_id": notify}
