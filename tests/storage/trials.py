"""A place where a command is disturbed again and again, and what has to hold there."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from chipmill.formats import layout
from chipmill.formats.manifest import decode_manifest
from chipmill.formats.multihash import digest_of
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import TRANSITIONS, State
from tests.storage.site import Site
from tests.storage.syscalls import Call, Commands

Check = Callable[["Trial"], None]


@dataclass(frozen=True)
class Trial:
    """A place that begins as the prepared one, for one command."""

    folder: Path
    archive: str
    shell: Commands

    @property
    def env(self) -> Mapping[str, str]:
        """Settings of a command here."""
        return {
            "CHIPMILL_ARCHIVE": self.archive,
            "CHIPMILL_FAST": str(self.folder / "fast"),
            "CHIPMILL_LEDGER": self.url,
            "CHIPMILL_BUDGET": "10MB",
            "CHIPMILL_FREE_FLOOR": "0",
        }

    @property
    def url(self) -> str:
        """The ledger's URL."""
        return f"sqlite:///{self.folder / 'ledger.db'}"

    def reset(self, prepared: Path) -> None:
        """Begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(prepared, self.folder)

    def rerun(self, words: list[str], *, record: bool = False) -> Sequence[Call]:
        """Say that the worker is dead, and run the command to its end; gives its calls."""
        self.free()
        done = self.shell.run(words, self.env, record=record)
        assert done.status == 0, done.said
        return done.calls

    def free(self) -> None:
        """Say that the worker is dead."""
        with Ledger.open(self.url) as ledger:
            for row in ledger.megabatches():
                if row.state in (State.STAGING, State.REMOVING):
                    ledger.free_lease(row.id, who="test", why="killed")


def is_whole(trial: Trial, name: str, folder: Path) -> int:
    """See that a megabatch is byte for byte what its manifest says; gives its bytes."""
    manifest = folder / layout.MANIFEST
    said = decode_manifest(manifest.read_bytes(), where=str(manifest))
    files = {pack.file: pack for pack in said.packs}
    assert {path.name for path in folder.iterdir()} == {*files, layout.MANIFEST}, name
    for file, pack in files.items():
        data = (folder / file).read_bytes()
        assert len(data) == pack.size
        assert digest_of(BytesIO(data), pack.stated.algorithm) == pack.stated.digest
    return sum(path.stat().st_size for path in folder.iterdir())


def chains_are_legal(ledger: Ledger) -> None:
    """See that each megabatch went one legal way, in which no step is missing or done twice."""
    for row in ledger.megabatches():
        was = State.PLANNED
        for version, change in enumerate(ledger.history(row.id), start=1):
            assert (change.version, change.was) == (version, was)
            assert change.now in TRANSITIONS[was] or change.now is was
            was = change.now
        assert was is row.state
    names = [row.id for row in ledger.megabatches()]
    for name in names:
        gone = [change for change in ledger.history(name) if change.now is State.REMOVED]
        assert len(gone) <= 1, "freed twice"


def prepare(site: Site, folder: Path) -> Path:
    """Keep the site as it is now, to begin trials from; gives the folder."""
    prepared = folder / "prepared"
    prepared.mkdir()
    shutil.copy(folder / "ledger.db", prepared / "ledger.db")
    if site.fast.exists():
        shutil.copytree(site.fast, prepared / "fast")
    return prepared
