"""Everything on one machine without containers: Prefect server, receiver and worker."""

import secrets
import signal
import socket
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chipmill.errors import RequestError
from chipmill.formats.webhook import encode_key
from chipmill.service.processes import Crew, Program, Running
from chipmill.settings import Settings, child_environment

_MASTER: Final = "CHIPMILL_WEBHOOK_MASTER"
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOHUP: Final = (signal.SIGHUP, signal.SIG_IGN)
_CHIPMILL: Final = (sys.executable, "-m", "chipmill")
_PREFECT: Final = (sys.executable, "-m", "prefect")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the programs keep what they keep, and where they listen on loopback."""

    home: Path
    """Absolute."""
    prefect_port: int = 4200
    port: int = 8787

    @property
    def prefect(self) -> str:
        """Address of the Prefect server."""
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def receiver(self) -> str:
        """Address of the receiver and its page."""
        return f"http://127.0.0.1:{self.port}"


def up(settings: Settings, place: Place, *, tell: Callable[[str], None]) -> None:
    """Start all programs, deploy, and keep them running until SIGINT, SIGTERM or SIGHUP.

    Args:
        settings: What the team has set; what it has not is kept in the place's home.
        place: Where.
        tell: Called with a line for each thing that people want to know.

    Raises:
        RequestError: A port is taken, or the secret can be read by others.
        TransientError: A program does not come up; shows the end of its log.
    """
    for port in (place.prefect_port, place.port):
        _check_free(port)
    environment = make_environment(settings, place)
    with _told_to_stop() as stop, _crew() as crew:
        for program in _programs(place, environment):
            if stop():
                return
            tell(f"starting {program.name}")
            if program.name == "deploy":
                _run(program, stop)
            else:
                crew.start(program, stop=stop)
        if not stop():
            tell(f"the Prefect UI is at {place.prefect}")
            tell(f"the receiver and its page are at {place.receiver}")
            chosen = _MASTER if settings.webhook_master else _secret_file(place)
            tell(f"the master secret is in {chosen}")
            tell(f"logs are in {place.home / 'logs'}")
            tell("Ctrl-C ends all of it")
        crew.watch(stop)
        tell("stopping")


def make_environment(settings: Settings, place: Place) -> dict[str, str]:
    """Say where everything is, and make the folders and the secret that are missing.

    Raises:
        RequestError: The secret can be read by others.
    """
    place.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (place.home / "logs").mkdir(exist_ok=True)
    defaults = {
        "CHIPMILL_ARCHIVE": (place.home / "archive").as_uri(),
        "CHIPMILL_FAST": str(place.home / "fast"),
        "CHIPMILL_LEDGER": f"sqlite:///{place.home / 'ledger.db'}",
    }
    return child_environment(
        **({} if settings.webhook_master else _kept_secret(_secret_file(place))),
        **(defaults | settings.chosen_places),
        CHIPMILL_RECEIVER=place.receiver,
        PREFECT_API_URL=f"{place.prefect}/api",
        PREFECT_HOME=str(place.home / "prefect"),
        # The UI's files get the API's address written into them: a copy for this server alone.
        PREFECT_SERVER_UI_STATIC_DIRECTORY=str(place.home / "ui"),
        PREFECT_SERVER_UI_API_URL=f"{place.prefect}/api",
        PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        PYTHONUNBUFFERED="1",
    )


def _secret_file(place: Place) -> Path:
    return place.home / "secret.env"


def _kept_secret(path: Path) -> dict[str, str]:
    """Read the master secret; at the first start make it, for nobody else to read."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"{_MASTER}={encode_key(secrets.token_bytes(32))}\n", encoding="utf-8")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise RequestError(
            f"others can read the secret in {path} (mode {mode:03o}); remove the file, so that a "
            "new one is made, or `chmod 600` it if nobody has"
        )
    name, _, value = path.read_text(encoding="utf-8").strip().partition("=")
    if name != _MASTER or not value:
        raise RequestError(
            f"{path} is not {_MASTER}=…; write one that `chipmill secret` prints, or remove the "
            "file"
        )
    return {name: value}


def _programs(place: Place, environment: dict[str, str]) -> Iterator[Program]:
    def program(name: str, *command: str, answers: str | None = None) -> Program:
        log = place.home / "logs" / f"{name}.log"
        return Program(
            name=name, command=command, environment=environment, log=log, answers=answers
        )

    server = (
        *_PREFECT,
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(place.prefect_port),
    )
    serve = (*_CHIPMILL, "serve", "--port", str(place.port))
    yield program("prefect", *server, answers=f"{place.prefect}/api/health")
    yield program("deploy", *_CHIPMILL, "deploy")
    yield program("receiver", *serve, answers=f"{place.receiver}/healthz")
    yield program(
        "worker", *_PREFECT, "worker", "start", "--pool", "chipmill", "--name", "chipmill"
    )


def _run(program: Program, stop: Callable[[], bool]) -> None:
    """Run a program to its end."""
    running = Running.start(program)
    running.wait_until_done(stop=stop)


@contextmanager
def _crew() -> Generator[Crew]:
    crew = Crew()
    try:
        yield crew
    finally:
        crew.stop()


@contextmanager
def _told_to_stop() -> Generator[Callable[[], bool]]:
    """Give a question that is answered by yes once the process was told to stop."""
    told: list[int] = []
    # Under nohup the end of the terminal is not the end of the work.
    heard = [each for each in _SIGNALS if (each, signal.getsignal(each)) != _NOHUP]
    before = {each: signal.signal(each, lambda number, _: told.append(number)) for each in heard}
    try:
        yield lambda: bool(told)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _check_free(port: int) -> None:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as err:
            raise RequestError(
                f"port {port} of this machine is taken ({err.strerror}); is chipmill up already? "
                "Choose others with --prefect-port and --port"
            ) from err
