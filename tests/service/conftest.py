"""Real servers for the receiver's tests."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

import pytest
import uvicorn
from fastapi import FastAPI

from chipmill.service.protocol import ImpatientProtocol

Serving = Callable[[FastAPI], AbstractContextManager[str]]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _serving(app: FastAPI) -> Generator[str]:
    config = uvicorn.Config(app, http=ImpatientProtocol, log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as serve.py does
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started and thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Give a context that serves an application by uvicorn on loopback and gives its URL."""
    return _serving


@pytest.fixture
def unused_port() -> int:
    """Give a port of loopback where nothing listens."""
    return _free_port()
