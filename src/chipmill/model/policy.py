"""Which of the scenes that match are taken: a form, and a pure function of it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chipmill.model.acquisition import Candidate, acquisition, newest

Season = Literal["period", "year", "quarter", "month"]


class Policy(BaseModel):
    """Which of the scenes that match are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: Literal["everything", "least_cloudy", "latest"] = Field(
        default="everything",
        title="Keep",
        description="everything that matches, or of each tile and season the least cloudy or the "
        "latest.",
    )
    count: int = Field(
        default=1, ge=1, title="How many", description="Scenes of each tile and season."
    )
    every: Season = Field(
        default="period",
        title="Season",
        description="What `count` holds for: the whole period, or each of its years, quarters or "
        "months (UTC).",
    )
    years: int | None = Field(
        default=None,
        ge=1,
        title="Random years",
        description="Draws this many of the years in which a tile has scenes; empty: all.",
    )
    seed: int = Field(default=0, title="Seed", description="Of random years and of strata.")
    max_items: int | None = Field(
        default=None,
        ge=1,
        title="Most items read",
        description="Of each tile, the least cloudy first when these are kept; empty: all.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # Not by the fields that were set: a form sends all of them.
        if self.keep == "everything" and (self.count, self.every) != (1, "period"):
            raise ValueError(
                "count and every have no meaning when everything is kept; keep least_cloudy or "
                "latest, or leave them out"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a policy made of candidates."""

    kept: tuple[Candidate, ...]
    """By tile, time and id."""
    duplicates: dict[str, str]
    """Of each older version of an acquisition the id of the one that was taken instead."""
    left_out: dict[str, int]
    """How many were left out, by reason."""


def choose_scenes(
    candidates: Iterable[Candidate],
    policy: Policy,
    *,
    max_cloud: float | None = None,
    max_nodata: float | None = None,
) -> Chosen:
    """Choose among candidates; their order does not matter.

    Versions of one acquisition are reduced to the newest first, so that an older one that looks
    less cloudy never stands in for it. Of equally cloudy scenes the one with less nodata goes
    first, then the earlier, then the lower id; a scene that does not state its cloud or nodata
    goes last.

    Args:
        candidates: Of one tile or of many.
        policy: What to keep.
        max_cloud: Leaves out scenes that state more, in percent.
        max_nodata: Leaves out scenes that state more, in percent.
    """
    left_out = Counter[str]()
    duplicates: dict[str, str] = {}
    kept: list[Candidate] = []
    for tile in _by_tile(candidates):
        fresh, dropped = newest(tile)
        duplicates |= dropped
        clear = _within(fresh, left_out, max_cloud=max_cloud, max_nodata=max_nodata)
        drawn = _in_random_years(clear, policy)
        left_out["another year"] += len(clear) - len(drawn)
        taken = _in_seasons(drawn, policy)
        left_out[f"not {policy.keep.replace('_', ' ')}"] += len(drawn) - len(taken)
        kept += taken
    return Chosen(
        kept=tuple(sorted(kept, key=lambda each: (each.tile, each.time, each.id))),
        duplicates=dict(sorted(duplicates.items())),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
    )


def first_scenes(kept: Sequence[Candidate], policy: Policy, *, limit: int) -> list[Candidate]:
    """Cut a choice down to `limit` scenes: the best of each tile before the second of any."""
    rank = Counter[str]()
    ranked: list[tuple[int, str, Candidate]] = []
    for candidate in sorted(kept, key=lambda each: _preference(each, policy)):
        ranked.append((rank[candidate.tile], candidate.tile, candidate))
        rank[candidate.tile] += 1
    return [each for _, _, each in sorted(ranked, key=lambda row: row[:2])[:limit]]


def first_beside(
    kept: Sequence[Candidate], earlier: Collection[Candidate], *, limit: int
) -> list[Candidate]:
    """Take what an earlier search took, in its newest version, and the `limit` oldest of the rest.

    The oldest first: what is left out now comes next time, however many newer ones there are then.
    """
    ids = {each.id for each in earlier}
    acquisitions = {acquisition(each) for each in earlier}
    held = [each for each in kept if each.id in ids or acquisition(each) in acquisitions]
    known = {each.id for each in held}
    new = [each for each in kept if each.id not in known]
    return held + sorted(new, key=lambda each: (each.time, each.id))[:limit]


def season(time: datetime, every: Season) -> tuple[int, ...]:
    """Name the season of a time: year, quarter or month; all of the period is one."""
    match every:
        case "period":
            return ()
        case "year":
            return (time.year,)
        case "quarter":
            return (time.year, (time.month - 1) // 3 + 1)
        case "month":
            return (time.year, time.month)


def _by_tile(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    tiles = defaultdict[str, list[Candidate]](list)
    for candidate in candidates:
        tiles[candidate.tile].append(candidate)
    return [tiles[name] for name in sorted(tiles)]


def _within(
    candidates: list[Candidate],
    left_out: Counter[str],
    *,
    max_cloud: float | None,
    max_nodata: float | None,
) -> list[Candidate]:
    kept: list[Candidate] = []
    for each in candidates:
        if max_cloud is not None and (each.cloud or 0) > max_cloud:
            left_out["cloud"] += 1
        elif max_nodata is not None and (each.nodata or 0) > max_nodata:
            left_out["nodata"] += 1
        else:
            kept.append(each)
    return kept


def _in_random_years(candidates: list[Candidate], policy: Policy) -> list[Candidate]:
    """Draw years by lot, each by itself: a new year in the catalogue replaces one at most."""
    if policy.years is None or not candidates:
        return candidates
    tile = candidates[0].tile

    def lot(year: int) -> bytes:
        return hashlib.sha256(f"{policy.seed}\0{tile}\0{year}".encode()).digest()

    drawn = sorted({each.time.year for each in candidates}, key=lot)[: policy.years]
    return [each for each in candidates if each.time.year in drawn]


def _in_seasons(candidates: list[Candidate], policy: Policy) -> list[Candidate]:
    if policy.keep == "everything":
        return candidates
    seasons = defaultdict[tuple[int, ...], list[Candidate]](list)
    for candidate in sorted(candidates, key=lambda each: _preference(each, policy)):
        seasons[season(candidate.time, policy.every)].append(candidate)
    return [each for group in seasons.values() for each in group[: policy.count]]


def _preference(candidate: Candidate, policy: Policy) -> tuple[float, float, float, str]:
    """Rank: lower goes first."""
    time = candidate.time.timestamp()
    if policy.keep == "least_cloudy":
        return _last(candidate.cloud), _last(candidate.nodata), time, candidate.id
    return (-time if policy.keep == "latest" else time), 0, 0, candidate.id


def _last(percent: float | None) -> float:
    return float("inf") if percent is None else percent
