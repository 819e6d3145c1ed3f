"""Laws of dealing: scenes to megabatches, chips to minibatches."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.errors import RequestError
from chipmill.model.deal import deal_chips, deal_scenes, hands

strata_lists = st.lists(st.integers(-2, 5), max_size=120)
seeds = st.integers(-(2**65), 2**65)


@given(strata=strata_lists, megabatch=st.integers(1, 40), seed=seeds, epoch=st.integers(0, 9))
def test_megabatches_are_as_few_and_as_even_as_can_be(
    strata: list[int], megabatch: int, seed: int, epoch: int
) -> None:
    """Every scene is in one megabatch, none overflows fast storage, none is much smaller."""
    dealt = deal_scenes(np.array(strata, dtype=int), megabatch=megabatch, seed=seed, epoch=epoch)
    sizes = np.bincount(dealt)
    assert dealt.dtype == np.int32
    assert len(dealt) == len(strata)
    assert len(sizes) == -(-len(strata) // megabatch)
    assert sizes.max(initial=0) <= megabatch
    assert not len(sizes) or sizes.max() - sizes.min() <= 1


@given(strata=strata_lists, megabatch=st.integers(1, 40), seed=seeds)
def test_each_megabatch_has_the_mix_of_all_strata(
    strata: list[int], megabatch: int, seed: int
) -> None:
    """A model that sees one sensor for hours forgets the others: shares differ by one scene."""
    numbers = np.array(strata, dtype=int)
    dealt = deal_scenes(numbers, megabatch=megabatch, seed=seed, epoch=0)
    megabatches = -(-len(strata) // megabatch)
    for stratum in set(strata):
        share = np.bincount(dealt[numbers == stratum], minlength=megabatches)
        assert share.max() - share.min() <= 1


def test_the_deal_of_scenes_never_changes() -> None:
    """Plans are named by their inputs: the same inputs must deal the same in every release."""
    strata = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    dealt = deal_scenes(strata, megabatch=4, seed=7, epoch=0)
    assert dealt.tolist() == [2, 2, 1, 0, 1, 0, 0, 2, 1, 1]


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 1}])
def test_seed_and_epoch_deal_anew(change: dict[str, int]) -> None:
    """Each epoch must bring other scenes together."""
    strata = np.zeros(200, dtype=int)
    first = {"megabatch": 20, "seed": 1, "epoch": 0}
    assert np.array_equal(deal_scenes(strata, **first), deal_scenes(strata, **first))
    assert not np.array_equal(deal_scenes(strata, **first), deal_scenes(strata, **(first | change)))


def test_scenes_and_remainders_fall_evenly_over_seeds() -> None:
    """No scene is tied to a number, and the short megabatches are not always the same ones."""
    strata, megabatches, trials = np.repeat([0, 1, 2], [5, 7, 10]), 6, 1500
    seen = np.zeros((len(strata), megabatches))
    for seed in range(trials):
        dealt = deal_scenes(strata, megabatch=4, seed=seed, epoch=0)
        seen[np.arange(len(strata)), dealt] += 1
    deviation = np.sqrt(trials / megabatches * (1 - 1 / megabatches))
    assert np.abs(seen - trials / megabatches).max() < 4.5 * deviation
    sizes = seen.sum(axis=0) / trials
    assert np.abs(sizes - len(strata) / megabatches).max() < 0.06


def test_scenes_meet_equally_often_over_seeds() -> None:
    """Scenes that stand together in the catalogue are neighbours: they must not stay together."""
    scenes, size, trials = 12, 4, 1500
    met = np.zeros((scenes, scenes))
    for seed in range(trials):
        dealt = deal_scenes(np.zeros(scenes, dtype=int), megabatch=size, seed=seed, epoch=0)
        met += dealt[:, None] == dealt
    chance = (size - 1) / (scenes - 1)
    deviation = np.sqrt(trials * chance * (1 - chance))
    apart = ~np.eye(scenes, dtype=bool)
    assert np.abs(met[apart] - trials * chance).max() < 4 * deviation


@pytest.mark.parametrize("megabatch", [0, -1])
def test_a_megabatch_without_scenes_is_refused(megabatch: int) -> None:
    """A size from a configuration is named with its value, not met as a division by zero."""
    with pytest.raises(RequestError, match=f"cannot hold {megabatch} scenes"):
        deal_scenes(np.zeros(3, dtype=int), megabatch=megabatch, seed=0, epoch=0)


def test_strata_that_are_no_list_are_refused() -> None:
    """One number a scene: a table would be dealt flat without a word."""
    with pytest.raises(RequestError, match=r"shape \(2, 2\)"):
        deal_scenes(np.zeros((2, 2), dtype=int), megabatch=1, seed=0, epoch=0)


@given(
    counts=st.lists(st.integers(1, 12), max_size=40), spare=st.integers(0, 3), seed=st.integers()
)
def test_chips_are_dealt_evenly_and_no_scene_meets_itself(
    counts: list[int], spare: int, seed: int
) -> None:
    """The law of every minibatch, also when the last row is short and scenes are at the limit."""
    scene = np.repeat(np.arange(len(counts)), counts)
    minibatches = max(counts, default=0) + spare
    dealt = deal_chips(np.array(counts, np.int64), minibatches, key=(seed,))
    sizes = np.bincount(dealt, minlength=minibatches)
    assert len(dealt) == len(scene)
    assert len(sizes) == minibatches
    assert not len(sizes) or sizes.max() - sizes.min() <= 1
    assert len(set(zip(dealt.tolist(), scene.tolist(), strict=True))) == len(scene)


@pytest.mark.parametrize(
    ("counts", "minibatches", "deals"),
    [
        ([2, 2, 2], 3, 24),  # scene 1 has one place above and one below: 3! x 4
        ([3, 3], 4, 144),  # one above, two of the last row's two below: 4! x 3 x 2
        ([2, 3, 1], 3, 12),  # a scene that leaves no choice but which two: 3! x 2
    ],
)
def test_every_lawful_deal_is_equally_likely(
    counts: list[int], minibatches: int, deals: int
) -> None:
    """What the repair of crossing scenes moves about must favour none of the lawful deals."""
    trials = deals * 60
    seen = Counter(
        tuple(deal_chips(np.array(counts), minibatches, key=(seed,)).tolist())
        for seed in range(trials)
    )
    assert len(seen) == deals
    chi_square = sum((count - 60) ** 2 / 60 for count in seen.values())
    assert abs(chi_square - (deals - 1)) < 4 * np.sqrt(2 * (deals - 1))


def test_hands_hold_all_cards_in_any_place() -> None:
    """Each card comes to its minibatch, and over 600 seeds equally often to each place there."""
    counts = np.array([3, 2, 3, 2])
    cards = np.arange(100, 110)
    seen = np.zeros((10, 3))
    for seed in range(600):
        dealt = deal_chips(counts, 4, key=(seed,))
        held, sizes = hands(cards, dealt, 4, key=("places", seed))
        owner = np.repeat(np.arange(4), sizes)
        assert sorted(sizes) == [2, 2, 3, 3]
        assert sorted(zip(owner, held, strict=True)) == sorted(zip(dealt, cards, strict=True))
        place = np.arange(10) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        three = sizes[owner] == 3
        seen[held[three] - 100, place[three]] += 1
    each = seen.sum(axis=1, keepdims=True) / 3
    assert ((seen - each) ** 2 / each).sum() < 20 + 4 * np.sqrt(40)


def test_a_scene_with_too_many_chips_is_refused() -> None:
    """It would have to meet itself, which a deal promises never to do."""
    with pytest.raises(RequestError, match="3 chips does not fit in 2 minibatches"):
        deal_chips(np.array([3, 1]), 2, key=(0,))
