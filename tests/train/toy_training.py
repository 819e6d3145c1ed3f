"""A toy training of several ranks, any of which can be killed at a place, by `resuming_rank.py`."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PLACES = ("before a step", "after a step", "before a checkpoint", "after a checkpoint")
Line = tuple[tuple[int, ...], tuple[str, ...], str]
"""What a rank trained on in a step: position, names of the chips, digest of the pixels."""
_PROGRAM = Path(__file__).with_name("resuming_rank.py")


@dataclass(frozen=True)
class Training:
    """Ranks that train on a plan from a checkpoint on, where there is one."""

    root: Path
    """Where they write down what they do."""
    archive: str
    fast: Path
    plan: str
    world: int

    def run(self, *, place: str = "", turn: int = 0, victim: int = 0) -> int:
        """Train to the end, or until the victim dies and its launcher stops the others.

        Returns:
            How the victim ended.
        """
        self.root.mkdir(exist_ok=True)
        places = [str(self.root), self.archive, str(self.fast), self.plan]
        ranks = [
            subprocess.Popen(
                [
                    *(sys.executable, str(_PROGRAM), *places, str(rank), str(self.world)),
                    *((place, str(turn)) if rank == victim else ("", "0")),
                ]
            )
            for rank in range(self.world)
        ]
        code = ranks[victim].wait(240)
        for rank in ranks:
            if code:
                rank.kill()
            assert rank.wait(240) == 0 or code
        return code

    def trained(self) -> list[list[Line]]:
        """Read what each rank trained on since the last time."""
        found = [
            [
                (tuple(position), tuple(chips), pixels)
                for position, chips, pixels in map(json.loads, path.read_text().splitlines())
            ]
            for path in (self.root / f"rank-{rank}.jsonl" for rank in range(self.world))
        ]
        for path in self.root.glob("rank-*.jsonl"):
            path.unlink()
        for step in self.root.glob("step-*"):
            shutil.rmtree(step)
        return found


def goes_on(whole: list[list[Line]], head: list[list[Line]], tail: list[list[Line]]) -> None:
    """Check that ranks trained before and after a kill on what they would have without it."""
    for quiet, before, after in zip(whole, head, tail, strict=True):
        assert before == quiet[: len(before)]
        assert after == quiet[len(quiet) - len(after) :]
        assert len(before) + len(after) >= len(quiet)
    assert len({lines[0][0] for lines in tail if lines}) == 1
