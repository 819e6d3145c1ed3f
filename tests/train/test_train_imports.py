"""What a trainer must not have installed is not imported."""

import subprocess
import sys

UNWANTED = ["torch", "prefect", "rasterio", "sqlalchemy", "fastapi", "pystac", "shapely", "tasks"]


def test_the_training_side_imports_neither_torch_nor_the_pipeline() -> None:
    """`import chipmill.train` is quick and needs the bare install only."""
    program = f"import sys, chipmill.train; print([m for m in {UNWANTED} if m in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
