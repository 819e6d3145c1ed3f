"""Statistics against NumPy: exact sums, and mean and deviation in float64 of the same pixels."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import compare
from chipmill.model.moments import moments

PIXELS = 5_000_000


def main() -> None:
    """Measure integers as optical sensors have them, and floats as radar has them."""
    rng = np.random.default_rng(0)
    kinds: dict[str, NDArray[Any]] = {
        "measure uint16": rng.integers(0, 65_535, PIXELS).astype(np.uint16),
        "measure float32": rng.gamma(1, 0.1, PIXELS).astype(np.float32),
    }
    for what, pixels in kinds.items():
        compare(what, partial(moments, pixels), "NumPy in float64", partial(_numpy, pixels))


def _numpy(pixels: NDArray[Any]) -> tuple[float, float]:
    values = pixels.astype(np.float64)
    return float(values.mean()), float(values.std())


if __name__ == "__main__":
    main()
