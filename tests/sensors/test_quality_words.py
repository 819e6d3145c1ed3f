"""Quality rules against a reading of the bits by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.model.quality import BitRule, Word, WordRule
from chipmill.sensors import sensor

EVERY = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
"""All values of a quality band of 16 bits, as pixels (y, x)."""


def bit(value: int, number: int) -> str:
    """Give one binary digit; bit 0 is the last one that is written."""
    return f"{value:016b}"[15 - number]


def state_cloud(value: int) -> bool:
    """Read the state word of MOD09A1 as the user's guide has it, high bit first."""
    cloudy_or_mixed = bit(value, 1) + bit(value, 0) in ("01", "10")
    shadow = bit(value, 2) == "1"
    average_or_high_cirrus = bit(value, 9) + bit(value, 8) in ("10", "11")
    own_test = bit(value, 10) == "1"
    return value != 65535 and (cloudy_or_mixed or shadow or average_or_high_cirrus or own_test)


def qa_cloud(value: int) -> bool:
    """Read QA_PIXEL: dilated cloud, cirrus, cloud and shadow; fill is no cloud."""
    return bit(value, 0) == "0" and "1" in {bit(value, number) for number in (1, 2, 3, 4)}


def state_fill(value: int) -> bool:
    """Tell the fill of the state word: all of its bits are set."""
    return "0" not in f"{value:016b}"


def qa_fill(value: int) -> bool:
    """Tell the fill of QA_PIXEL."""
    return bit(value, 0) == "1"


@pytest.mark.parametrize(
    ("name", "cloud", "fill"),
    [
        ("modis-09a1", state_cloud, state_fill),
        ("landsat-c2l1", qa_cloud, qa_fill),
        ("landsat-c2l2-sr", qa_cloud, qa_fill),
    ],
)
def test_every_value_is_judged_as_by_hand(
    name: str, cloud: Callable[[int], bool], fill: Callable[[int], bool]
) -> None:
    """A bit read at the wrong place drops clear chips and keeps clouds, and nobody sees it."""
    rule = sensor(name).quality
    assert rule is not None
    nodata, cloudy = rule.masks(EVERY)
    values = EVERY.ravel().tolist()
    assert nodata.ravel().tolist() == [fill(value) for value in values]
    assert cloudy.ravel().tolist() == [cloud(value) for value in values]


def test_mixed_is_cloud_and_not_set_is_clear() -> None:
    """A test of bit 0 and bit 1 one by one, as is easily written, calls mixed pixels clear."""
    rule = sensor("modis-09a1").quality
    assert rule is not None
    clear, cloudy, mixed, not_set = 0b00, 0b01, 0b10, 0b11
    _, cloud = rule.masks(np.array([[clear, cloudy, mixed, not_set]], np.uint16))
    assert cloud.tolist() == [[False, True, True, False]]


def test_both_levels_of_landsat_share_one_rule() -> None:
    """QA_PIXEL is the same file at both levels: two rules would come to differ."""
    assert sensor("landsat-c2l1").quality is sensor("landsat-c2l2-sr").quality


@st.composite
def words(draw: st.DrawFn) -> Word:
    """Draw a word that lies inside 16 bits, with some of its values."""
    first = draw(st.integers(0, 15))
    width = draw(st.integers(1, min(4, 16 - first)))
    values = draw(st.sets(st.integers(0, 2**width - 1), min_size=1))
    return Word(first=first, width=width, values=tuple(sorted(values)))


@given(
    cloud=st.lists(words(), min_size=1, max_size=4),
    nodata=st.sets(st.integers(0, 65535), max_size=3),
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=40),
)
def test_any_word_is_read_as_its_binary_digits(
    cloud: list[Word], nodata: set[int], values: list[int]
) -> None:
    """The rule is a table: other products have other words, and cloud is never nodata."""
    rule = WordRule(keys=("state",), nodata=tuple(nodata), cloud=tuple(cloud))
    empty, cloudy = rule.masks(np.array([values], np.uint16))
    for value, is_empty, is_cloud in zip(values, empty[0], cloudy[0], strict=True):
        digits = f"{value:016b}"[::-1]
        read = [int(digits[word.first : word.first + word.width][::-1], 2) for word in cloud]
        assert is_empty == (value in nodata)
        held = any(each in word.values for each, word in zip(read, cloud, strict=True))
        assert is_cloud == (held and value not in nodata)


@given(bits=st.sets(st.integers(0, 15), min_size=1))
def test_words_of_one_bit_are_a_bit_rule(bits: set[int]) -> None:
    """The two kinds of rule agree where both can say the same."""
    chosen = tuple(sorted(bits))
    by_word = WordRule(
        keys=("qa",),
        nodata=(),
        cloud=tuple(Word(first=number, width=1, values=(1,)) for number in chosen),
    )
    by_bit = BitRule(keys=("qa",), nodata=(), cloud=chosen)
    for one, other in zip(by_word.masks(EVERY), by_bit.masks(EVERY), strict=True):
        assert np.array_equal(one, other)
