"""In which manner a megabatch is staged."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from chipmill.model.staging_progress import StagingProgress

if TYPE_CHECKING:
    from chipmill.settings import Settings  # trainers read packs without it

Codec = Literal["none", "lz4", "zstd"]
"""How the buffers of a chip pack are compressed: as Arrow itself does it."""
Form = Literal["packs", "scenes"]
"""Chips cut and packed, or the files of the archive as they are."""
Tell = Callable[[StagingProgress], None]


def _to_nobody(_progress: StagingProgress) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What staging is free to choose; no choice changes a pixel or the order."""

    form: Form = "packs"
    codec: Codec = "none"
    """Of packs."""
    link: Path | None = None
    """Where the archive lies on the FSx for Lustre file system that it is linked to: scenes are
    restored there instead of copied."""
    fsx: str | None = None
    """Id of that file system: names that it lacks are imported by data repository tasks."""
    cached: bool = False
    """Whether what is staged stays in the page cache as well."""
    floor: int = 0
    """Bytes that stay free on the disk, whatever the budget allows."""
    scenes_at_once: int = 4
    """Each takes some hundred megabytes of memory."""
    tell: Tell = _to_nobody
    """Is told every few seconds how far staging is, by any thread."""

    @classmethod
    def of(cls, settings: "Settings", *, tell: Tell = _to_nobody) -> Self:
        """Choose what the settings say."""
        return cls(
            form=settings.form,
            codec=settings.codec,
            link=settings.fsx_link,
            fsx=settings.fsx_file_system,
            cached=settings.page_cache,
            floor=settings.free_floor,
            scenes_at_once=settings.scenes_at_once,
            tell=tell,
        )


DEFAULT = Manner()
