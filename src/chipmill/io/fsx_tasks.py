"""Data repository tasks: what Amazon FSx for Lustre fetches of a bucket, and frees, by itself.

They need no access to the file system, only to AWS: credentials, region and endpoint come from the
usual `AWS_…` variables. Facts: Amazon FSx API reference, CreateDataRepositoryTask.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from chipmill.errors import StoreError, TransientError

POLL = 5.0
"""Seconds between two looks at a task."""
AT_ONCE = 100
"""Paths of one task, at most."""
_AT_ANY_AGE = {"DurationSinceLastAccess": {"Unit": "DAYS", "Value": 0}}
_ENDED = {"SUCCEEDED", "FAILED", "CANCELED"}


class FsxTasks:
    """The tasks of one file system."""

    def __init__(self, file_system: str, *, poll: float | None = None) -> None:
        """Name the file system, as `fs-0123456789abcdef0`."""
        self._file_system, self._poll = file_system, POLL if poll is None else poll
        self._fsx = cast("Any", boto3).client("fsx")

    def import_names(self, urls: Sequence[str], *, seconds: float) -> None:
        """Bring the names and sizes of objects below some URLs onto the file system, without bytes.

        Raises:
            StoreError: AWS refuses, or the task failed.
            TransientError: It did not end in so many seconds, or AWS does not answer.
        """
        self._run("IMPORT_METADATA_FROM_REPOSITORY", urls, {}, seconds=seconds)

    def release(self, paths: Sequence[Path], *, seconds: float) -> None:
        """Free the bytes of files on the file system that the bucket has, whoever owns them.

        Raises:
            StoreError: AWS refuses, or the task failed.
            TransientError: It did not end in so many seconds, or AWS does not answer.
        """
        named = [str(path.relative_to(_mount_of(path))) for path in paths]
        more = {"ReleaseConfiguration": _AT_ANY_AGE}
        self._run("RELEASE_DATA_FROM_FILESYSTEM", named, more, seconds=seconds)

    def _run(
        self, kind: str, paths: Sequence[str], more: Mapping[str, Any], *, seconds: float
    ) -> None:
        for first in range(0, len(paths), AT_ONCE):
            part = [*paths[first : first + AT_ONCE]]
            self._task(kind, {"Paths": part, **more}, seconds=seconds)

    def _task(self, kind: str, what: Mapping[str, Any], *, seconds: float) -> None:
        ends = time.monotonic() + seconds
        asked = {"Type": kind, "FileSystemId": self._file_system, **what}
        try:
            made = self._fsx.create_data_repository_task(Report={"Enabled": False}, **asked)
            task = made["DataRepositoryTask"]
            while task["Lifecycle"] not in _ENDED:
                if time.monotonic() >= ends:
                    raise TransientError(
                        f"the task {task['TaskId']} ({kind}) of {self._file_system} did not end "
                        f"within {seconds:.0f} s; look at it in the console of FSx"
                    )
                time.sleep(self._poll)
                named = [task["TaskId"]]
                found = self._fsx.describe_data_repository_tasks(TaskIds=named)
                (task,) = found["DataRepositoryTasks"]
        except ClientError as err:
            raise StoreError(f"FSx refuses {kind} on {self._file_system} ({err})") from err
        except BotoCoreError as err:
            raise TransientError(f"FSx does not answer about {self._file_system} ({err})") from err
        if task["Lifecycle"] != "SUCCEEDED":
            reason = task.get("FailureDetails", {}).get("Message", task["Lifecycle"])
            raise StoreError(
                f"the task {task['TaskId']} ({kind}) of {self._file_system} failed ({reason})"
            )


def _mount_of(path: Path) -> Path:
    """Find where the file system of a path is mounted: tasks count paths from there."""
    return next(parent for parent in path.parents if parent.is_mount())
