"""Which scenes show one and the same moment: versions of an acquisition, and the newest of them.

Catalogues list an acquisition several times: earth-search as `_0_` and `_1_`, all of them once more
for each processing baseline of Sentinel-2, USGS for each processing of a Landsat scene.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from chipmill.model.scene import BBox

WHOLE_AREA = ""
"""Name of the only tile of a request without tiles."""

_SAME_PLACE = 0.5
"""Two versions show one place when they share this part of the smaller box. Two pieces of one
Sentinel-2 datatake in a tile, which a change of the ground station cut, share a few rows only."""

Version = tuple[tuple[int, ...], str, str, str]
"""Processing baseline, time of processing, processing date in the id, time of the document; what is
not stated is empty and counts as older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a choice among scenes needs to know of one of them."""

    id: str
    tile: str
    """The tile that it was found for; without tiles its own grid code."""
    time: datetime
    """UTC; of a composite the start of its period."""
    bbox: BBox
    cloud: float | None = None
    """Percent of the scene, as the catalogue states it."""
    nodata: float | None = None
    """Percent of the scene, as the catalogue states it."""
    grid: str | None = None
    """Code of its place in the grid of its mission, as the grid extension writes it."""
    platform: str | None = None
    datatake: str | None = None
    """What the satellite took in one go, without the processing baseline; or its orbit."""
    version: Version = ((), "", "", "")
    updated: str | None = None
    """When the catalogue's document changed."""
    created: str | None = None
    """When the catalogue's document was made."""


def newest(candidates: Iterable[Candidate]) -> tuple[list[Candidate], dict[str, str]]:
    """Keep the newest version of each acquisition, whatever the order of arrival.

    Returns:
        The kept candidates by time and id; and of each that was dropped the id of the one that is
        kept instead.
    """
    versions = defaultdict[tuple[str, ...], list[Candidate]](list)
    for candidate in {each.id: each for each in sorted(candidates, key=_age)}.values():
        versions[acquisition(candidate)].append(candidate)
    kept: list[Candidate] = []
    dropped: dict[str, str] = {}
    for group in versions.values():
        chosen: list[Candidate] = []
        for candidate in sorted(group, key=_age, reverse=True):
            same = next((other for other in chosen if _show_one_place(candidate, other)), None)
            if same:
                dropped[candidate.id] = same.id
            else:
                chosen.append(candidate)
        kept += chosen
    return sorted(kept, key=lambda each: (each.time, each.id)), dict(sorted(dropped.items()))


def acquisition(candidate: Candidate) -> tuple[str, ...]:
    """Name the acquisition that a scene is a version of.

    Where catalogues give no evidence of it, as of aerial photographs, the scene is its own.
    """
    platform, second = candidate.platform or "", candidate.time.isoformat(timespec="seconds")
    if candidate.datatake:
        return (candidate.grid or second, candidate.datatake)
    if candidate.grid and candidate.grid.startswith("WRS"):
        # A satellite passes a path and row once a day; processing moves the time by milliseconds.
        return (candidate.grid, platform, second[:10])
    if candidate.grid and platform:
        return (candidate.grid, platform, second)
    return (candidate.id,)


def _age(candidate: Candidate) -> tuple[Version, str]:
    return candidate.version, candidate.id


def _show_one_place(one: Candidate, other: Candidate) -> bool:
    height = min(one.bbox[3], other.bbox[3]) - max(one.bbox[1], other.bbox[1])
    first, second = _unrolled(one.bbox), _unrolled(other.bbox)
    # A box that crosses the antimeridian is met by the other on either side of it.
    width = max(
        min(first[1], second[1] + turn) - max(first[0], second[0] + turn) for turn in (-360, 0, 360)
    )
    shared = max(width, 0) * max(height, 0)
    return shared >= _SAME_PLACE * min(_area(one.bbox), _area(other.bbox))


def _unrolled(box: BBox) -> tuple[float, float]:
    west, _, east, _ = box
    return west, east + 360 * (east < west)


def _area(box: BBox) -> float:
    west, east = _unrolled(box)
    return (east - west) * (box[3] - box[1])
