"""Quality rules against a reading of the bits by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.errors import RequestError
from chipmill.model.quality import Flag, QualityRule, told_by, value
from chipmill.model.quality import bit as bit_flag
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
def words(draw: st.DrawFn) -> Flag:
    """Draw a word that lies inside 16 bits, with some of its values."""
    first = draw(st.integers(0, 15))
    width = draw(st.integers(1, min(4, 16 - first)))
    values = draw(st.sets(st.integers(0, 2**width - 1), min_size=1))
    return Flag(first=first, width=width, values=tuple(sorted(values)))


@given(
    cloud=st.lists(words(), min_size=1, max_size=4),
    nodata=st.sets(st.integers(0, 65535), max_size=3),
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=40),
)
def test_any_word_is_read_as_its_binary_digits(
    cloud: list[Flag], nodata: set[int], values: list[int]
) -> None:
    """The rule is a table: other products have other words, and cloud is never nodata."""
    named = {f"cloud {number}": flag for number, flag in enumerate(cloud)}
    rule = QualityRule(
        keys=("state",),
        flags={**named, "empty": value(*nodata)},
        nodata=("empty",),
        cloud=tuple(named),
    )
    empty, cloudy = rule.masks(np.array([values], np.uint16))
    for each, is_empty, is_cloud in zip(values, empty[0], cloudy[0], strict=True):
        digits = f"{each:016b}"[::-1]
        read = [int(digits[word.first : word.first + (word.width or 0)][::-1], 2) for word in cloud]
        assert is_empty == (each in nodata)
        held = any(part in word.values for part, word in zip(read, cloud, strict=True))
        assert is_cloud == (held and each not in nodata)


QA_PIXEL_OF_USGS = [
    {"name": "fill", "offset": 0, "length": 1},
    {"name": "dilated", "offset": 1, "length": 1},
    {"name": "cirrus", "offset": 2, "length": 1},
    {"name": "cloud", "offset": 3, "length": 1},
    {"name": "shadow", "offset": 4, "length": 1},
    {"name": "cloud_confidence", "offset": 8, "length": 2},
]


def test_the_names_of_usgs_are_those_of_the_table() -> None:
    """USGS says `dilated` and `shadow` for what others call dilated_cloud and cloud_shadow."""
    rule = sensor("landsat-c2l2-sr").quality
    assert rule is not None
    same, differing = told_by(rule, {"classification:bitfields": QA_PIXEL_OF_USGS})
    assert differing == []
    assert same == rule


def test_an_item_may_move_a_bit() -> None:
    """A later processing moves the shadow to bit 9: the item knows, the table could not."""
    rule = sensor("landsat-c2l2-sr").quality
    assert rule is not None
    moved = [{"name": "shadow", "offset": 9, "length": 1}, {"name": "cloud", "offset": "x"}, 7]
    told, differing = told_by(rule, {"classification:bitfields": moved})
    assert differing == ["cloud_shadow: the item has bit 9, the table bit 4"]
    _, cloud = told.masks(np.array([[1 << 9, 1 << 4, 1 << 3]], np.uint16))
    assert cloud.tolist() == [[True, False, True]]


def test_an_item_may_renumber_a_class() -> None:
    """The same for a band of classes."""
    rule = sensor("sentinel-2-l2a").quality
    assert rule is not None
    told, differing = told_by(
        rule, {"classification:classes": [{"name": "thin_cirrus", "value": 20}]}
    )
    assert differing == ["thin_cirrus: the item has value 20, the table value 10"]
    assert told.masks(np.array([[20, 10]], np.uint8))[1].tolist() == [[True, False]]


def test_people_choose_what_counts_as_cloud() -> None:
    """Who trains on snow and shadow wants thick cloud alone left out."""
    rule = sensor("sentinel-2-l2a").quality
    assert rule is not None
    thick = rule.counting(("cloud_high_probability",))
    assert thick.masks(np.array([[9, 8, 3, 0]], np.uint8))[1].tolist() == [
        [True, False, False, False]
    ]
    assert rule.counting(()) is rule
    with pytest.raises(RequestError, match="no cloud class 'clouds'; the sensor has no_data, "):
        rule.counting(("clouds",))


def test_a_band_from_before_collection_2_is_strange() -> None:
    """In Collection 2 each pixel is fill, clear, cloud or near one; 20480 has none of the bits."""
    rule = sensor("landsat-c2l1").quality
    assert rule is not None
    assert rule.strange(np.array([[20480, 61472, 24576]], np.uint16)) > 0.5
    assert rule.strange(np.array([[21824, 22280, 1, 23888]], np.uint16)) == 0
    one = QualityRule(keys=("qa",), flags={"cloud": bit_flag(3)}, nodata=(), cloud=("cloud",))
    assert one.strange(np.array([[20480]], np.uint16)) == 0
