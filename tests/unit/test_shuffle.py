"""Laws of the keyed randomness that every order is made of."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.model.shuffle import permutation, permutation_within, ranks, sample

words = st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=8))
keys = st.lists(words, max_size=4)
SEEDS = range(2000)


def test_the_empty_key_is_the_published_stream() -> None:
    """The first numbers of splitmix64 from state 0, which other implementations print as well."""
    assert ranks(5, key=()).tolist() == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
        0xF88BB8A8724C81EC,
        0x1B39896A51A8749B,
    ]


def test_keyed_values_never_change() -> None:
    """A plan made by one release must be read by the next: if this fails, so does a resume."""
    assert ranks(3, key=("golden", -1, 2**70)).tolist() == [
        0xCE3EA075183C85A1,
        0x1B8DE4885F002546,
        0x6D7CF8AAEAC310F3,
    ]
    assert permutation(10, key=(7,)).tolist() == [9, 5, 4, 2, 3, 1, 0, 8, 7, 6]
    parts = np.array([1, 0, 1, 0, 2, 1, 0, 2])
    assert permutation_within(parts, key=("golden", 7)).tolist() == [1, 3, 6, 2, 5, 0, 4, 7]


@given(key=keys, n=st.integers(0, 300), more=st.integers(0, 300))
def test_a_rank_depends_on_key_and_index_alone(key: list[int | str], n: int, more: int) -> None:
    """A counter-based hash has no history: more things never change the ranks of the first."""
    assert np.array_equal(ranks(n, key=key), ranks(n + more, key=key)[:n])


@given(key=keys, n=st.integers(0, 300))
def test_no_two_ranks_are_equal(key: list[int | str], n: int) -> None:
    """Ties would leave the order to the sort; a bijective mixer has none."""
    assert len(np.unique(ranks(n, key=key))) == n


@given(key=keys, n=st.integers(0, 300))
def test_a_permutation_has_each_number_once(key: list[int | str], n: int) -> None:
    """A shuffle loses nothing and doubles nothing."""
    assert np.array_equal(np.sort(permutation(n, key=key)), np.arange(n))


@given(key=keys, parts=st.lists(st.integers(0, 9), max_size=100))
def test_a_permutation_within_parts_sorts_the_parts(key: list[int | str], parts: list[int]) -> None:
    """Things are grouped by part, each thing once."""
    numbers = np.array(parts, dtype=np.int64)
    order = permutation_within(numbers, key=key)
    assert np.array_equal(np.sort(order), np.arange(len(parts)))
    assert np.array_equal(numbers[order], np.sort(numbers))


@given(key=keys, n=st.integers(0, 300), data=st.data())
def test_a_sample_has_no_number_twice(key: list[int | str], n: int, data: st.DataObject) -> None:
    """Chips that are cut are that many different ones."""
    count = data.draw(st.integers(0, n))
    drawn = sample(n, count, key=key)
    assert len(set(drawn.tolist())) == count
    assert not count or (drawn[0] >= 0 and drawn[-1] < n)
    assert np.array_equal(drawn, np.sort(drawn))


def test_each_sample_is_equally_likely() -> None:
    """Three of six: twenty sets, over 2000 seeds."""
    seen = Counter(tuple(sample(6, 3, key=(seed,)).tolist()) for seed in SEEDS)
    expected = len(SEEDS) / 20
    assert len(seen) == 20
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert abs(chi_square - 19) < 4 * np.sqrt(2 * 19)


@given(key=keys, n=st.integers(0, 300), cut=st.integers(0, 300))
def test_ranks_come_in_pieces(key: list[int | str], n: int, cut: int) -> None:
    """An order of millions of chips is shuffled piece by piece."""
    cut = min(cut, n)
    pieces = [ranks(cut, key=key), ranks(n - cut, key=key, start=cut)]
    assert np.array_equal(np.concatenate(pieces), ranks(n, key=key))


@given(key=keys, other=keys)
def test_other_keys_give_other_ranks(key: list[int | str], other: list[int | str]) -> None:
    """Seeds, epochs and uses are independent, whatever their length, sign and size."""
    assert (key == other) == np.array_equal(ranks(4, key=key), ranks(4, key=other))


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ((), (0,)),
        ((0,), (0, 0)),
        ((1, 2), (2, 1)),
        ((-1,), (2**64 - 1,)),
        ((0,), (2**64,)),
        ((1,), (2**128 + 1,)),
        (("1",), (1,)),
        (("a", "b"), ("ab",)),
    ],
)
def test_keys_that_look_alike_are_different(
    key: tuple[int | str, ...], other: tuple[int | str, ...]
) -> None:
    """Folding a key into 64 bits by truncation or addition would confuse these."""
    assert not np.array_equal(ranks(4, key=key), ranks(4, key=other))


def test_a_numpy_integer_is_the_same_key_as_a_python_one() -> None:
    """Numbers of scenes and groups come out of arrays; their type must not change the order."""
    assert np.array_equal(ranks(4, key=(np.int64(-3),)), ranks(4, key=(-3,)))


def test_a_permutation_is_uniform_over_seeds() -> None:
    """Each thing comes to each place equally often, and neighbouring seeds are independent."""
    n = 16
    seen = np.zeros((n, n))
    for seed in SEEDS:
        seen[np.arange(n), permutation(n, key=(seed,))] += 1
    expected = len(SEEDS) / n
    chi_square = ((seen - expected) ** 2 / expected).sum() * (n - 1) / n
    freedom = (n - 1) ** 2
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_half_of_the_bits_move_with_each_bit_of_the_seed() -> None:
    """Avalanche: seeds that differ in one bit share no structure."""
    moved = [
        (ranks(1, key=(seed,))[0] ^ ranks(1, key=(seed ^ (1 << bit),))[0]).item().bit_count()
        for seed in range(20)
        for bit in range(64)
    ]
    assert abs(np.mean(moved) - 32) < 0.5
    assert min(moved) > 8
