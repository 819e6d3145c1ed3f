"""The page of concepts has a program: what it shows must run."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_way_by_hand_runs_as_the_page_shows_it() -> None:
    """From a catalogue to batches by the library alone, from the root of a checkout."""
    page = (ROOT / "docs" / "concepts.md").read_text()
    (program,) = re.findall(r"```python\n(from pathlib .*?)```", page, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "(2, 4, 64, 64)" in done.stdout or "(2, 3, 64, 64)" in done.stdout
