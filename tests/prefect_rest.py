"""The REST API of a Prefect server, as its UI speaks it."""

import time
from typing import Any

import httpx

_TRIES = 20


def ask(api: str, method: str, path: str, **body: object) -> Any:  # noqa: ANN401  # JSON
    """Give the JSON of an answer that has to be a good one; `api` is `http://host:port/api`."""
    tries = 0
    while True:
        answer = httpx.request(method, api + path, json=body or None, timeout=60)
        tries += 1
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE.value or tries == _TRIES:
            break
        time.sleep(0.5)  # SQLite is locked: Prefect's own client tries again too
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None
