"""Commands that fill and free fast storage in this process, without Prefect."""

import logging
import os
import socket
import sys
from collections import Counter
from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.manner import Manner
from chipmill.model.megabatch import State
from chipmill.model.staging_progress import StagingProgress
from chipmill.settings import Settings
from chipmill.steps.prefetch import ALL, stage_ahead
from chipmill.steps.reconcile import reconcile as mend
from chipmill.steps.remove import remove_megabatch

Ahead = Annotated[
    int, typer.Option(help="Megabatches that each plan keeps beyond the one in use.", min=0)
]


@app.command()
@sentence
def stage(
    plan: Annotated[str, typer.Argument(help="A plan that has its turn unread, or `all`.")] = ALL,
    *,
    ahead: Ahead = 1,
) -> None:
    """Put megabatches on fast storage for all plans in use, as far as the budget goes."""
    settings = _begin()
    with Ledger.open(settings.ledger) as ledger:
        staged = stage_ahead(
            plan,
            archive=Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            budget=settings.budget,
            worker=_worker(),
            ahead=ahead,
            manner=Manner.of(settings, tell=_tell),
        )
        for done in staged:
            typer.echo(f"{done.megabatch} is staged: {done.chips:,} chips, {done.size:,} bytes")
        if not staged:
            typer.echo(_why_not(ledger, plan, budget=settings.budget))


@app.command()
@sentence
def cleanup(
    megabatch: Annotated[str, typer.Argument(help="Id of a complete megabatch.")],
) -> None:
    """Free the space of a megabatch that all runs have reported; safe to run twice."""
    settings = _begin()
    with Ledger.open(settings.ledger) as ledger:
        done = remove_megabatch(
            megabatch,
            archive=Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            worker=_worker(),
            fsx=settings.fsx_file_system,
        )
    typer.echo(f"{megabatch} is removed: {done.freed:,} bytes are freed")


@app.command()
@sentence
def reconcile() -> None:
    """Mend what a crash or a lost message left on fast storage, and say what a person must see."""
    settings = _begin()
    with Ledger.open(settings.ledger) as ledger:
        found = mend(
            archive=Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            worker=_worker(),
            fsx=settings.fsx_file_system,
        )
    for each in found:
        typer.echo(f"{each.what:<9}  {each.subject}  {each.note}")


def _tell(now: StagingProgress) -> None:
    """Say how far staging is: on a terminal in one line that changes, else a line each time."""
    terminal, end = sys.stderr.isatty(), now.scenes == now.of_scenes
    typer.echo(f"\r\033[K{now}" if terminal else str(now), nl=end or not terminal, err=True)


def _why_not(ledger: Ledger, plan: str, *, budget: int) -> str:
    """Say why nothing was staged: what there is, and what those wait for that could be."""
    rows = ledger.megabatches(None if plan == ALL else plan)
    states = Counter(row.state for row in rows)
    there = ", ".join(f"{count} {state}" for state, count in states.items()) or "no megabatches"
    held = sum(row.reserved for row in ledger.megabatches())
    said = [f"nothing is staged: {there}; {held:,} of {budget:,} bytes are held"]
    if any(row.state is State.STAGING for row in rows):
        said.append("what is staging is another worker's until its lease ends")
    if states.keys() == {State.REMOVED}:
        said.append("`chipmill ledger plan-again` plans again what is removed")
    return "; ".join(said)


def _begin() -> Settings:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    return Settings.load()


def _worker() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
