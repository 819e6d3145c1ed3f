"""Programs that run beside each other on one machine: started, watched, and stopped in the end."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from chipmill.errors import TransientError

_LOOK: Final = 0.2  # seconds between looks at a program that starts, ends or runs
_FAREWELL: Final = 20.0  # seconds that a program has to end by itself
_LONGEST_PAUSE: Final = 60.0  # seconds before a program that dies again and again is started anew
_LAST_CHARACTERS: Final = 2000  # of a log, for people

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is started, and how one knows that it is up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    """Its output is added here."""
    answers: str | None = None
    """URL that answers 200 once it is up; none: it is up when it is started."""


@dataclass(slots=True)
class Running:
    """A program at work, in a process group of its own, with all that it starts."""

    program: Program
    process: "subprocess.Popen[bytes]"
    since: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, program: Program) -> "Running":
        """Start it."""
        with program.log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  our own commands
                list(program.command),
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(program, process)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_until_up(self, *, patience: float = 300, stop: Callable[[], bool] = bool) -> None:
        """Wait until it answers.

        Args:
            patience: Seconds.
            stop: Asked again and again; says that nobody waits any more.

        Raises:
            TransientError: It has ended or does not answer; shows the end of its log.
        """
        url, end = self.program.answers, time.monotonic() + patience
        while url is not None and not stop() and not is_up(url):
            if not self.alive or time.monotonic() > end:
                raise TransientError(f"{self.program.name} did not start; {self._end_of_log()}")
            time.sleep(_LOOK)

    def wait_until_done(self, *, stop: Callable[[], bool] = bool) -> None:
        """Wait until it ends by itself; stop it when nobody waits any more.

        Raises:
            TransientError: It has failed; shows the end of its log.
        """
        while self.alive and not stop():
            time.sleep(_LOOK)
        if self.alive:
            self.stop()
        elif self.process.returncode != 0:
            raise TransientError(f"{self.program.name} failed; {self._end_of_log()}")

    def stop(self, *, patience: float = _FAREWELL) -> None:
        """Ask it and all that it has started to end; kill what is left after `patience` seconds."""
        end = time.monotonic() + patience
        self._signal(signal.SIGTERM)
        while self._is_there() and time.monotonic() < end:
            time.sleep(_LOOK)
        if self._is_there():
            log.warning("%s does not end; it is killed", self.program.name)
            self.kill()

    def kill(self) -> None:
        """End it and all that it has started at once, as when the machine is switched off."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _end_of_log(self) -> str:
        tail = self.program.log.read_text(errors="replace")[-_LAST_CHARACTERS:]
        return f"the end of {self.program.log}:\n{tail}"

    def _is_there(self) -> bool:
        """Tell whether any process of the group is left; a child may outlive its parent."""
        self.process.poll()
        return self._signal(0)

    def _signal(self, number: int) -> bool:
        # The group has the id of its first process, which no other can get while a member is left.
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


class Crew:
    """Programs that are kept running: one that dies is started again."""

    def __init__(self) -> None:
        """Begin without any."""
        self._running: list[Running] = []
        self._pauses: dict[str, float] = {}

    def start(self, program: Program, *, stop: Callable[[], bool] = bool) -> None:
        """Start a program and wait until it is up.

        Raises:
            TransientError: It does not come up.
        """
        started = Running.start(program)
        self._running.append(started)
        started.wait_until_up(stop=stop)

    def watch(self, stop: Callable[[], bool]) -> None:
        """Start again what dies, until `stop` says so; more and more slowly what dies at once."""
        due: dict[str, float] = {}
        while not stop():
            for number, running in enumerate(self._running):
                name = running.program.name
                if not running.alive and name not in due:
                    due[name] = time.monotonic() + self._pause(running)
                if not running.alive and time.monotonic() >= due[name]:
                    running.stop(patience=0)  # children that have outlived it
                    self._running[number] = Running.start(running.program)
                    del due[name]
            time.sleep(_LOOK)

    def stop(self) -> None:
        """Stop all, the last started first."""
        while self._running:
            self._running.pop().stop()

    def _pause(self, running: Running) -> float:
        """Choose the seconds before a program that has died is started again, and tell people."""
        name, lived = running.program.name, time.monotonic() - running.since
        before = self._pauses.get(name, 0.0)
        pause = 0.0 if lived > _LONGEST_PAUSE else min(_LONGEST_PAUSE, 2 * before or 1.0)
        self._pauses[name] = pause
        log.warning(
            "%s has ended with %s and is started again in %.0f s; its log is %s",
            name,
            running.process.returncode,
            pause,
            running.program.log,
        )
        return pause


def is_up(url: str) -> bool:
    """Tell whether a URL answers 200."""
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK.value
    return False
