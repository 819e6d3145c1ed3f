"""Runs commands of chipmill, each in a fork of its own that a tracer may stop, fail or kill.

Each line of standard input is a command as JSON: its words, its environment, a file for what it
prints, and a folder with another chipmill to be imported instead of this one, or null. Standard
output gets the process id; the process waits, stopped, until it is told to go on. After the next
line standard output gets its exit status.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

import alembic.command  # pyright: ignore[reportUnusedImport]  # noqa: F401  it loads late otherwise

import chipmill.cli  # loads all that is slow to load, before the forks

_PR_SET_PTRACER = 0x59616D61  # prctl(2): who may trace this process although it is no child
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


def run(asked: dict[str, Any]) -> int:
    """Run one command; gives its exit status."""
    out = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(out, number)
    os.environ.update(asked["env"])  # noqa: TID251  the command reads its settings there
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY)
    app = chipmill.cli.app
    if asked["source"]:
        for name in [name for name in sys.modules if name.partition(".")[0] == "chipmill"]:
            del sys.modules[name]
        sys.path.insert(0, asked["source"])
        app = importlib.import_module("chipmill.cli").app
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        app(asked["words"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  whatever it is, the log has to say it
        traceback.print_exc()
        return 70
    return 0


def main() -> None:
    """Fork a command for each line."""
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            status = run(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(child, flush=True)  # noqa: T201
        sys.stdin.readline()  # until then the id belongs to this command, even when it has ended
        print(os.waitpid(child, 0)[1], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
