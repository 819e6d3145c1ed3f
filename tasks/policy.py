"""What is retried, and how often: the same for all tasks."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from chipmill.errors import TransientError

RETRIES = 3
DELAYS: list[float] = [5, 20, 60]
"""Seconds before each further try."""


def transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Try again only what may succeed in a while: a missing asset will still be missing."""
    return isinstance(state.result(raise_on_failure=False), TransientError)
