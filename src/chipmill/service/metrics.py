"""What Prometheus scrapes: requests as they were answered, and the ledger of this moment."""

import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chipmill.io.ledger_overview import Overview
from chipmill.model.megabatch import State

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OTHER: Final = "other"  # what strangers make up must not become a label


class Meters:
    """Counts of one receiver; two in one process do not share them."""

    def __init__(self, *, budget: int) -> None:
        """Begin at zero; `budget` is that of fast storage, in bytes."""
        self._budget = budget
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "chipmill_requests",
            "Answers by route, method and HTTP status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "chipmill_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def count(self, route: str, method: str, *, status: int, seconds: float) -> None:
        """Count one answer."""
        verb = method if method in _METHODS else _OTHER
        self._requests.labels(route, verb, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, seen: Overview | None) -> bytes:
        """Write all metrics; `seen` is None when the ledger does not answer."""
        ledger = CollectorRegistry()
        ledger.register(_Ledger(seen, self._budget))
        return generate_latest(self._registry) + generate_latest(ledger)


class Measured:
    """An ASGI application whose answers are counted."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        """Count the answers of `app`."""
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count when the answer is over; a broken one counts as 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", _OTHER)
            seconds = time.perf_counter() - began
            self._meters.count(route, scope["method"], status=status, seconds=seconds)


class _Ledger(Collector):
    """The ledger's figures, of one reading."""

    def __init__(self, seen: Overview | None, budget: int) -> None:
        self._seen = seen
        self._budget = budget

    def collect(self) -> Iterator[Metric]:
        """Give the families."""
        yield _gauge("chipmill_ledger_up", "1 while the ledger answers.", self._seen is not None)
        yield _gauge("chipmill_budget_bytes", "Bytes that fast storage may hold.", self._budget)
        if self._seen is not None:
            yield from _figures(self._seen)


def _figures(seen: Overview) -> Iterator[Metric]:
    states = GaugeMetricFamily("chipmill_megabatches", "Megabatches by state.", labels=["state"])
    for state in State:
        states.add_metric([state], seen.states.get(state, 0))
    yield states
    yield _gauge("chipmill_reserved_bytes", "Bytes of the budget that are held.", seen.reserved)
    yield _gauge("chipmill_outbox_pending", "Flow runs that wait for Prefect.", seen.pending)
    age = 0.0 if seen.oldest_pending is None else max(0.0, seen.at - seen.oldest_pending)
    yield _gauge("chipmill_outbox_age_seconds", "Age of the oldest of them.", age)
    if seen.last_cleanup is not None:
        name = "chipmill_last_cleanup_timestamp_seconds"
        yield _gauge(name, "When a megabatch was last removed.", seen.last_cleanup)
    counting = {run.id for run in seen.runs if run.released is None}
    yield _gauge("chipmill_runs", "Training runs that megabatches wait for.", len(counting))
    missing = GaugeMetricFamily(
        "chipmill_ranks_missing",
        "Reports that a run's ranks owe, over all megabatches in use.",
        labels=["run"],
    )
    owed: Tally[str] = Tally(dict.fromkeys(sorted(counting), 0))
    for waiting in seen.waiting:
        owed[waiting.run] += len(waiting.missing)
    for run, count in owed.items():
        missing.add_metric([run], count)
    yield missing


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
