"""The page of the chip index: what its script reads, and how it is packed.

Numbers travel as whole 32-bit columns: differences from row to row, the bytes of all rows in four
planes, gzip, base64. Neighbouring chips differ by nearly the same step, so that a million of them
take a few megabytes.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np
import shapely
from numpy.typing import NDArray

UNIT = 1e-7
"""Degrees of longitude and latitude that count as one: a centimetre on the ground."""
CORNERS = 4
_CLOSED = CORNERS + 1
"""Points of a quadrilateral as WKB has it: the first comes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quads:
    """Quadrilaterals that cover chips."""

    corners: NDArray[np.float64]
    """Shape (quads, 4, 2): longitude and latitude in degrees."""
    owner: NDArray[np.int64]
    """Chip of each quad, shape (quads,): at first each chip once, in order."""


def quads(shapes: NDArray[np.object_]) -> Quads:
    """Cover the polygons of chips by quadrilaterals: one each, more where it has more corners.

    Args:
        shapes: Shape (chips,): polygons, and multipolygons across the antimeridian; all convex.
    """
    parts, owner = shapely.get_parts(shapes, return_index=True)
    first = np.unique(owner, return_index=True)[1]
    plain = shapely.get_num_coordinates(parts) == _CLOSED
    corners = np.zeros((len(parts), CORNERS, 2))
    points = shapely.get_coordinates(parts[plain]).reshape(-1, _CLOSED, 2)
    corners[plain] = points[:, :CORNERS]
    more: list[tuple[int, NDArray[np.float64]]] = []
    for part in np.flatnonzero(~plain):
        fans = _fans(shapely.get_coordinates(parts[part])[:-1])
        corners[part] = fans[0]
        more += [(int(owner[part]), fan) for fan in fans[1:]]
    rest = np.setdiff1d(np.arange(len(parts)), first)
    return Quads(
        corners=np.concatenate([corners[first], corners[rest], *(fan[None] for _, fan in more)]),
        owner=np.concatenate([owner[first], owner[rest], [chip for chip, _ in more]]).astype(
            np.int64
        ),
    )


def pack_columns(columns: Mapping[str, NDArray[np.int64]]) -> tuple[list[dict[str, object]], str]:
    """Pack columns of whole numbers that fit into 32 bits.

    Returns:
        Name and length of each, in order; and all of them as gzip in base64.
    """
    about: list[dict[str, object]] = [
        {"name": name, "count": len(values)} for name, values in columns.items()
    ]
    return about, packed(b"".join(_planes(values) for values in columns.values()))


def packed(data: bytes) -> str:
    """Pack bytes as the page's script unpacks them; equal bytes give equal text."""
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def render(template: str, *, about: Mapping[str, object], parts: Mapping[str, str]) -> str:
    """Fill the page.

    Args:
        template: HTML with `$title`, `$about` and a `$name` for each part.
        about: What the script must know, with the title; names in it are other people's text.
        parts: Text that needs no quoting: packed data, the script itself.
    """
    # In a script element only `</` and `<!--` can end what is data.
    said = json.dumps(about).replace("<", "\\u003c")
    title = str(about["title"]).replace("&", "&amp;").replace("<", "&lt;")
    return Template(template).substitute(title=title, about=said, **parts)


def _fans(points: NDArray[np.float64]) -> Sequence[NDArray[np.float64]]:
    """Divide a convex polygon into quadrilaterals; of a triangle the last corner comes twice."""
    last = len(points) - 1
    return [points[[0, n, n + 1, min(n + 2, last)]] for n in range(1, last, 2)]


def _planes(values: NDArray[np.int64]) -> bytes:
    """Write differences in four planes of bytes, the least significant first."""
    steps = np.diff(values, prepend=0).astype("<i4")
    return steps.view(np.uint8).reshape(-1, CORNERS).T.tobytes()
