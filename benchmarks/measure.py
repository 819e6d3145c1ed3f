"""Time a thing against its floor in the same run, in turn, and say where it ran."""

import os
import platform
import statistics
import time
from collections.abc import Callable

RUNS = 5
Clock = Callable[[Callable[[], object]], float]


def say_machine() -> None:
    """Print what the figures below were measured on."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


def compare(
    what: str,
    ours: Callable[[], object],
    floor_of: str,
    floor: Callable[[], object],
    clock: Clock | None = None,
    *,
    runs: int = RUNS,
) -> None:
    """Time two things in turn and print the median of their ratios."""
    clock = clock or seconds
    pairs = [(clock(ours), clock(floor)) for _ in range(runs + 1)][1:]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{what:<20} {a:7.3f} s   {floor_of:<18} {b:7.3f} s   ratio {ratio:5.2f}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu_seconds(work: Callable[[], object]) -> float:
    """Time one call by the CPU of all threads of this process: others do not count."""
    began = time.process_time()
    work()
    return time.process_time() - began
