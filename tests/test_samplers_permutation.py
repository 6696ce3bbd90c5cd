"""The computed shuffle is a bijection, and looks like a shuffle to chi-square tests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segkit.samplers import ShuffleSampler
from segkit.samplers._engine.permutation import TABLE, KeyedPermutation

# A test that passes at 0.001 for each of some dozens of fixed seeds: these are no coin tosses but recorded facts.
ALPHA = 1e-3


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000, TABLE, TABLE + 1, 2**13, 2**13 + 1, 99_991, 2**17 - 1])
def test_every_index_comes_once(n):
    for seed in range(3):
        indices = KeyedPermutation(n, seed, 0)(np.arange(n))
        assert indices.dtype == np.int64
        assert np.array_equal(np.sort(indices), np.arange(n))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2**40), st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.data())
def test_distinct_places_have_distinct_indices_in_range_for_any_n(n, seed, epoch, data):
    permutation = KeyedPermutation(n, seed, epoch)
    begin = data.draw(st.integers(0, max(n - 2000, 0)))
    places = np.unique(np.concatenate([np.arange(begin, min(begin + 2000, n)), [0, n - 1]]))
    indices = permutation(places)
    assert indices.min() >= 0
    assert indices.max() < n
    assert len(np.unique(indices)) == len(places)
    assert permutation.at(int(places[-1])) == indices[-1]


@pytest.mark.parametrize("n", [2**13 + 1, 2**16, 2**33 + 7])
def test_the_rounds_can_be_undone(n):
    """A bijection of the whole power of two, hence of [0, n): each round inverted by hand, in Python integers."""
    permutation = KeyedPermutation(n, 5, 6)
    modulus = int(permutation.mask) + 1
    bits = modulus.bit_length() - 1
    start = np.random.default_rng(0).integers(0, modulus, 200).astype(permutation.kind)
    ends = permutation._mix(start.copy())
    for before, value in zip(start.tolist(), ends.tolist(), strict=True):
        rounds = list(zip(permutation.factors, permutation.terms, permutation.shifts, strict=True))
        for factor, term, shift in reversed(rounds):
            undone, shifted = value, value
            for _ in range(bits // int(shift) + 1):
                shifted >>= int(shift)
                undone ^= shifted
            value = (undone - int(term)) * pow(int(factor), -1, modulus) % modulus
        assert value == before


def chi_square(counts):
    return stats.chisquare(counts.ravel()).pvalue


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [7, 100, 5000, 100_003, 10**9])
def test_positions_are_uniform(n, seed):
    """Over many epochs, where do the first and the last index go, and which index comes first?"""
    cells = min(n, 20)
    epochs = 4000
    firsts = np.array([KeyedPermutation(n, seed, epoch)(np.array([0, n // 2, n - 1])) for epoch in range(epochs)])
    for column in firsts.T:
        counts = np.bincount(column * cells // n, minlength=cells)
        expected = np.bincount(np.arange(n) * cells // n, minlength=cells) if n <= 5000 else np.ones(cells)
        assert stats.chisquare(counts, expected / expected.sum() * epochs).pvalue > ALPHA


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [4097, 10_007, 2**16, 100_003, 10**9, 2**40])
def test_an_epoch_is_spread_evenly_and_neighbours_are_unrelated(n, seed):
    permutation = KeyedPermutation(n, seed, 3)
    size = min(n, 200_000)
    for begin in {0, n - size}:
        indices = permutation(np.arange(begin, begin + size))
        cell = indices * 16 // n if n < 2**40 else indices >> 36  # 16 cells of (nearly) equal size
        assert chi_square_of_pairs(cell[:-1], cell[1:], 16) > ALPHA, "an index and the next"
        assert chi_square_of_pairs(cell[:-64], cell[64:], 16) > ALPHA, "an index and the one 64 later"
        assert chi_square_of_pairs((np.arange(size) * 16 // size)[:-1], cell[:-1], 16) > ALPHA, "place and index"
        low = indices % 16
        assert chi_square_of_pairs(low[:-1], low[1:], 16) > ALPHA, "low bits and the next"
        assert chi_square_of_pairs(np.arange(size) % 16, low, 16) > ALPHA, "low bits of place and index"
        steps = np.diff(indices) % n * 16 // n if n < 2**40 else (np.diff(indices) % n) >> 36
        if n > 2**20:  # in a small set the steps are not independent of each other
            assert chi_square(np.bincount(steps, minlength=16)) > ALPHA, "steps between neighbours"


def chi_square_of_pairs(one, other, cells):
    """The probability of so uneven a table; a permutation's margins are even, so its cells are a bit too even."""
    table = np.bincount(one * cells + other, minlength=cells * cells)
    return chi_square(table)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_epochs_are_unrelated(seed):
    n = 50_000
    orders = [KeyedPermutation(n, seed, epoch)(np.arange(n)) for epoch in range(4)]
    orders.append(KeyedPermutation(n, seed + 1, 0)(np.arange(n)))
    for one, other in itertools.combinations(orders, 2):
        assert chi_square_of_pairs(one * 16 // n, other * 16 // n, 16) > ALPHA
        assert np.count_nonzero(one == other) < 10  # 1 on average; 10 has a probability below 1e-6


def test_the_tests_can_fail():
    n = 10_007
    places = np.arange(n)
    for poor in (places, places[::-1], places * 5003 % n, (places + 17) % n):
        cell = poor * 16 // n
        assert chi_square_of_pairs(cell[:-1], cell[1:], 16) < ALPHA


def test_all_orders_of_a_small_set_come():
    orders = {tuple(KeyedPermutation(4, seed, 0)(np.arange(4))) for seed in range(400)}
    assert len(orders) == 24


def test_a_trillion_samples_need_no_memory():
    sampler = ShuffleSampler(2**40, seed=1, rank=7, world_size=8)
    assert len(sampler) == 2**37
    sampler.load_state_dict({**sampler.state_dict(), "consumed": 2**37 - 3})
    rest = [int(key) for key in sampler]
    assert len(set(rest)) == 3
    assert all(0 <= index < 2**40 for index in rest)


def test_the_order_is_the_same_in_every_version():
    """Recorded with Python 3.11 and NumPy 2.4, the same with 3.10 and 1.26: a saved place must keep its sense.

    If this fails, the order changed: raise the major version, or undo it.
    """
    recorded = {
        10: [9, 4, 3, 7, 5],
        10**6: [270998, 603705, 332622, 968849, 680450],
        2**40: [125695648430, 13704091445, 257276672475, 98990667131, 677772103604],
    }
    for n, indices in recorded.items():
        assert KeyedPermutation(n, 1, 2)(np.arange(5)).tolist() == indices
    keys = list(ShuffleSampler(10, seed=1))[:2]
    assert [int(key) for key in keys] == [6, 4]
    assert [key.generator().initial_seed() for key in keys] == [1460985886047955209, 13252440573144628013]
