"""The fast forms of quality rules."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipmill.model.judge import judge
from chipmill.model.quality import Flag, QualityRule
from chipmill.model.scratch import Scratch
from chipmill.sensors import sensors

RULES = {name: kind.quality for name, kind in sensors().items() if kind.quality}


@st.composite
def rules(draw: st.DrawFn) -> QualityRule:
    """Make a rule of flags of bits, words and values, which may overlap."""
    word = st.integers(1, 4).flatmap(
        lambda width: st.builds(
            Flag,
            first=st.integers(0, 8 - width),
            width=st.just(width),
            values=st.sets(st.integers(0, 2**width - 1), min_size=1).map(tuple),
        )
    )
    whole = st.builds(Flag, values=st.sets(st.integers(0, 255), min_size=1).map(tuple))
    flags = {f"flag{n}": draw(word | whole) for n in range(draw(st.integers(1, 4)))}
    some = st.lists(st.sampled_from(sorted(flags)), unique=True).map(tuple)
    return QualityRule(
        keys=("qa",), flags=flags, nodata=draw(some), cloud=draw(some), always=draw(some)
    )


def assert_the_same(rule: QualityRule, dtype: str) -> None:
    """Compare on every value that the type has, or the first 65,536."""
    count = 2 ** min(16, 8 * np.dtype(dtype).itemsize)
    values: NDArray[Any] = np.asarray(np.arange(count).reshape(16, -1), dtype=np.dtype(dtype))
    fast = judge(rule, values.dtype, Scratch())
    nodata, cloud = rule.masks(values)
    empty, either = masks = np.empty((2, *values.shape), np.bool_)
    fast.masks((values,), masks)
    assert np.array_equal(empty, nodata)
    assert np.array_equal(either & ~empty, cloud)
    assert (either >= empty).all()
    data = int(np.count_nonzero(~nodata))
    strange = fast.strange(values) if fast.strange else (0, data)
    assert strange == (round(rule.strange(values) * data), data)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_the_fast_form_says_what_the_rule_says(name: str, dtype: str) -> None:
    """For every value of the bands that the sensors have, and of those that they should not."""
    if dtype == "uint8" and name != "sentinel-2-l2a":
        return  # flags of words that a byte does not have
    rule = RULES[name]
    assert rule is not None
    assert_the_same(rule, dtype)


@given(rule=rules(), dtype=st.sampled_from(["uint8", "uint16"]))
def test_the_fast_form_of_any_rule(rule: QualityRule, dtype: str) -> None:
    """Rules of other packages: whatever stretches, bits or scattered values they come to."""
    assert_the_same(rule, dtype)
