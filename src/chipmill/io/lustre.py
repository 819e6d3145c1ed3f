"""FSx for Lustre linked to a bucket: files that are there by name, with or without their bytes.

By the commands of Lustre's hierarchical storage management (Lustre manual, chapter 26; Amazon FSx
for Lustre user guide, "Releasing data from your file system"): `lfs hsm_restore` fetches the bytes
of files from the bucket, `lfs hsm_release` frees them on the file system, `lfs hsm_state` tells
which it has.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from chipmill.errors import StoreError, TransientError

AT_ONCE = 200
"""Files of one command: their names fit into a command line."""
POLL = 1.0
"""Seconds between two looks at what is being restored."""
_STATE = re.compile(r"^(?P<path>.+): \(0x[0-9a-f]+\)(?P<flags>[^,]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmState:
    """What Lustre knows of a file."""

    archived: bool
    """The bucket has its bytes."""
    released: bool
    """The file system has not."""
    dirty: bool
    """It was changed here since."""


class Lustre:
    """The file system, through its command."""

    def __init__(self, command: str = "lfs") -> None:
        """Take the command of this name or path."""
        self._command = command

    def states(self, paths: Sequence[Path]) -> dict[Path, HsmState]:
        """Ask for the state of some files.

        Raises:
            StoreError: There is no such command, or it says something else.
            TransientError: It fails.
        """
        found: dict[Path, HsmState] = {}
        for part in _parts(paths):
            for line in self._run("hsm_state", part).splitlines():
                if said := _STATE.match(line):
                    flags = set(said["flags"].split())
                    found[Path(said["path"])] = HsmState(
                        archived="archived" in flags,
                        released="released" in flags,
                        dirty="dirty" in flags,
                    )
        if missing := next((path for path in paths if path not in found), None):
            raise StoreError(f"`{self._command} hsm_state` says nothing of {missing}")
        return found

    def restore(self, paths: Sequence[Path], *, seconds: float) -> None:
        """Fetch the bytes of files that lack them, and wait until all are there.

        Raises:
            StoreError: Lustre's command is not here, or says something else.
            TransientError: It fails, or does not get done in so many seconds.
        """
        ends = time.monotonic() + seconds
        asked = False
        while waiting := [path for path, state in self.states(paths).items() if state.released]:
            if not asked:
                for part in _parts(waiting):
                    self._run("hsm_restore", part)
                asked = True
                continue
            if time.monotonic() >= ends:
                raise TransientError(
                    f"{len(waiting)} files such as {waiting[0]} were not restored within "
                    f"{seconds:.0f} s; look at the link of the file system with its bucket"
                )
            time.sleep(POLL)

    def release(self, paths: Sequence[Path]) -> None:
        """Free the bytes of files here; only of those that the bucket has as they are.

        Raises:
            StoreError: Lustre's command is not here, or says something else.
            TransientError: It fails.
        """
        free = [
            path
            for path, state in self.states(paths).items()
            if state.archived and not state.released and not state.dirty
        ]
        for part in _parts(free):
            self._run("hsm_release", part)

    def _run(self, what: str, paths: Sequence[Path]) -> str:
        command = [self._command, what, *map(str, paths)]
        try:
            # The paths are ours, and no shell reads them.
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        except FileNotFoundError as err:
            raise StoreError(
                f"there is no command {self._command!r} here; install Lustre's client, or stage "
                "without CHIPMILL_FSX_LINK"
            ) from err
        except subprocess.CalledProcessError as err:
            reason = (err.stderr or err.stdout).strip().splitlines()
            raise TransientError(
                f"`{self._command} {what}` failed on {paths[0]} and {len(paths) - 1} others "
                f"({reason[-1] if reason else err.returncode})"
            ) from err
        return done.stdout


def _parts(paths: Sequence[Path]) -> Iterator[list[Path]]:
    left = iter(paths)
    while part := list(islice(left, AT_ONCE)):
        yield part
