"""Mixes of strata: the ratios that were asked for, from as many scenes as there can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.errors import RequestError
from chipmill.model.mix import mixed_scenes

NAMES = ["a", "b", "c"]


@given(
    scenes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50)), min_size=3, max_size=60),
    weights=st.tuples(*[st.sampled_from((0.5, 1.0, 3.0, 10.0))] * 3),
    seed=st.integers(0, 99),
)
def test_chips_come_in_the_ratios_of_the_weights(
    scenes: list[tuple[int, int]], weights: tuple[float, float, float], seed: int
) -> None:
    """The scarcest stratum is used whole; each other misses its share by half a scene at most.

    Scenes without usable chips are none of a mix.
    """
    strata, counts = np.array([*scenes, (0, 5), (1, 5), (2, 5)]).T
    mix = dict(zip(NAMES, weights, strict=True))
    used = mixed_scenes(strata, counts, names=NAMES, mix=mix, key=(seed, 0))
    chips = np.bincount(strata, weights=counts)
    taken = np.bincount(strata[used], weights=counts[used], minlength=3)
    scale = (chips / weights).min()
    for stratum, weight in enumerate(weights):
        most = counts[strata == stratum].max()
        few = np.count_nonzero(used & (strata == stratum))
        assert few
        assert abs(taken[stratum] - weight * scale) <= (most if few == 1 else most / 2) + 1e-6
    scarcest = int((chips / weights).argmin())
    assert used[(strata == scarcest) & (counts > 0)].all()
    assert counts[used].all()


def test_epochs_draw_other_scenes_and_all_come_at_some_time() -> None:
    """What one epoch leaves out, another has."""
    strata, counts = np.repeat([0, 1], [2, 20]), np.ones(22, int)
    mix = {"a": 1.0, "b": 3.0}
    drawn = [
        mixed_scenes(strata, counts, names=["a", "b"], mix=mix, key=(1, epoch))
        for epoch in range(40)
    ]
    assert all(used.sum() == 8 for used in drawn)
    assert np.any(drawn, axis=0).all()


def test_strata_that_are_not_named_are_not_used() -> None:
    """A mix says all that it wants."""
    strata, counts = np.array([0, 1, 2]), np.array([3, 3, 3])
    used = mixed_scenes(strata, counts, names=NAMES, mix={"b": 1.0}, key=(0, 0))
    assert used.tolist() == [False, True, False]


@pytest.mark.parametrize("mix", [{"z": 1.0}, {"a": 1.0, "c": 2.0}])
def test_a_stratum_without_chips_is_refused(mix: dict[str, float]) -> None:
    """A ratio to nothing would leave everything out."""
    strata, counts = np.array([0, 1, 2]), np.array([3, 3, 0])
    with pytest.raises(RequestError, match=r"the mix names '[cz]', where usable chips are of 'a'"):
        mixed_scenes(strata, counts, names=NAMES, mix=mix, key=(0, 0))
