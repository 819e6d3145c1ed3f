"""In which manner a megabatch lies on fast storage."""

from dataclasses import dataclass
from typing import Literal

Codec = Literal["none", "lz4", "zstd"]
"""How the buffers of a chip pack are compressed: as Arrow itself does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What staging is free to choose; no choice changes a pixel or the order."""

    codec: Codec = "none"


DEFAULT = Manner()
