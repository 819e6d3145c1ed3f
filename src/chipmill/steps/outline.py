"""What a plan will do, for people: its numbers, and where on earth its megabatches are."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.io.tables import read_columns

FINE, COARSE = 10, 30
"""Degrees of the cells of the map, and of those that are named with their shares."""
_SHADES = ".:oO@"
"""From few scenes to many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where the scenes of a megabatch are."""

    megabatch: int
    cells: int
    """Cells of 10 degrees that have a scene."""
    shares: dict[str, float]
    """Share of the scenes in each cell of 30 degrees, by its south-west corner, largest first."""
    picture: tuple[str, ...]
    """The earth in cells of 10 degrees, from the north; a sign is a cell with scenes."""


def outline(plan: Plan) -> dict[str, str]:
    """Give the main numbers of a plan."""
    parts = plan.megabatches
    scenes, chips = Counter[str](), Counter[str]()
    for part in parts:
        scenes.update({name: share.scenes for name, share in part.collections.items()})
        chips.update({name: share.chips for name, share in part.collections.items()})
    return {
        "snapshot": plan.snapshot,
        "seed, epoch": f"{plan.seed}, {plan.epoch}",
        "megabatches": f"{len(parts)} of at most {plan.megabatch_scenes:,} scenes",
        "minibatches": f"{sum(part.minibatches for part in parts):,} of {plan.minibatch:,} chips"
        f"{', of several sensors each' if plan.mixed else ''}",
        "chips": f"{plan.usable:,} of {plan.chip_size} px",
        **{name: f"{scenes[name]:,} scenes, {chips[name]:,} chips" for name in sorted(scenes)},
        "left over": f"{sum(part.left_over for part in parts):,} chips that fit in no minibatch",
        **{f"left out for {why}": f"{count:,} chips" for why, count in plan.left_out.items()},
        "largest megabatch": f"at most {max(part.size for part in parts):,} bytes",
        "fast storage": f"at most {sum(part.size for part in parts):,} bytes in all",
    }


def spreads(archive: Store, plan: Plan, *, first: int = 3) -> list[Spread]:
    """Look where the scenes of the first megabatches are."""
    key = layout.plan_scenes_key(plan.plan)
    table = read_columns(archive, [key], ["megabatch", "lon", "lat"])
    number, lon, lat = (table[name].to_numpy() for name in table.column_names)
    return [
        _spread(each, lon[number == each], lat[number == each])
        for each in range(min(first, len(plan.megabatches)))
    ]


def _spread(number: int, lon: NDArray[np.floating], lat: NDArray[np.floating]) -> Spread:
    rows, columns = _cell(lat, -90, FINE), _cell(lon, -180, FINE)
    counts = np.zeros((180 // FINE, 360 // FINE), np.int64)
    np.add.at(counts, (rows, columns), 1)
    souths, wests = _cell(lat, -90, COARSE) * COARSE - 90, _cell(lon, -180, COARSE) * COARSE - 180
    places = Counter(
        f"{abs(south):02d}{'S' if south < 0 else 'N'} {abs(west):03d}{'W' if west < 0 else 'E'}"
        for south, west in zip(souths.tolist(), wests.tolist(), strict=True)
    )
    return Spread(
        megabatch=number,
        cells=int(np.count_nonzero(counts)),
        shares={place: count / len(lon) for place, count in places.most_common()},
        picture=tuple("".join(_sign(n, counts.max()) for n in row) for row in counts[::-1]),
    )


def _cell(degrees: NDArray[np.floating], start: int, size: int) -> NDArray[np.int64]:
    """Number cells from `start`; the last one has its far edge too."""
    cell = np.floor((degrees - start) / size).astype(np.int64)
    return np.minimum(cell, -2 * start // size - 1)


def _sign(count: int, most: int) -> str:
    return _SHADES[min(len(_SHADES) - 1, count * len(_SHADES) // (most + 1))] if count else " "
