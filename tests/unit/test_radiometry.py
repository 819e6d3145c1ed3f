"""Whether an offset is in the pixels: what pixels, baselines and flags prove."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.model.radiometry import (
    OffsetEvidence,
    Verdict,
    darkest,
    judge,
    told_by_pixels,
    version,
)
from chipmill.sensors import sensor

RULE = sensor("sentinel-2-l2a").offset_rule
assert RULE is not None
BASELINE, FLAG = "s2:processing_baseline", "earthsearch:boa_offset_applied"
DARK, OFFSET, BRIGHT = {"red": 161}, {"red": 1161}, {"red": 2698}


def histogram(pixels: Any) -> Any:  # noqa: ANN401  # NumPy's own arrays
    """Count digital numbers, as a step does block by block."""
    return np.bincount(np.asarray(pixels, np.int64), minlength=2**16)


def asked(darkest: dict[str, int], stated: float | None = None, **said: object) -> OffsetEvidence:
    """Judge by the darkest pixels and what an item says."""
    names = {"baseline": BASELINE, "flag": FLAG}
    properties = {names[name]: value for name, value in said.items()}
    assert RULE is not None
    return judge(RULE, properties, stated=stated, darkest=darkest)


@given(seed=st.integers(0, 2**32), count=st.integers(1000, 5000), high=st.integers(2, 20_000))
def test_the_darkest_hundredth_is_that_of_sorted_pixels(seed: int, count: int, high: int) -> None:
    """A histogram that is added up block by block gives what sorting all pixels would."""
    pixels = np.random.default_rng(seed).integers(1, high, count)
    found = darkest(histogram(pixels))
    assert found == sorted(pixels)[int(np.ceil(0.01 * len(pixels))) - 1]


def test_too_few_pixels_tell_nothing() -> None:
    """The darkest of a hundred pixels may be any pixel."""
    assert darkest(histogram([5] * 999)) is None
    assert darkest(histogram([])) is None
    assert told_by_pixels(RULE, {}) == "cannot tell"  # pyright: ignore[reportArgumentType]


@given(
    low=st.integers(1, 3000),
    spread=st.integers(1, 9000),
    seed=st.integers(0, 99),
    stated=st.sampled_from([None, 0.0, -0.1]),
    baseline=st.sampled_from([None, "02.14", "04.00", "05.10"]),
    flag=st.sampled_from([None, True, False]),
)
def test_adding_the_offset_flips_what_the_pixels_decide(
    low: int, spread: int, seed: int, stated: float | None, baseline: str | None, flag: object
) -> None:
    """The one law that needs no truth from outside: two pixels 1000 apart are not both right."""
    pixels = np.random.default_rng(seed).integers(low, low + spread, 2000)
    said = {"baseline": baseline, "flag": flag}
    before, after = (
        asked({"red": darkest(histogram(each)) or 0}, stated, **said)
        for each in (pixels, pixels + 1000)
    )
    if before.pixels == "applied":
        assert after.pixels == "not applied"
    if (before.verdict, before.decided_by) == ("applied", "pixels"):
        assert after.verdict != "applied"
    if (after.verdict, after.decided_by) == ("not applied", "pixels"):
        assert before.verdict == "applied"
    if after.pixels == "applied":
        assert before.pixels == "applied"


CASES: list[tuple[dict[str, int], dict[str, object], Verdict, str]] = [
    # Before 04.00 nothing was added, however bright or dim the scene is.
    (DARK, {"baseline": "02.14", "flag": False}, "applied", "baseline"),
    (BRIGHT, {"baseline": "03.01"}, "applied", "baseline"),
    (OFFSET, {"baseline": "02.14"}, "applied", "baseline"),
    # As the Planetary Computer, CDSE and Earth Search's collection 1 have it: it is there.
    (OFFSET, {"baseline": "04.00"}, "not applied", "pixels"),
    (BRIGHT, {"baseline": "05.10"}, "not applied", "baseline"),
    (BRIGHT, {"baseline": "05.10", "stated": -0.1}, "not applied", "baseline"),
    # As Earth Search v1 has it: subtracted, whatever offset the item states.
    (DARK, {"baseline": "05.09", "flag": True, "stated": -0.1}, "applied", "pixels"),
    (BRIGHT, {"baseline": "05.09", "flag": True}, "applied", "baseline and flag"),
    # The flag is wrong: dark pixels prove it, pixels above the offset only make it doubtful.
    (DARK, {"baseline": "05.09", "flag": False}, "applied", "pixels"),
    (DARK, {"baseline": "05.09"}, "applied", "pixels"),
    (OFFSET, {"baseline": "05.09", "flag": True}, "cannot tell", "nothing"),
    # Subtracted from what never had it: no offset mends what was cut off.
    (DARK, {"baseline": "02.14", "flag": True}, "cannot tell", "nothing"),
    # No baseline: pixels alone.
    (DARK, {}, "applied", "pixels"),
    (OFFSET, {"stated": -0.1}, "not applied", "pixels"),
    (BRIGHT, {}, "cannot tell", "nothing"),
    ({}, {"baseline": "what"}, "cannot tell", "nothing"),
    # The item says that there is none, the baseline that there is.
    (BRIGHT, {"baseline": "05.10", "stated": 0.0}, "cannot tell", "nothing"),
]


@pytest.mark.parametrize(("dark", "said", "verdict", "by"), CASES)
def test_each_kind_of_evidence(
    dark: dict[str, int], said: dict[str, Any], verdict: Verdict, by: str
) -> None:
    """A wrong verdict shifts all reflectances of a scene by 0.1 and nobody notices."""
    found = asked(dark, **said)
    assert (found.verdict, found.decided_by) == (verdict, by)


def test_what_the_user_decides_holds_and_the_evidence_is_kept() -> None:
    """Who knows how the files were made knows better; others can still see what spoke against."""
    assert RULE is not None
    said = {BASELINE: "05.09", FLAG: True}
    found = judge(RULE, said, stated=-0.1, darkest=OFFSET, asked="not applied")
    assert (found.verdict, found.decided_by) == ("not applied", "request")
    assert found.to_json() == {
        "verdict": "not applied",
        "decided_by": "request",
        "baseline": "05.09",
        "flag": True,
        "item_offset": -0.1,
        "pixels": "not applied",
        "darkest": {"red": 1161},
    }


def test_baselines_are_versions_not_numbers() -> None:
    """As a number 05.10 is less than 05.9, and 10.00 as text is less than 04.00."""
    assert version("05.10") == (5, 10)
    assert version("N0500") == (5, 0)
    assert version("10.00") == (10, 0)
    assert version("4.0") == (4, 0)
    for none in (None, "", "v1", "5", "2024.02.01"):
        assert version(none) is None
    assert asked(BRIGHT, baseline="10.00").verdict == "not applied"
