"""What the status page says, worked out of the ledger's overview; no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from chipmill.formats.finding import Finding
from chipmill.io.ledger_overview import Overview, PlanCount, Request
from chipmill.io.ledger_progress import ProgressRow
from chipmill.io.ledger_rows import MegabatchRow, RunRow
from chipmill.model.megabatch import State

ORDER: Final = (
    State.REMOVED,
    State.REMOVING,
    State.COMPLETE,
    State.IN_USE,
    State.READY,
    State.STAGING,
    State.PLANNED,
)
"""States as a plan runs through them, the oldest megabatches first."""

WORDS: Final[Mapping[State, str]] = {state: state.replace("_", " ") for state in State}
_WIDE: Final = 1000.0  # units of a bar from end to end
_QUIET_AFTER: Final = 60.0  # seconds without a word from a stager


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar."""

    state: State
    count: int
    """Megabatches, or bytes."""

    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How far a staging is."""

    scenes: int
    of: int
    size: int
    rate: float | None
    """Bytes a second; None before there is anything to tell it by."""

    left: float | None
    """Seconds."""

    quiet: float | None
    """Seconds since the last word, where it is long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """A plan."""

    plan: PlanCount
    total: int
    through: int
    """Megabatches that all runs are done with."""

    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class MegabatchLine:
    """A megabatch that is on fast storage, on its way, or given up."""

    row: MegabatchRow
    pace: Pace | None
    owed: int
    """Reports that are missing, where it is in use."""

    can_ask: bool
    """Whether a flow run would bring it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A training run on one plan, and which ranks have not reported which megabatch."""

    run: RunRow
    waiting: Sequence[tuple[int, str, int]]
    """Number of the megabatch, the missing ranks in words, how many have reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """Everything on the page."""

    seen: Overview
    budget: int
    storage: Sequence[Piece]
    plans: Sequence[PlanLine]
    megabatches: Sequence[MegabatchLine]
    runs: Sequence[RunLine]
    requests: Sequence[tuple[Request, str | None]]
    """With the address of the flow run."""

    rate: float | None
    """Bytes a second of all stagings together."""

    left: float | None
    """Seconds until the last of them is ready."""

    findings: Sequence[Finding] | None
    """None where the receiver has no archive."""

    more_findings: bool
    """Whether there are more than these."""


def glance(
    seen: Overview,
    *,
    budget: int,
    ui: str | None,
    findings: Sequence[Finding] | None = None,
    more_findings: bool = False,
) -> Glance:
    """Work out the page.

    Args:
        seen: The ledger.
        budget: Bytes that fast storage may hold.
        ui: URL of Prefect's UI; None: flow runs are not linked.
        findings: Scenes that ingests left out; None where nobody has looked.
        more_findings: Whether there are more than these.
    """
    paces = {name: _pace(row, seen.at) for name, row in seen.progress.items()}
    rates = [pace.rate for pace in paces.values() if pace.rate]
    lefts = [pace.left for pace in paces.values() if pace.left is not None]
    return Glance(
        seen=seen,
        budget=budget,
        storage=_storage(seen, budget),
        plans=[_plan(plan) for plan in seen.plans],
        megabatches=[_megabatch(row, seen, paces.get(row.id)) for row in seen.current],
        runs=[_run(run, seen) for run in seen.runs],
        requests=[(each, _link(each, ui)) for each in seen.requests],
        rate=sum(rates) if rates else None,
        left=max(lefts) if lefts else None,
        findings=findings,
        more_findings=more_findings,
    )


def ranges(numbers: Sequence[int]) -> str:
    """Write sorted numbers briefly: `0-3, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}\N{EN DASH}{b}" for a, b in parts)


def _pieces(counts: Mapping[State, int], whole: int) -> list[Piece]:
    pieces: list[Piece] = []
    x = 0.0
    for state in ORDER:
        if counts.get(state):
            width = _WIDE * counts[state] / max(whole, 1)
            pieces.append(Piece(state, counts[state], round(x, 2), round(width, 2)))
            x += width
    return pieces


def _storage(seen: Overview, budget: int) -> list[Piece]:
    held: dict[State, int] = {}
    for row in seen.current:
        held[row.state] = held.get(row.state, 0) + row.reserved
    return _pieces(held, max(budget, sum(held.values())))


def _plan(plan: PlanCount) -> PlanLine:
    total = sum(plan.states.values())
    done = (State.COMPLETE, State.REMOVING, State.REMOVED)
    through = sum(plan.states.get(state, 0) for state in done)
    return PlanLine(plan=plan, total=total, through=through, pieces=_pieces(plan.states, total))


def _pace(row: ProgressRow, now: float) -> Pace:
    took, scenes = row.at - row.first_at, row.scenes - row.first_scenes
    moving = took > 0 and scenes > 0
    return Pace(
        scenes=row.scenes,
        of=row.of,
        size=row.size,
        rate=(row.size - row.first_size) / took if moving else None,
        left=(row.of - row.scenes) * took / scenes if moving else None,
        quiet=now - row.at if now - row.at > _QUIET_AFTER else None,
    )


def _megabatch(row: MegabatchRow, seen: Overview, pace: Pace | None) -> MegabatchLine:
    return MegabatchLine(
        row=row,
        pace=pace,
        owed=sum(len(each.missing) for each in seen.waiting if each.megabatch == row.id),
        can_ask=row.state not in (State.READY, State.IN_USE),
    )


def _run(run: RunRow, seen: Overview) -> RunLine:
    mine = [w for w in seen.waiting if w.run == run.id and w.megabatch.startswith(run.plan)]
    return RunLine(
        run=run,
        waiting=[
            (int(w.megabatch[-5:]), ranges(w.missing), run.world - len(w.missing)) for w in mine
        ],
    )


def _link(request: Request, ui: str | None) -> str | None:
    if request.flow_run is None or ui is None or urlsplit(ui).scheme not in ("http", "https"):
        return None
    return f"{ui.rstrip('/')}/runs/flow-run/{quote(request.flow_run, safe='')}"
