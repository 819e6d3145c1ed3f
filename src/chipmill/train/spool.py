"""The spool: messages that must arrive, one durable file each, until they have."""

import contextlib
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chipmill.errors import TransientError

_log = logging.getLogger(__name__)


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
        """Read this attempt's messages as (id, body), and drop those of earlier attempts.

        An attempt that begins anew reports by its checkpoint's state what an earlier one could not;
        the receiver would refuse the earlier one's words.

        Raises:
            TransientError: The folder cannot be read.
        """
        found: list[tuple[float, str, bytes]] = []
        with self._translated():
            for path in self.folder.glob("*.json"):
                attempt, _, message_id = path.stem.partition("-")
                if not attempt.isdecimal() or int(attempt) > self.attempt:
                    continue
                if int(attempt) < self.attempt:
                    _log.info("dropping %s: attempt %d has begun", path, self.attempt)
                    path.unlink(missing_ok=True)
                    continue
                found.append((path.stat().st_mtime, message_id, path.read_bytes()))
        return [(message_id, body) for _, message_id, body in sorted(found)]

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
