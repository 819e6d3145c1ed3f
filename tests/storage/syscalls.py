"""Stops a real command at its system calls: lists them, fails one, or kills before one.

The tracer is strace, which Debian has. A call is named by what it is and by how many of its kind
its thread has made: so a point is found again in a run that goes the same way. What a trial did is
read from the trace: only a kill before a call that changes a watched file counts.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHANGING = (
    "openat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "truncate",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "symlink",
    "symlinkat",
)
"""Calls by which a command changes files; others (mmap for writing, io_uring) it does not use."""
_LINE = re.compile(r"(\d+) +(?:\d+\.\d+ +)?(\w+)\((.*)")
_WORKER = Path(__file__).with_name("command_worker.py")
_PATIENCE = 120.0


@dataclass(frozen=True)
class Point:
    """The `count`-th call of a kind in a thread, counted from 1."""

    call: str
    count: int


@dataclass(frozen=True)
class Call:
    """One line of a trace."""

    thread: int
    point: Point
    text: str
    """Arguments and result, as strace writes them."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    """Exit status; the negative number of the signal that killed it."""

    said: str
    calls: tuple[Call, ...]


class Commands:
    """A worker that runs commands; see `command_worker.py`."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        """Speak with a running worker; traces and logs lie in `folder`."""
        self._process = process
        self._folder = folder

    def run(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        *,
        inject: str = "",
        only: str = "",
        record: bool = False,
        source: Path | None = None,
    ) -> Ended:
        """Run a command to its end.

        Args:
            words: After `chipmill`.
            env: Settings.
            inject: What happens where, as strace's option `inject` says it.
            only: Trace and count only calls that concern this path.
            record: Whether the trace has all bytes that are written.
            source: Where another chipmill is imported from.
        """
        log, trace = self._folder / "log", self._folder / "trace"
        for left in (log, trace):
            left.unlink(missing_ok=True)
        asked: dict[str, Any] = {"words": [*words], "env": {**env}, "log": str(log)}
        pid = int(self._said(json.dumps(asked | {"source": source and str(source)})))
        _wait_until_stopped(pid)
        with _traced(pid, trace, inject=inject, only=only, record=record):
            os.kill(pid, signal.SIGCONT)
            status = os.waitstatus_to_exitcode(int(self._said("")))
        return Ended(status, log.read_text() if log.exists() else "", tuple(_calls(trace)))

    def _said(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def commands(folder: Path) -> Generator[Commands]:
    """Keep a worker running until the block ends; skips the test where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace, which `.ci/run` installs")
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        try:
            yield Commands(process, folder)
        finally:
            process.stdin.close()


def path_of(call: Call) -> str:
    """Name the file that a call on an open file concerns; empty for other calls."""
    found = re.match(r"\d+<([^>]*)>", call.text)
    return found[1] if found else ""


def changes(calls: Sequence[Call], *watched: Path) -> list[Call]:
    """Choose the calls that change a file below one of the paths."""
    roots = tuple(str(path) for path in watched)
    return [
        call
        for call in calls
        if any(root in call.text for root in roots)
        and not (call.point.call == "openat" and "O_CREAT" not in call.text)
    ]


@contextmanager
def _traced(pid: int, trace: Path, *, inject: str, only: str, record: bool) -> Generator[None]:
    command = ["strace", "-f", "-qq", "-y", "-p", str(pid), "-o", str(trace)]
    command += ["-e", f"trace={','.join(CHANGING)}", "-e", "signal=none"]
    command += ["-xx", "-s", "1000000"] if record else ["-s", "0"]
    command += ["-e", f"inject={inject}"] if inject else []
    command += ["-P", only] if only else []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        _wait_until_traced(pid, tracer)
        yield
        tracer.wait(_PATIENCE)


def _wait_until_stopped(pid: int) -> None:
    _wait(lambda: "T (stopped)" in _status(pid), f"process {pid} to stop")


def _wait_until_traced(pid: int, tracer: "subprocess.Popen[str]") -> None:
    def is_traced() -> bool:
        if tracer.poll() is not None:
            assert tracer.stderr
            complaint = tracer.stderr.read()
            os.kill(pid, signal.SIGKILL)
            if "not permitted" in complaint:
                pytest.skip(f"nothing may be traced here: {complaint}")
            pytest.fail(complaint)
        return "TracerPid:\t0\n" not in _status(pid)

    _wait(is_traced, "strace to attach")


def _wait(until: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not until():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.002)


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def _calls(trace: Path) -> Generator[Call]:
    """Read a trace; a call that another thread interrupted is put together again."""
    seen = Counter[tuple[int, str]]()
    begun: dict[int, tuple[Point, str]] = {}
    for line in trace.read_text().splitlines():
        if resumed := re.match(r"(\d+) +<\.\.\. (\w+) resumed>(.*)", line):
            thread = int(resumed[1])
            if thread in begun:
                point, text = begun.pop(thread)
                yield Call(thread, point, text + resumed[3])
        elif found := _LINE.match(line):
            thread, call, text = int(found[1]), found[2], found[3]
            seen[thread, call] += 1
            point = Point(call, seen[thread, call])
            if text.endswith("<unfinished ...>"):
                begun[thread] = (point, text.removesuffix("<unfinished ...>"))
            else:
                yield Call(thread, point, text)
    for thread, (point, text) in begun.items():
        yield Call(thread, point, f"{text} = ?")
