"""How far staging a megabatch is, with rate and time left."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingProgress:
    """What is on fast storage of a megabatch that is being staged."""

    megabatch: str
    scenes: int
    of_scenes: int
    chips: int
    of_chips: int
    size: int
    """Bytes."""
    seconds: float
    """Since this worker began."""
    kept: int = 0
    """Of the chips those that an earlier try has left: they took no time."""
    kept_size: int = 0
    """Their bytes."""

    @property
    def share(self) -> float:
        """The part of the chips that is there, in [0, 1]."""
        return self.chips / max(1, self.of_chips)

    @property
    def rate(self) -> float:
        """Bytes that this worker writes in a second."""
        return (self.size - self.kept_size) / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end at this rate; None while there is none."""
        made = self.chips - self.kept
        return self.seconds * (self.of_chips - self.chips) / made if made else None

    def __str__(self) -> str:
        """Say it in one line."""
        left = "" if self.left is None else f", {_minutes(self.left)} left"
        return (
            f"{self.megabatch}: {self.scenes} of {self.of_scenes} scenes, {self.share:.0%}, "
            f"{self.size / 1e6:,.0f} MB at {self.rate / 1e6:,.0f} MB/s{left}"
        )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
