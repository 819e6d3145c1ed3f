"""Whether an offset that a producer adds to its pixels is still in them: Sentinel-2 since 2022.

Since processing baseline 04.00 ESA adds 1000 to the digital numbers of Sentinel-2, so that
reflectances a little below zero can be written (Sentinel-2 Products Specification Document,
S2-PDGS-TAS-DI-PSD, issue 14.9, BOA_ADD_OFFSET). Some catalogues subtract it again and say so by a
flag, and both the flag and the offset that items state have been wrong
(github.com/Element84/earth-search, issues 9 and 66). So the pixels are asked as well.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["applied", "not applied", "cannot tell"]
"""applied: nothing is left to subtract, because it was subtracted or never added."""
OffsetChoice = Literal["from evidence", "applied", "not applied"]

DARK_SHARE = 0.01
"""The darkest percent: single dark pixels occur with an offset too, at edges of the swath."""
FEWEST = 1000
"""Valid pixels below which the darkest percent says nothing."""
_BASELINE = re.compile(r"(\d{1,2})\.(\d{1,2})|N(\d{2})(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetRule:
    """An offset that a producer adds to digital numbers from some version on."""

    added: int
    """What is added."""
    since: tuple[int, int]
    """First processing baseline that adds it."""
    baselines: tuple[str, ...]
    """Properties of an item that state the baseline, best first."""
    flag: str
    """Property that says, when true, that the offset was subtracted again."""
    from_wavelength: float
    """Only bands from this wavelength on (micrometres) are looked at: in the blue, air and bright
    soil are as bright as the offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetEvidence:
    """What speaks for and against an offset in the pixels, and what follows."""

    verdict: Verdict
    decided_by: str
    """`pixels`, `baseline`, `baseline and flag`, `request`, or `nothing`."""
    baseline: str | None
    flag: bool | None
    stated: float | None
    """Offset that the item states, in physical units."""
    pixels: Verdict
    """What the pixels alone say."""
    darkest: Mapping[str, int] = field(default_factory=dict[str, int])
    """By band: the digital number that a hundredth of the valid pixels do not exceed."""

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            verdict=said["verdict"],
            decided_by=said["decided_by"],
            baseline=said["baseline"],
            flag=said["flag"],
            stated=said["item_offset"],
            pixels=said["pixels"],
            darkest=said["darkest"],
        )

    def to_json(self) -> dict[str, Any]:
        """Give the form in which items keep it."""
        return {
            "verdict": self.verdict,
            "decided_by": self.decided_by,
            "baseline": self.baseline,
            "flag": self.flag,
            "item_offset": self.stated,
            "pixels": self.pixels,
            "darkest": dict(self.darkest),
        }


def darkest(counts: NDArray[np.integer]) -> int | None:
    """Give the digital number that a hundredth of the pixels do not exceed.

    Args:
        counts: Shape (values,): how many valid pixels have each digital number.

    Returns:
        None where there are too few pixels to say.
    """
    total = int(counts.sum())
    if total < FEWEST:
        return None
    return int(np.searchsorted(np.cumsum(counts), DARK_SHARE * total))


def told_by_pixels(rule: OffsetRule, darkest: Mapping[str, int]) -> Verdict:
    """Judge from the darkest pixels alone.

    With the offset in them, water, shadow and forest lie just above it and nearly nothing below.
    Where the darkest pixels are far below it, they are without. Where even they are bright, as in
    deserts, on snow and under clouds, they tell nothing.
    """
    if not darkest:
        return "cannot tell"
    least, half = min(darkest.values()), rule.added / 2
    if least < half:
        return "applied"
    # A little below it too: reflectances down to -0.01 are common in shadows.
    if rule.added * 0.9 <= least < rule.added + half:
        return "not applied"
    return "cannot tell"


def judge(
    rule: OffsetRule,
    properties: Mapping[str, Any],
    *,
    stated: float | None,
    darkest: Mapping[str, int],
    asked: OffsetChoice = "from evidence",
) -> OffsetEvidence:
    """Decide whether the offset is still in the pixels.

    Args:
        rule: The producer's.
        properties: Of the provider's item.
        stated: Offset that the item states, in physical units.
        darkest: By band, from `darkest`.
        asked: What the user decided.
    """
    baseline = _first_text(properties, rule.baselines)
    flag = properties.get(rule.flag)
    flag = flag if isinstance(flag, bool) else None
    pixels = told_by_pixels(rule, darkest)
    if asked == "from evidence":
        paper = _on_paper(rule, baseline=baseline, flag=flag, stated=stated)
        verdict, by = _decided(paper, pixels)
    else:
        verdict, by = asked, "request"
    return OffsetEvidence(
        verdict=verdict,
        decided_by=by,
        baseline=baseline,
        flag=flag,
        stated=stated,
        pixels=pixels,
        darkest=darkest,
    )


def version(baseline: str | None) -> tuple[int, int] | None:
    """Read a processing baseline as `04.00`, `5.10` or `N0500`; None: it is none."""
    found = _BASELINE.fullmatch(baseline or "")
    if found is None:
        return None
    major, minor = (number for number in found.groups() if number)
    return int(major), int(minor)


def _first_text(properties: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    said = (properties.get(name) for name in names)
    return next((str(each) for each in said if version(str(each))), None)


@dataclass(frozen=True, slots=True)
class _Paper:
    """What baseline, flag and stated offset come to; sure: no pixel can speak against it."""

    verdict: Verdict
    by: str
    sure: bool = False


def _on_paper(
    rule: OffsetRule, *, baseline: str | None, flag: bool | None, stated: float | None
) -> _Paper:
    number = version(baseline)
    if number is not None and number < rule.since:
        # Subtracted from what never had it: then dark pixels are lost, and no offset mends that.
        return _Paper("cannot tell" if flag else "applied", "baseline", sure=True)
    if flag:
        return _Paper("applied", "baseline and flag" if number else "flag")
    if number is None:
        return _Paper("cannot tell", "nothing")
    if flag is None and stated == 0:
        return _Paper("cannot tell", "nothing")  # the item says that there is none
    return _Paper("not applied", "baseline" if flag is None else "baseline and flag")


def _decided(paper: _Paper, pixels: Verdict) -> tuple[Verdict, str]:
    """Bring paper and pixels together.

    Dark pixels prove that there is no offset. Pixels just above it are what an offset looks like,
    and haze over a desert too: they count where the paper says the same, or nothing.
    """
    if paper.sure:
        return paper.verdict, paper.by if paper.verdict != "cannot tell" else "nothing"
    if pixels == "applied":
        return "applied", "pixels"
    if pixels == "cannot tell":
        return paper.verdict, paper.by
    if paper.verdict == "applied":
        return "cannot tell", "nothing"
    return "not applied", "pixels"
