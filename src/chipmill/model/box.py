"""Boxes in degrees: rounded so that they still hold what they held, and one around many."""

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east across the antimeridian."""

_HALF = 180.0
_WHOLE = 360.0


def outward(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round boxes to single precision, each side away from the middle.

    Args:
        boxes: Shape (n, 4): west, south, east, north.

    Returns:
        The same shape; no side lies further in than before.
    """
    sides = boxes.astype(np.float32)
    lower = np.where(sides > boxes, np.nextafter(sides, np.float32(-np.inf)), sides)
    upper = np.where(sides < boxes, np.nextafter(sides, np.float32(np.inf)), sides)
    return np.concatenate([lower[:, :2], upper[:, 2:]], axis=1)


def around(boxes: NDArray[np.float64]) -> Box:
    """Give the box around the chips of one scene, of which some may cross the antimeridian.

    Args:
        boxes: Shape (n, 4): west, south, east, north; west > east across the antimeridian.

    Returns:
        The box in single precision, rounded outward; all longitudes where the scene lies around a
        pole.
    """
    west, east = boxes[:, 0], boxes[:, 2]
    # Boxes so far apart lie at the two ends of the map: there the scene is.
    if (west > east).any() or np.ptp(west) > _HALF:
        west, east = west % _WHOLE, east % _WHOLE
        if (west > east).any():
            west, east = np.array([-_HALF]), np.array([_HALF])
    sides = np.array([[west.min(), boxes[:, 1].min(), east.max(), boxes[:, 3].max()]])
    left, south, right, north = outward(sides)[0].tolist()
    return _wrapped(left), south, _wrapped(right), north


def _wrapped(longitude: float) -> float:
    return longitude - _WHOLE if longitude > _HALF else longitude
