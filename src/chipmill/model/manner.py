"""In which manner a megabatch is staged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from chipmill.model.staging_progress import StagingProgress
from chipmill.settings import Settings

Codec = Literal["none", "lz4", "zstd"]
"""How the buffers of a chip pack are compressed: as Arrow itself does it."""
Tell = Callable[[StagingProgress], None]


def _to_nobody(_progress: StagingProgress) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What staging is free to choose; no choice changes a pixel or the order."""

    codec: Codec = "none"
    floor: int = 0
    """Bytes that stay free on the disk, whatever the budget allows."""
    scenes_at_once: int = 4
    """Each takes some hundred megabytes of memory."""
    tell: Tell = _to_nobody
    """Is told every few seconds how far staging is, by any thread."""

    @classmethod
    def of(cls, settings: Settings, *, tell: Tell = _to_nobody) -> Self:
        """Choose what the settings say."""
        return cls(
            codec=settings.codec,
            floor=settings.free_floor,
            scenes_at_once=settings.scenes_at_once,
            tell=tell,
        )


DEFAULT = Manner()
