"""The courier: a thread that posts messages until each is accepted or refused for good."""

import atexit
import heapq
import itertools
import logging
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus

from chipmill.errors import TransientError
from chipmill.train.keeper import Keeper
from chipmill.train.post import Backoff, Outcome, Sender, open_client, post
from chipmill.train.spool import Spool, read_report

_NOT_NOW = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
"""Answers to a repeat that a ledger may take back: the megabatch is not in use at the moment."""

_SAVING = 5.0
"""Seconds for which a process that ends waits for its spool."""

_log = logging.getLogger(__name__)


@dataclass(order=True, slots=True)
class _Letter:
    """A message on its way; the one that is due first compares least."""

    due: float
    number: int
    message_id: str = field(compare=False)
    body: bytes = field(compare=False)
    series: int | None = field(compare=False)
    """None for a message in the spool; repeats are counted, so that newer ones replace older."""
    tries: int = field(compare=False, default=0)


@dataclass(eq=False)
class Courier:
    """Posts letters in the order in which they are due; a letter that fails waits longer."""

    sender: Sender
    path: str
    """Where at the receiver."""
    spool: Spool
    backoff: Backoff
    refusal: str | None = field(init=False, default=None)
    """What became of the first letter that was refused for good."""

    def __post_init__(self) -> None:
        """Take up what is in the spool and start."""
        self._letters: list[_Letter] = []
        self._numbers = itertools.count()
        self._known: set[str] = set()
        self._outstanding: set[str] = set()
        self._plans: set[str] = set()
        self._to_adopt: list[str] = []
        self._series = self._refused = 0
        self._stopped = False
        self._changed = threading.Condition()
        waiting = self.spool.waiting()
        self._keeper = Keeper(self.spool)
        atexit.register(self._keeper.stop, _SAVING)  # a loop may end without closing
        for message_id, body in waiting:
            self._add(message_id, body, series=None)
        self._thread = threading.Thread(target=self._work, name="chipmill-notify", daemon=True)
        self._thread.start()

    def begin(self, plan: str) -> None:
        """Have what earlier attempts left of other plans posted too; returns at once."""
        with self._changed:
            if plan not in self._plans:
                self._plans.add(plan)
                self._to_adopt.append(plan)
                self._changed.notify_all()

    def send(self, message_id: str, body: bytes) -> None:
        """Have a message spooled and posted; one that is on its way or has arrived is left alone.

        A receiver knows an id by its first body, and refuses another under the same id.
        """
        if message_id not in self._known:
            self._keeper.keep(message_id, body)
            self._add(message_id, body, series=None)

    def repeat(self, messages: list[tuple[str, bytes]]) -> None:
        """Post messages that need no spool, instead of those that an earlier call left to do."""
        with self._changed:
            self._series += 1
            self._known -= {x.message_id for x in self._letters if x.series is not None}
            self._letters = [letter for letter in self._letters if letter.series is None]
            heapq.heapify(self._letters)
        for message_id, body in messages:
            if message_id not in self._known:
                self._add(message_id, body, series=self._series)

    def drain(self, seconds: float) -> int:
        """Wait until no spooled message is left, or one is refused; gives how many are left."""
        with self._changed:
            self._changed.wait_for(self._is_settled, seconds)
            return len(self._outstanding)

    def _is_settled(self) -> bool:
        """Say whether waiting would change nothing."""
        over = self._stopped or self.refusal is not None
        return over or not (self._outstanding or self._to_adopt)

    def stop(self) -> None:
        """Stop after the try that is under way; the spool keeps what has not arrived."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._keeper.stop(_SAVING)
        atexit.unregister(self._keeper.stop)

    def flush(self, seconds: float) -> int:
        """Wait until what was sent is durable here; gives how many messages are not."""
        return self._keeper.flush(seconds)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps reports from being durable or accepted, for people."""
        return tuple(text for text in (self.refusal, self._keeper.problem) if text is not None)

    def counts(self) -> tuple[int, int]:
        """Count the messages that have not arrived yet, and those that were refused."""
        with self._changed:
            return len(self._outstanding), self._refused

    def _add(self, message_id: str, body: bytes, *, series: int | None) -> None:
        letter = _Letter(time.monotonic(), next(self._numbers), message_id, body, series)
        with self._changed:
            self._known.add(message_id)
            if series is None:
                self._outstanding.add(message_id)
            heapq.heappush(self._letters, letter)
            self._changed.notify_all()

    def _work(self) -> None:
        """Run in the thread until it is stopped."""
        with open_client() as client:
            while (letter := self._next()) is not None:
                if isinstance(letter, str):
                    self._adopt(letter)
                    continue
                outcome = post(
                    client,
                    self.sender,
                    self.path,
                    message_id=letter.message_id,
                    body=letter.body,
                )
                self._settle(letter, outcome)

    def _adopt(self, plan: str) -> None:
        """Take up what earlier attempts left; what cannot be read now waits for the next start."""
        try:
            for message_id, body in self.spool.adopt(plan):
                self._add(message_id, body, series=None)
        except TransientError as err:
            _log.warning("what earlier attempts left is not posted: %s", err)
        with self._changed:
            self._to_adopt.remove(plan)
            self._changed.notify_all()

    def _next(self) -> _Letter | str | None:
        """Wait for a letter to be due, or a plan that has begun; None when all is over."""
        with self._changed:
            while not self._stopped:
                if self._to_adopt:
                    return self._to_adopt[0]
                wait = self._letters[0].due - time.monotonic() if self._letters else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._letters)
                self._changed.wait(wait)
        return None

    def _settle(self, letter: _Letter, outcome: Outcome) -> None:
        """Do what an outcome asks for."""
        repeated = letter.series is not None
        if outcome.verdict == "accepted":
            if not repeated:
                self._keeper.drop(letter.message_id)
            self._close(letter)
        elif outcome.verdict == "later" or (repeated and outcome.status in _NOT_NOW):
            self._put_back(letter, outcome)
        elif outcome.status in _NOT_NOW and self._is_earlier(letter):
            _log.info("%s; a later attempt reports what it says", self._sentence(letter, outcome))
            self._keeper.drop(letter.message_id)
            self._close(letter)
        else:
            self._close(letter, refusal=self._sentence(letter, outcome))

    def _is_earlier(self, letter: _Letter) -> bool:
        """Say whether a letter is the word of an earlier attempt."""
        report = read_report(letter.body)
        return report is not None and report.attempt < self.spool.attempt

    def _close(self, letter: _Letter, *, refusal: str | None = None) -> None:
        """Be done with a letter."""
        with self._changed:
            self._outstanding.discard(letter.message_id)
            self._refused += refusal is not None
            first = refusal is not None and self.refusal is None
            self.refusal = self.refusal or refusal
            self._changed.notify_all()
        if first:
            _log.error("%s; nothing more of this run is deleted until that is mended", refusal)

    def _put_back(self, letter: _Letter, outcome: Outcome) -> None:
        """Try a letter again later, unless newer repeats have replaced it."""
        if not letter.tries:
            _log.warning("%s; trying on", self._sentence(letter, outcome))
        pause = self.backoff.pause(letter.tries, at_least=outcome.pause)
        with self._changed:
            if letter.series in (None, self._series):
                letter.due, letter.tries = time.monotonic() + pause, letter.tries + 1
                heapq.heappush(self._letters, letter)
            else:
                self._known.discard(letter.message_id)

    def _sentence(self, letter: _Letter, outcome: Outcome) -> str:
        """Say what became of a letter."""
        kept = f"; it stays in {self.spool.folder}" if letter.series is None else ""
        return (
            f"{self.sender.receiver_url}{self.path} did not accept a report of run "
            f"{self.sender.run}: {outcome.text}{kept}"
        )
