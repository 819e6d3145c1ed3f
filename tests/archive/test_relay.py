"""Pieces that one thread reads and another writes: all of them, in order, and no thread stays."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from chipmill.errors import TransientError
from chipmill.io.relay import AHEAD, relayed

BLOCKED = """
import threading, time
from chipmill.io.relay import relayed

def endless():
    yield b"first"
    threading.Event().wait()

def take():
    with relayed(endless()) as pieces:
        list(pieces)

threading.Thread(target=take, daemon=True).start()
time.sleep(0.2)
"""


def relays() -> list[threading.Thread]:
    """List the threads that still read."""
    return [thread for thread in threading.enumerate() if thread.name == "relay"]


def test_pieces_come_in_order_and_few_are_held() -> None:
    """A file of any size passes: the reader waits for who takes."""
    read = 0

    def source() -> Iterator[bytes]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield number.to_bytes(2)

    taken = 0
    with relayed(source()) as pieces:
        for piece in pieces:
            assert piece == taken.to_bytes(2)
            taken += 1
            assert read <= taken + AHEAD + 1
    assert taken == 1000
    assert relays() == []


@pytest.mark.parametrize("error", [TransientError("the provider hung up"), SystemExit(3)])
@pytest.mark.parametrize("before", [0, 1, AHEAD + 5])
def test_an_error_is_raised_where_the_piece_is_taken(error: BaseException, before: int) -> None:
    """Who writes must learn that the bytes have ended too early, after all that came before."""

    def source() -> Iterator[bytes]:
        yield from [b"x"] * before
        raise error

    taken: list[bytes] = []
    with pytest.raises(type(error)) as raised, relayed(source()) as pieces:
        taken.extend(pieces)
    assert raised.value is error
    assert relays() == []


@pytest.mark.parametrize("taken", [0, 1, AHEAD])
def test_who_takes_no_more_leaves_no_thread_behind(taken: int) -> None:
    """A write that fails ends the read, also one that waits for its turn to hand on."""

    def write(pieces: Iterator[bytes]) -> None:
        for _ in range(taken):
            next(pieces)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), relayed([b"x"] * 1000) as pieces:
        write(pieces)
    assert relays() == []


def test_a_read_that_never_ends_keeps_no_process_alive() -> None:
    """A worker that is told to stop must not wait for a provider."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], check=False, timeout=60, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
