"""A STAC API on loopback: a test decides each answer, and it remembers what it was asked."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

Json = dict[str, Any]


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    body: Json


@dataclass
class Answer:
    """A response as it goes."""

    body: object = field(default_factory=dict[str, Any])
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    missing: int = 0
    """Bytes at the end that are announced and never sent."""


class Api(ThreadingHTTPServer):
    """A server; its landing page is at `/`, all else is the test's."""

    conforms: tuple[str, ...] = ()
    answer: Callable[[Asked], Answer]

    def __init__(self) -> None:
        """Listen on a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """Give its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def landing(self) -> Json:
        """Say what it can, and where it is searched."""
        link = {"rel": "search", "href": f"{self.url}/search", "method": "POST"}
        core = "https://api.stacspec.org/v1.0.0/item-search"
        classes = [core, *(f"{core}#{name}" for name in self.conforms)]
        return {"type": "Catalog", "id": "test", "conformsTo": classes, "links": [link]}


class _Handler(BaseHTTPRequestHandler):
    server: Api  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base names it so
        """Say nothing."""

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _reply(self, body: Json) -> None:
        asked = Asked(self.command, self.path, body)
        if self.path == "/":
            answer = Answer(self.server.landing())
        else:
            self.server.asked.append(asked)
            answer = self.server.answer(asked)
        data = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("content-length", str(len(data)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) - answer.missing])
        self.close_connection = answer.missing > 0


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Asked], Answer]], Api]]:
    """Give a function that starts a STAC API with a test's answers."""
    with ExitStack() as stack:

        def start(answer: Callable[[Asked], Answer]) -> Api:
            api = stack.enter_context(Api())
            api.answer = answer
            Thread(target=api.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(api.shutdown)
            return api

        yield start


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Any]:
    """Give a function that reads a recorded document."""
    folder = Path(__file__).parents[1] / "data"
    return lambda name: json.loads((folder / name).read_text())


@pytest.fixture(scope="session")
def items_of(recorded: Callable[[str], Any]) -> Callable[[str], list[Json]]:
    """Give a function that reads the items of a recorded document, whatever holds them."""

    def read(name: str) -> list[Json]:
        document = recorded(name)
        if isinstance(document, list):
            return cast("list[Json]", document)
        return cast("list[Json]", document.get("features", [document]))

    return read


@pytest.fixture(scope="session")
def answer() -> type[Answer]:
    """Give the class of answers, which tests cannot import."""
    return Answer
