"""Bring a Prefect server to a wanted state by its HTTP API; the library does not import it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import httpx

from chipmill.errors import RequestError
from chipmill.formats.server_file import AutomationEntry, Json, PoolEntry
from chipmill.formats.signature import said

_LONGEST_ERROR: Final = 300  # characters
_PAUSES: Final = (0.5, 1, 2, 4, 8)  # seconds before a busy server is asked again
_TAG: Final = "chipmill deploy"
"""Marks the automations that are ours, so that one that the file no longer has goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A work pool that is there."""

    kind: str
    template: Json


class PrefectServer:
    """One server; what is as wanted is left alone."""

    def __init__(self, client: httpx.Client) -> None:
        """Speak through a client of Prefect's API, with `/api`."""
        self._client = client
        self._address = said(str(client.base_url))

    def check(self) -> None:
        """Make sure that it is there.

        Raises:
            RequestError: It does not answer, or it is not Prefect.
        """
        if self._ask("GET", "/health") is not True:
            raise RequestError(
                f"what answers at {self._address} is not Prefect's API; check PREFECT_API_URL"
            )

    def pool(self, name: str) -> Pool | None:
        """Read a work pool; None where there is none."""
        found = self._find(f"/work_pools/{name}")
        if found is None:
            return None
        return Pool(kind=found["type"], template=found["base_job_template"])

    def set_pool(self, wanted: PoolEntry, kind: str, template: Json) -> str:
        """Make the work pool, or change its job template; gives what was done.

        Raises:
            RequestError: There is a pool of this name and another type.
        """
        found = self._find(f"/work_pools/{wanted.name}")
        body = {"base_job_template": template, "description": wanted.description}
        if found is None:
            self._ask("POST", "/work_pools/", body | {"name": wanted.name, "type": kind})
            return "made"
        if found["type"] != kind:
            raise RequestError(
                f"the work pool {wanted.name} is of the type {found['type']!r}, not {kind!r}; say "
                f"--type {found['type']}, or delete the pool"
            )
        if all(found[name] == value for name, value in body.items()):
            return "as it was"
        self._ask("PATCH", f"/work_pools/{wanted.name}", body)
        return "changed"

    def set_limit(self, tag: str, limit: int) -> str:
        """Limit the task runs of a tag; gives what was done."""
        found = self._find(f"/concurrency_limits/tag/{tag}")
        if found is not None and found["concurrency_limit"] == limit:
            return "as it was"
        self._ask("POST", "/concurrency_limits/", {"tag": tag, "concurrency_limit": limit})
        return "made" if found is None else "changed"

    def set_automations(
        self, wanted: Sequence[AutomationEntry], *, notify: str | None
    ) -> dict[str, str]:
        """Make, change and remove automations until they are those; gives what was done by name.

        One that somebody has switched off stays off.
        """
        ours = {"automations": {"tags": {"all_": [_TAG]}}, "limit": 200}
        found = {
            str(each["name"]): each
            for each in cast("list[Json]", self._ask("POST", "/automations/filter", ours))
        }
        done = {each.name: self._set_automation(each, found, notify) for each in wanted}
        for name, each in found.items():
            if name not in done:
                self._ask("DELETE", f"/automations/{each['id']}")
                done[name] = "removed"
        return done

    def find_block(self, kind: str, name: str) -> Json:
        """Read a block's document, without its secrets.

        Raises:
            RequestError: There is none.
        """
        path = f"/block_types/slug/{kind}/block_documents/name/{name}"
        found = self._find(path)
        if found is None:
            raise RequestError(
                f"Prefect has no block {kind}/{name}; make it in its UI under Blocks, or name "
                "another"
            )
        return found

    def deployments(self, names: Sequence[str]) -> set[str]:
        """Name those of these deployments, `<flow>/<name>`, that the server has."""
        return {name for name in names if self._find(f"/deployments/name/{name}") is not None}

    def _set_automation(
        self, wanted: AutomationEntry, found: Mapping[str, Json], notify: str | None
    ) -> str:
        body = wanted.body(notify=notify) | {"tags": [_TAG]}
        there = found.get(wanted.name)
        if there is None:
            self._ask("POST", "/automations/", body)
            return "made"
        if _agrees(body, there):
            return "as it was"
        self._ask("PUT", f"/automations/{there['id']}", body | {"enabled": there["enabled"]})
        return "changed"

    def _find(self, path: str) -> Json | None:
        return cast("Json | None", self._ask("GET", path, absent=True))

    def _ask(self, method: str, path: str, body: object = None, *, absent: bool = False) -> Any:  # noqa: ANN401  # JSON
        """Give the answer's JSON; None where nothing is there and that is no error."""
        try:
            answer = self._request(method, path, body)
        except httpx.HTTPError as err:
            raise RequestError(
                f"Prefect's API {self._address} does not answer ({type(err).__name__}); "
                "start its server (`prefect server start`), or set PREFECT_API_URL to where it is"
            ) from err
        if absent and answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        if not answer.is_success:
            raise RequestError(
                f"Prefect answers {answer.status_code} to {method} {path}: "
                f"{answer.text[:_LONGEST_ERROR]}"
            )
        return answer.json() if answer.content else None

    def _request(self, method: str, path: str, body: object) -> httpx.Response:
        """Ask, and again a few times where the server's database is busy, as SQLite often is."""
        for pause in _PAUSES:
            answer = self._client.request(method, path, json=body)
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                return answer
            time.sleep(pause)
        return self._client.request(method, path, json=body)


def _agrees(wanted: object, found: object) -> bool:
    """Tell whether what was found says all that is wanted; more, as ids and defaults, may be there.

    Lists of words are sets: Prefect gives them back in any order.
    """
    if isinstance(wanted, dict) and isinstance(found, dict):
        there = cast("Json", found)
        pairs = cast("Json", wanted).items()
        return all(key in there and _agrees(value, there[key]) for key, value in pairs)
    if isinstance(wanted, list | tuple) and isinstance(found, list):
        left, right = list(cast("list[Any]", wanted)), list(cast("list[Any]", found))
        if all(isinstance(each, str) for each in left + right):
            return sorted(left) == sorted(right)
        return len(left) == len(right) and all(map(_agrees, left, right))
    return wanted == found
