"""Commands on snapshots of the chip index."""

from datetime import timedelta
from typing import Annotated

import typer

from chipmill.cli.app import app, finite, sentence
from chipmill.formats.snapshot import Snapshot
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.settings import Settings
from chipmill.steps.collect import collect_garbage
from chipmill.steps.compact import compact_index
from chipmill.steps.diff import diff_snapshots
from chipmill.steps.history import history, load_snapshot
from chipmill.steps.merge import merge_index
from chipmill.steps.turn import turns

snapshots = typer.Typer(no_args_is_help=True, help="Merge, list, compare and tidy up snapshots.")
app.add_typer(snapshots, name="snapshots")

_CENTURY = 100 * 365 * 24
"""Hours."""
ChipSize = Annotated[int, typer.Option(help="Edge of a chip in pixels.")]
SnapshotName = Annotated[str, typer.Argument(help="Name of a snapshot, or its beginning.")]


@snapshots.command()
@sentence
def merge(chip_size: ChipSize = 256) -> None:
    """Merge what is indexed into a snapshot."""
    settings = Settings.load()
    lock = turns(lambda: Ledger.open(settings.ledger))
    _say(merge_index(Store.open(settings.archive), chip_size=chip_size, lock=lock))


@snapshots.command(name="list")
@sentence
def list_(chip_size: ChipSize = 256) -> None:
    """List the steps of history that are kept, oldest first."""
    for step in history(_archive(), chip_size):
        _say(step)


@snapshots.command()
@sentence
def show(snapshot: SnapshotName = "latest", chip_size: ChipSize = 256) -> None:
    """Show what a snapshot holds, and in which files."""
    archive = _archive()
    found = load_snapshot(archive, snapshot, chip_size=chip_size)
    _say(found)
    for key in found.files:
        typer.echo(f"{archive.size(key) or 0:>15,} bytes  {archive.href(key)}")


@snapshots.command()
@sentence
def diff(old: SnapshotName, new: SnapshotName = "latest", chip_size: ChipSize = 256) -> None:
    """List the scenes that one snapshot has and another has not."""
    archive = _archive()
    pair = (load_snapshot(archive, name, chip_size=chip_size) for name in (old, new))
    found = diff_snapshots(archive, *pair)
    for sign, scenes in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for scene in scenes:
            typer.echo(f"{sign} {scene}")
    typer.echo(
        f"{len(found.added)} scenes added, {len(found.removed)} removed, {len(found.changed)} "
        f"changed; {found.chips_added:,} chips came, {found.chips_removed:,} went"
    )


@snapshots.command()
@sentence
def compact(
    chip_size: ChipSize = 256,
    *,
    whole: Annotated[bool, typer.Option(help="Write all files anew, not only small ones.")] = False,
) -> None:
    """Write small files of the newest snapshot anew as few large ones."""
    settings = Settings.load()
    lock = turns(lambda: Ledger.open(settings.ledger))
    archive = Store.open(settings.archive)
    _say(compact_index(archive, chip_size=chip_size, whole=whole, lock=lock))


@snapshots.command()
@sentence
def collect(
    keep: Annotated[int, typer.Option(help="Newest steps of history that stay.")] = 10,
    hours: Annotated[
        float, typer.Option(help="What is younger stays.", min=0, max=_CENTURY, callback=finite)
    ] = 24.0,
    *,
    remove: Annotated[bool, typer.Option(help="Remove it; else only list it.")] = False,
) -> None:
    """List, or remove, what no snapshot that is kept is made of; what plans name is kept."""
    archive = _archive()
    found = collect_garbage(archive, keep=keep, age=timedelta(hours=hours), remove=remove)
    for key in found.keys:
        typer.echo(archive.href(key))
    done = "removed" if remove else "to remove; give --remove to do it"
    typer.echo(f"{len(found.keys)} objects, {found.size:,} bytes {done}")


def _archive() -> Store:
    return Store.open(Settings.load().archive)


def _say(snapshot: Snapshot) -> None:
    typer.echo(
        f"{snapshot.number:>6}  {snapshot.snapshot}  {snapshot.created:%Y-%m-%d %H:%M:%S}Z  "
        f"{snapshot.scenes:>9,} scenes  {snapshot.chips:>13,} chips  "
        f"{len(snapshot.chip_files):>5} chip files"
    )
