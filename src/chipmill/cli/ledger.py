"""Commands on the ledger: what is where, how it came there, and repairs that are recorded."""

import getpass
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from chipmill.cli.app import app, sentence
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_overview import Overview
from chipmill.io.store import Store
from chipmill.model.megabatch import State
from chipmill.settings import Settings
from chipmill.steps import repair

ledger_app = typer.Typer(
    no_args_is_help=True, help="Show the ledger, and repair it: each repair is recorded."
)
app.add_typer(ledger_app, name="ledger")

Name = Annotated[str, typer.Argument(metavar="MEGABATCH", help="Id of a megabatch.")]
Why = Annotated[str, typer.Option(help="The reason; the history keeps it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
_MOST = 10_000
"""Rows of each kind that are shown."""
_SHOWN_RANKS = 8


@ledger_app.command()
@sentence
def show(*, as_json: AsJson = False) -> None:
    """Show megabatches, leases, bytes, runs with missing ranks, and flow runs that wait."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        seen = ledger.overview(most=_MOST)
    if as_json:
        typer.echo(json.dumps({"budget": settings.budget, **asdict(seen)}, indent=1))
        return
    for line in _lines(seen, settings.budget):
        typer.echo(line)


@ledger_app.command()
@sentence
def history(megabatch: Name, *, as_json: AsJson = False) -> None:
    """Show each change of one megabatch: when, from what to what, by whom, and why."""
    with Ledger.open(Settings.load().ledger) as ledger:
        row, changes = ledger.megabatch(megabatch), ledger.history(megabatch)
    if as_json:
        said = {"megabatch": asdict(row), "history": [asdict(change) for change in changes]}
        typer.echo(json.dumps(said, indent=1))
        return
    rows = [
        [_time(c.at), str(c.generation), f"{c.was} -> {c.now}", c.actor, c.why] for c in changes
    ]
    for line in _table(["when", "gen", "change", "who", "why"], rows):
        typer.echo(line)


@ledger_app.command()
@sentence
def free_lease(megabatch: Name, *, why: Why) -> None:
    """End the lease of a worker that is dead, so that another may go on at once."""
    with Ledger.open(Settings.load().ledger) as ledger:
        ledger.free_lease(megabatch, who=_who(), why=why)
        typer.echo(f"{megabatch} is {ledger.megabatch(megabatch).state}; nobody has its lease")


@ledger_app.command()
@sentence
def give_up(megabatch: Name, *, why: Why) -> None:
    """End a staging whose worker is gone: delete its files and release its bytes."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        freed = repair.give_up(
            megabatch,
            fast=settings.fast,
            ledger=ledger,
            who=_who(),
            why=why,
            fsx=settings.fsx_file_system,
        )
    typer.echo(f"{megabatch} is planned; {freed:,} bytes are freed")


@ledger_app.command()
@sentence
def abandon(
    megabatch: Name,
    *,
    why: Why,
    lost: Annotated[
        bool, typer.Option("--lost", help="Also when the archive lacks a file of it.")
    ] = False,
) -> None:
    """Remove a megabatch that is complete, or that is ready and no run has begun to use."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        done = repair.abandon(
            megabatch,
            archive=None if lost else Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            who=_who(),
            why=why,
            fsx=settings.fsx_file_system,
        )
        typer.echo(
            f"{megabatch} is {ledger.megabatch(megabatch).state}; {done.freed:,} bytes freed"
        )


@ledger_app.command()
@sentence
def plan_again(
    megabatch: Name,
    *,
    why: Why,
    run: Annotated[
        str, typer.Option(help="Who went back; without it each run has to report it again.")
    ] = "",
) -> None:
    """Plan a removed megabatch again: a training run went back and needs it."""
    with Ledger.open(Settings.load().ledger) as ledger:
        number = ledger.plan_again(megabatch, run=run, who=_who(), why=why)
    typer.echo(f"{megabatch} is planned, generation {number}")


@ledger_app.command()
@sentence
def retry(row: Annotated[int, typer.Argument(help="Number of a row of the outbox.")]) -> None:
    """Let a flow run that waits in the outbox be sent at once."""
    with Ledger.open(Settings.load().ledger) as ledger:
        typer.echo(f"{ledger.send_now(row, actor=_who())} is sent next")


def _who() -> str:
    """Name the person: the account and the host, as the history keeps them."""
    return f"{getpass.getuser()} at {socket.gethostname()}"


def _lines(seen: Overview, budget: int) -> Iterator[str]:
    yield f"{seen.reserved:,} of {budget:,} bytes are reserved ({seen.reserved / budget:.1%})"
    for plan in seen.plans:
        states = ", ".join(f"{n} {state}" for state, n in plan.states.items() if n)
        yield f"plan {plan.id}: {states}"
    yield from _section(
        ["megabatch", "state", "gen", "bytes", "lease", "worker", "reason"],
        [
            [
                row.id,
                str(row.state),
                str(row.generation),
                f"{row.reserved:,}",
                _lease(row.state, row.lease_until - seen.at),
                row.worker,
                row.reason,
            ]
            for row in seen.current
        ],
    )
    missing: dict[tuple[str, str], Sequence[int]] = {
        (each.run, each.megabatch): each.missing for each in seen.waiting
    }
    yield from _section(
        ["run", "plan", "attempt", "ranks", "begun", "released"],
        [
            [
                run.id,
                run.plan,
                str(run.attempt),
                str(run.world),
                _time(run.begun),
                _time(run.released) if run.released else "",
            ]
            for run in seen.runs
        ],
    )
    yield from _section(
        ["waits for run", "megabatch", "ranks that have not reported"],
        [[run, name, _ranks(ranks)] for (run, name), ranks in missing.items()],
    )
    yield from _section(
        ["outbox", "flow", "subject", "asked", "tries", "error"],
        [
            [str(r.id), r.kind, r.subject, _time(r.created), str(r.attempts), r.error]
            for r in seen.requests
            if r.sent_at is None
        ],
    )


def _section(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    if rows:
        yield ""
        yield from _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Write columns side by side; a figure stands at the right of its column."""
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells: list[Any] = [
            cell.rjust(width) if _is_figure(cell) else cell.ljust(width)
            for cell, width in zip(row, wide, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _is_figure(cell: str) -> bool:
    return cell.replace(",", "").isdecimal()


def _lease(state: State, seconds: float) -> str:
    if state not in (State.STAGING, State.REMOVING):
        return ""
    return f"{seconds:.0f} s more" if seconds > 0 else "ended"


def _ranks(missing: Sequence[int]) -> str:
    shown = ", ".join(map(str, missing[:_SHOWN_RANKS]))
    return f"{len(missing)}: {shown}{', …' if len(missing) > _SHOWN_RANKS else ''}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, tz=UTC):%Y-%m-%d %H:%M:%S}"
