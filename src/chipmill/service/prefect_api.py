"""Start flow runs by Prefect's HTTP API; the library does not import Prefect."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from uuid import UUID

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from chipmill.errors import TransientError

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
        raise TransientError(
            f"Prefect's API {client.base_url} does not answer ({type(err).__name__}); "
            "is its server up?"
        ) from err


def _id_of(answer: httpx.Response) -> str:
    if not answer.is_success:
        raise TransientError(
            f"Prefect answers {answer.status_code} at {answer.url.path}: "
            f"{answer.text[:_LONGEST_ERROR]}"
        )
    try:
        return str(_Created.model_validate_json(answer.content).id)
    except ValidationError as err:
        raise TransientError(
            f"what answers at {answer.url} is not Prefect's API; check PREFECT_API_URL"
        ) from err
