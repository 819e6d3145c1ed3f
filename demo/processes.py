"""Start the processes that the demo needs, and stop each of them at the end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

BIN = Path(sys.executable).parent
PATIENCE = 90.0
"""Seconds that a process may take to answer."""


def free_port() -> int:
    """Find a free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    name: str, command: list[str], *, env: Mapping[str, str], log: Path
) -> Generator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own until the block ends; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        stop(process, name)


def stop(process: subprocess.Popen[bytes], name: str) -> None:
    """Ask a process to end, with its children; after 20 seconds do not ask any more."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(20)
            break
        except subprocess.TimeoutExpired:
            print(f"    {name} does not end; it is killed")
    try:  # children that outlived their parent
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(
    what: str, ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path
) -> None:
    """Wait until something answers.

    Raises:
        SystemExit: The process has ended or does not answer; says where its log is.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if ready():
            return
        time.sleep(0.2)
    tail = log.read_text(errors="replace")[-2000:]
    raise SystemExit(f"{what} did not start; the end of {log}:\n{tail}")


def answers(url: str) -> Callable[[], bool]:
    """Tell whether a URL answers 200."""

    def ready() -> bool:
        try:
            return httpx.get(url, timeout=2).status_code == httpx.codes.OK.value
        except httpx.HTTPError:
            return False

    return ready


def run(command: list[str], *, env: Mapping[str, str], log: Path) -> None:
    """Run a command to its end.

    Raises:
        SystemExit: It fails; shows the end of its output.
    """
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    log.write_bytes(done.stdout + done.stderr)
    if done.returncode:
        tail = (done.stdout + done.stderr).decode(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command[1:4])} failed:\n{tail}")
