"""What changed between two searches of one request."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A scene that a search took."""

    acquisition: tuple[str, ...]
    digest: str
    """Of what its document says."""


class Changes(BaseModel):
    """What a refresh found, by the ids of scenes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new: tuple[str, ...] = ()
    reprocessed: dict[str, str] = {}
    """Of each scene that was taken before, the id of the version that is taken now; the same id
    where the catalogue changed the scene's document."""
    withdrawn: tuple[str, ...] = ()
    """Taken before, and no longer in the catalogue; what the archive has of them stays."""
    left_out: tuple[str, ...] = ()
    """Taken before, still in the catalogue, and no longer chosen."""


def changes(
    before: Mapping[str, Taken], now: Mapping[str, Taken], *, listed: Collection[str]
) -> Changes:
    """Compare two searches.

    Args:
        before: What was taken, by id.
        now: What is taken, by id.
        listed: Ids that the catalogue still has, among those of `before`.
    """
    newer = {taken.acquisition: name for name, taken in sorted(now.items())}
    moved = {
        name: newer[taken.acquisition]
        for name, taken in sorted(before.items())
        if name not in now and taken.acquisition in newer
    }
    changed = {
        name: name
        for name, taken in sorted(before.items())
        if name in now and now[name].digest != taken.digest
    }
    gone = [name for name in sorted(before) if name not in now and name not in moved]
    return Changes(
        new=tuple(sorted(now.keys() - before.keys() - set(moved.values()))),
        reprocessed=moved | changed,
        withdrawn=tuple(name for name in gone if name not in listed),
        left_out=tuple(name for name in gone if name in listed),
    )
