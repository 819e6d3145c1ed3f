"""How far a long run is, as people see it in Prefect: a bar that moves while shards come in."""

import time
from contextvars import copy_context
from functools import partial
from typing import TypeVar, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFutureList, as_completed

from chipmill.model.manner import Tell
from chipmill.model.staging_progress import StagingProgress

T = TypeVar("T")

EVERY = 5.0
"""Seconds between two updates: each is a request to the server."""


def follow(shards: PrefectFutureList[T], *, what: str) -> list[T]:
    """Wait for the shards of a run, and show how many are through.

    Args:
        shards: The futures of the last step.
        what: Key of the artifact, such as `ingest-progress`.

    Returns:
        What the shards gave, in the order of the futures.
    """
    futures = list(shards)
    # Prefect types it for both worlds; outside of an event loop it is the artifact's id.
    bar = cast("UUID", create_progress_artifact(0.0, key=what, description=_said(0, len(futures))))
    told = time.monotonic()
    for done, _ in enumerate(as_completed(futures), start=1):
        if done == len(futures) or time.monotonic() - told >= EVERY:
            update_progress_artifact(
                bar, 100 * done / len(futures), description=_said(done, len(futures))
            )
            told = time.monotonic()
    return shards.result()


def staging_bar() -> Tell:
    """Give a bar of its own to each megabatch that is staged, as `staging-progress`."""
    bars = dict[str, UUID]()
    told = dict[str, float]()
    # Scenes are cut in threads that do not know which run they belong to.
    run = copy_context()

    def show(now: StagingProgress) -> None:
        percent, said = 100 * now.share, str(now)
        if now.megabatch not in bars:
            made = create_progress_artifact(percent, key="staging-progress", description=said)
            bars[now.megabatch] = cast("UUID", made)
        elif now.share == 1 or time.monotonic() - told[now.megabatch] >= EVERY:
            update_progress_artifact(bars[now.megabatch], percent, description=said)
        else:
            return
        told[now.megabatch] = time.monotonic()

    return partial(run.run, show)


def _said(done: int, count: int) -> str:
    return f"{done} of {count} shards are through."
