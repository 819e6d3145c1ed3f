"""The spool: messages that must arrive, one durable file each, until they have."""

import contextlib
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from chipmill.errors import TransientError
from chipmill.formats.webhook import MegabatchCompleted, MegabatchCompletedData

_log = logging.getLogger(__name__)


def read_report(body: bytes) -> MegabatchCompletedData | None:
    """Read what a message reports; None where it is of another version."""
    try:
        return MegabatchCompleted.model_validate_json(body).data
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder of one attempt of one rank of a run; nobody else writes there."""

    folder: Path
    attempt: int

    def put(self, message_id: str, body: bytes) -> None:
        """Keep a message: once this returns, it survives the process and a loss of power.

        Raises:
            TransientError: The folder cannot be written, or is full.
        """
        path = self._path(message_id)
        with self._translated():
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".tmp")
            with draft.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            self._sync()

    def remove(self, message_id: str) -> None:
        """Forget a message that has arrived; one that comes back is only sent again."""
        with contextlib.suppress(OSError):
            self._path(message_id).unlink()

    def waiting(self) -> list[tuple[str, bytes]]:
        """Read this attempt's messages as (id, body).

        Raises:
            TransientError: The folder cannot be read.
        """
        with self._translated():
            found = [
                (path.stat().st_mtime, message_id, path.read_bytes())
                for attempt, message_id, path in self._files()
                if attempt == self.attempt
            ]
        return [(message_id, body) for _, message_id, body in sorted(found)]

    def adopt(self, plan: str) -> list[tuple[str, bytes]]:
        """Take over what earlier attempts left of other plans, and drop what they left of this one.

        An attempt that begins on a plan reports by its checkpoint's state what an earlier one could
        not; the receiver would refuse the earlier one's words. Of other plans nobody says more.

        Raises:
            TransientError: The folder cannot be read or written.
        """
        taken: list[tuple[str, bytes]] = []
        with self._translated():
            for attempt, message_id, path in self._files():
                if attempt >= self.attempt:
                    continue
                body = path.read_bytes()
                if (report := read_report(body)) is None:
                    continue
                if report.megabatch.rpartition("-")[0] == plan:
                    _log.info("dropping %s: attempt %d has begun", path, self.attempt)
                    path.unlink(missing_ok=True)
                    continue
                path.replace(self._path(message_id))
                taken.append((message_id, body))
        return taken

    def _files(self) -> list[tuple[int, str, Path]]:
        """List the messages of all attempts as (attempt, id, path)."""
        split = [(path.stem.partition("-"), path) for path in self.folder.glob("*.json")]
        return [
            (int(attempt), message_id, path)
            for (attempt, _, message_id), path in split
            if attempt.isdecimal()
        ]

    def _path(self, message_id: str) -> Path:
        return self.folder / f"{self.attempt}-{message_id}.json"

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except OSError as err:
            raise TransientError(
                f"the spool {self.folder} cannot be used ({err}); "
                "make room there, or name another folder"
            ) from err

    def _sync(self) -> None:
        """Make the folder's names durable."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
