"""What a trainer must not have installed is not imported, and not needed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNWANTED = ["torch", "prefect", "rasterio", "sqlalchemy", "fastapi", "pystac", "shapely", "tasks"]
FAR = ["geopandas", "boto3", "botocore", "s3fs", "prefect", "rasterio", "torch"]


def test_the_training_side_imports_neither_torch_nor_the_pipeline() -> None:
    """`import chipmill.train` is quick and needs the bare install only."""
    program = f"import sys, chipmill.train; print([m for m in {UNWANTED} if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install chipmill alone, at the versions of the lock, from the packages that uv has kept."""
    folder = tmp_path_factory.mktemp("bare")
    uv = [str(Path(sys.executable).with_name("uv"))]
    pins = folder / "pins.txt"
    lock = (ROOT / "requirements.lock").read_text()
    pins.write_text("\n".join(re.findall(r"^[\w.-]+==.*", lock, re.MULTILINE)))
    python = folder / "venv" / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(folder / "venv")],
        ["pip", "install", "--quiet", "--python", str(python), "-c", str(pins), str(ROOT)],
    ):
        subprocess.run([*uv, *command], check=True, timeout=600)
    return python


def test_the_bare_install_reads(bare: Path, staged: Path) -> None:
    """A trainer's environment: no Prefect, GDAL, geopandas or boto there at all, and it works."""
    program = f"""
import chipmill.train
from importlib.util import find_spec
print([name for name in {FAR} if find_spec(name) is not None])
dataset = chipmill.train.ChipDataset({str(staged / "archive")!r}, plan="0123456789abcdef",
                                     fast={str(staged / "fast")!r})
print(sum(len(batch) for batch in dataset))
"""
    done = subprocess.run([str(bare), "-c", program], capture_output=True, text=True, check=True)
    far, chips = done.stdout.split("\n")[:2]
    assert far == "[]"
    assert int(chips) > 20


def test_the_import_is_quick(bare: Path) -> None:
    """Half a second of CPU, the least of several; others on the machine lengthen that as well.

    Then it is held against what NumPy, Arrow and pydantic, which no trainer can do without, take
    at the same time.
    """
    least = dict.fromkeys(("chipmill.train", "numpy, pyarrow, pydantic"), 9.0)
    for _ in range(8):
        for names in least:
            program = (
                f"import time; began = time.process_time(); import {names}; "
                "print(time.process_time() - began)"
            )
            command = [str(bare), "-c", program]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            least[names] = min(least[names], float(done.stdout))
        if least["chipmill.train"] < 0.5:
            break
    ours, theirs = least.values()
    assert ours < max(0.5, 2 * theirs)
