"""diff: what one snapshot has that another has not."""

from dataclasses import dataclass

from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.steps.sheaf import Sheaf, sheaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The way from one snapshot to another, in scenes, sorted by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """In both, with other pixels, bands or counts."""
    chips_added: int
    """Chips of scenes that were added or changed, as they are now."""
    chips_removed: int
    """Chips of scenes that were removed or changed, as they were."""


def diff_snapshots(archive: Store, old: Snapshot, new: Snapshot) -> Difference:
    """Compare two snapshots; files that both have are not read."""
    before, after = _scenes(archive, old, but=new), _scenes(archive, new, but=old)
    gone = {scene for scene, (digest, _) in before.items() if after.get(scene, ("",))[0] != digest}
    come = {scene for scene, (digest, _) in after.items() if before.get(scene, ("",))[0] != digest}
    return Difference(
        added=tuple(sorted(come - gone)),
        removed=tuple(sorted(gone - come)),
        changed=tuple(sorted(gone & come)),
        chips_added=sum(after[scene][1] for scene in come),
        chips_removed=sum(before[scene][1] for scene in gone),
    )


def _scenes(archive: Store, snapshot: Snapshot, *, but: Snapshot) -> dict[str, tuple[str, int]]:
    """Read digest and number of chips of the scenes in files that the other has not."""
    return {
        scene: (digest, size)
        for sheaf in sheaves(archive, snapshot, but=but)
        for scene, digest, size in _rows(sheaf)
    }


def _rows(sheaf: Sheaf) -> list[tuple[str, str, int]]:
    return list(zip(sheaf.column("scene"), sheaf.column("digest"), sheaf.sizes, strict=True))
