"""examples/clay_datamodule.md, as a reader would follow it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from chipmill.formats.plan import Plan
from chipmill.io.store import Store

EXAMPLE = Path(__file__).parents[2] / "examples" / "clay_datamodule.md"
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)


class Site(Protocol):
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan


def test_the_commands_of_the_example_write_what_it_says(
    site: Site, binaries: Path, tmp_path: Path
) -> None:
    """Its commands run with small chips and cubes; its look at a cube prints Clay's arrays."""
    blocks = BLOCK.findall(EXAMPLE.read_text())
    commands, look = (text for _, text in blocks)
    small = {"minibatch=128": "minibatch=4 chip_size=16 few_scenes=true", "--cube 128": "--cube 4"}
    for words, fewer in small.items():
        assert words in commands
        commands = commands.replace(words, fewer)
    done = subprocess.run(
        ["bash", "-euc", commands],
        env={"PATH": f"{binaries}:/usr/bin:/bin", "CHIPMILL_ARCHIVE": site.archive.url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    folder = site.archive.local_path("exports/clay/npz-4")
    assert folder is not None
    assert f"{site.archive.url}/exports/clay/npz-4" in done.stdout
    printed = subprocess.run(
        [sys.executable, "-c", look, str(folder)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    where = "'lon_norm': (4, 2), 'lat_norm': (4, 2), 'week_norm': (4, 2), 'hour_norm': (4, 2)"
    assert printed == [
        f"naip {{'pixels': (4, 4, 16, 16), {where}}}",
        f"sentinel-2-l2a {{'pixels': (4, 10, 16, 16), {where}}}",
    ]
