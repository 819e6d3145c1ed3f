"""Start flow runs by Prefect's HTTP API; the library does not import Prefect."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from chipmill.errors import TransientError
from chipmill.formats.signature import said

_LONGEST_ERROR: Final = 300  # characters


class _Created(BaseModel):
    """What is read of Prefect's answers, deployments and flow runs alike."""

    id: UUID


async def start_flow(
    client: httpx.AsyncClient, flow: str, parameters: Mapping[str, JsonValue], *, key: str
) -> str:
    """Create a flow run of the deployment `<flow>/<flow>`.

    Args:
        client: Of Prefect's API, with `/api`.
        flow: Name of the flow.
        parameters: Of the flow.
        key: Idempotency key: the run that it has created before is the answer to the next try.

    Returns:
        Id of the flow run.

    Raises:
        TransientError: Prefect does not answer, has no such deployment, or refuses.
    """
    name = f"{flow}/{flow}"
    try:
        found = await client.get(f"/deployments/name/{name}")
        if found.status_code == HTTPStatus.NOT_FOUND:
            raise TransientError(
                f"Prefect has no deployment {name}; deploy with "
                "`prefect deploy --all --prefect-file deployments/prefect.yaml`"
            )
        deployment = _id_of(found)
        order = {"parameters": dict(parameters), "idempotency_key": key}
        return _id_of(await client.post(f"/deployments/{deployment}/create_flow_run", json=order))
    except httpx.HTTPError as err:
        raise _silent(client, err) from err


async def emit(client: httpx.AsyncClient, event: str, resource: str, *, key: str) -> None:
    """Tell Prefect's event stream what has happened, for people's automations; it may get lost.

    Args:
        client: Of Prefect's API, with `/api`.
        event: Name of the event, as `chipmill.megabatch.complete`.
        resource: What it happened to, as `chipmill.megabatch.<id>`.
        key: The same for the same happening: the event's id follows from it.

    Raises:
        TransientError: Prefect does not answer or refuses.
    """
    happening = {
        "id": str(uuid5(NAMESPACE_URL, f"chipmill:{key}")),
        "event": event,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": resource},
        "payload": {"key": key},
    }
    try:
        answer = await client.post("/events", json=[happening])
    except httpx.HTTPError as err:
        raise _silent(client, err) from err
    if not answer.is_success:
        raise _refused(answer)


def _silent(client: httpx.AsyncClient, err: httpx.HTTPError) -> TransientError:
    where = said(str(client.base_url))
    return TransientError(
        f"Prefect's API {where} does not answer ({type(err).__name__}); is its server up?"
    )


def _refused(answer: httpx.Response) -> TransientError:
    return TransientError(
        f"Prefect answers {answer.status_code} at {answer.url.path}: {answer.text[:_LONGEST_ERROR]}"
    )


def _id_of(answer: httpx.Response) -> str:
    if not answer.is_success:
        raise _refused(answer)
    try:
        return str(_Created.model_validate_json(answer.content).id)
    except ValidationError as err:
        raise TransientError(
            f"what answers at {said(str(answer.url))} is not Prefect's API; check PREFECT_API_URL"
        ) from err
