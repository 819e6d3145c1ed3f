"""How fast a reader was, and the lines that say so."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """What a reader did."""

    chips: int
    wall: float
    cpu: float

    @property
    def of_clock(self) -> float:
        """Chips a second by the clock."""
        return self.chips / self.wall

    @property
    def of_core(self) -> float:
        """Chips a second of CPU."""
        return self.chips / self.cpu


def timed(work: Callable[[], int]) -> Speed:
    """Time one call, which gives the number of chips."""
    began, cpu = time.perf_counter(), time.process_time()
    chips = work()
    return Speed(chips, time.perf_counter() - began, time.process_time() - cpu)


def in_turn(works: dict[str, Callable[[], int]], *, rounds: int = ROUNDS) -> dict[str, Speed]:
    """Give the best of several rounds by CPU, each work in turn with the others."""
    best: dict[str, Speed] = {}
    for _ in range(rounds):
        for name, work in works.items():
            found = timed(work)
            if name not in best or found.of_core > best[name].of_core:
                best[name] = found
    return best


def quickest(speeds: list[Speed]) -> Speed:
    """Give the best of several rounds, by the clock."""
    return max(speeds, key=lambda speed: speed.of_clock)


def on_cores(cores: set[int] | None = None) -> None:
    """Use these cores; None: all."""
    os.sched_setaffinity(0, cores or set(range(os.cpu_count() or 1)))


def say(what: str, speed: Speed, *, of: tuple[str, Speed] | None = None) -> None:
    """Print a line."""
    line = f"{what:<30} {speed.of_clock:9.0f} chips/s of clock"
    line += f" {speed.of_core:9.0f} of CPU" if speed.cpu else ""
    if of is not None:
        name, other = of
        line += f"   of {name}: {speed.of_clock / other.of_clock:.2f} of clock"
        line += f", {speed.of_core / other.of_core:.2f} of CPU" if speed.cpu and other.cpu else ""
    print(line, flush=True)
