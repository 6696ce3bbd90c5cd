"""Class-balanced and repeat-factor sampling against their closed forms; hard samples against a ledger."""

from __future__ import annotations

import functools
import json
import math
import re

import numpy as np
import pytest

from segkit.mining import DifficultyLedger, Tag
from segkit.samplers import (
    AfterEpoch,
    ClassBalancedSampler,
    DifficultySampler,
    LinearSchedule,
    MultiScaleBatchSampler,
    RepeatFactorSampler,
    StepSchedule,
)


def table(n=60, classes=4, seed=0):
    """Pixels of each class: class 0 everywhere, the others rarer and rarer."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 1000, (n, classes))
    pixels[:, 1:] *= rng.random((n, classes - 1)) < np.array([0.5, 0.2, 0.05])[: classes - 1]
    pixels[0, 1:] = 1  # every class somewhere
    return pixels


def hard_ledger(n=40, hard=8):
    ledger = DifficultyLedger(n)
    ledger.update(range(n), [0.1 + i / 1000 for i in range(n - hard)] + [5.0] * hard)
    return ledger


def epochs(sampler, number):
    return [list(sampler) for _ in range(number)]


@pytest.mark.parametrize("draws", [None, 7, 100, 1000])
def test_classes_are_drawn_equally_often_and_samples_within_them(draws):
    pixels = table()
    sampler = ClassBalancedSampler(pixels, num_samples=draws, seed=1)
    for keys in epochs(sampler, 3):
        total = draws or 60
        assert len(keys) == len(sampler) == total
        assert all(pixels[key, key.focus_class] > 0 for key in keys), "the sample holds the class drawn"
        per_class = np.bincount([key.focus_class for key in keys], minlength=4)
        assert set(per_class) <= {total // 4, -(-total // 4)}
        for label in range(4):
            members = np.flatnonzero(pixels[:, label])
            counts = np.bincount([int(k) for k in keys if k.focus_class == label], minlength=60)[members]
            assert set(counts) <= {per_class[label] // len(members), -(-per_class[label] // len(members))}


def test_class_balanced_counts_are_the_closed_form_on_average():
    labels = np.array([0] * 50 + [1] * 9 + [2])
    sampler = ClassBalancedSampler(labels, num_samples=60, seed=0)
    counts = sum(np.bincount([int(key) for key in keys], minlength=60) for keys in epochs(sampler, 400)) / 400
    expected = np.array([20 / 50] * 50 + [20 / 9] * 9 + [20])
    # A count is rounded up with probability p each epoch: its mean over 400 strays by less than 5 sigma.
    share = expected % 1
    assert (np.abs(counts - expected) <= 5 * np.sqrt(share * (1 - share) / 400) + 1e-9).all()
    assert all(key.focus_class is None for key in sampler), "labels are no masks"


def test_repeat_factors_are_those_of_the_paper():
    pixels = table()
    sampler = RepeatFactorSampler(pixels, threshold=0.3)
    for sample in range(60):
        factor = 1.0
        for label in range(4):
            if pixels[sample, label]:
                frequency = sum(pixels[i, label] > 0 for i in range(60)) / 60
                factor = max(factor, math.sqrt(0.3 / frequency))
        assert sampler.factors[sample] == pytest.approx(factor)
    assert len(sampler) == round(sampler.factors.sum())


def test_repeat_factor_counts_are_the_closed_form():
    pixels = table()
    sampler = RepeatFactorSampler(pixels, threshold=0.3, seed=2)
    per_epoch = np.array([np.bincount([int(k) for k in keys], minlength=60) for keys in epochs(sampler, 400)])
    expected = sampler.factors * len(sampler) / sampler.factors.sum()
    assert (per_epoch >= np.floor(expected - 1e-9)).all()
    assert (per_epoch <= np.ceil(expected + 1e-9)).all()
    share = expected % 1
    assert (np.abs(per_epoch.mean(0) - expected) <= 5 * np.sqrt(share * (1 - share) / 400) + 1e-9).all()


def test_repeated_draws_have_their_own_randomness():
    for sampler in (
        ClassBalancedSampler([0] * 9 + [1], num_samples=20),
        RepeatFactorSampler([0] * 99 + [1], threshold=1.0),
        DifficultySampler(hard_ledger(), hard_ratio=0.9, warmup_epochs=0),
    ):
        keys = list(sampler)
        assert len(set(keys)) < len(keys), "some samples come again"
        seeds = {key.generator().initial_seed() for key in keys}
        assert len(seeds) == len(keys)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_hard_samples_get_their_share(ratio):
    sampler = DifficultySampler(hard_ledger(), hard_ratio=ratio, warmup_epochs=2, hard=0.2, seed=1)
    plain = epochs(sampler, 2)
    assert all(sorted(keys) == list(range(40)) for keys in plain), "warmup is a plain shuffle"
    for keys in epochs(sampler, 3):
        assert len(keys) == len(sampler) == 40
        counts = np.bincount([int(key) for key in keys], minlength=40)
        assert counts[32:].sum() == round(40 * ratio)
        for pool in (counts[:32], counts[32:]):
            assert pool.max() - pool.min() <= 1


def test_easy_samples_are_left_out_by_turns():
    sampler = DifficultySampler(hard_ledger(), hard_ratio=None, warmup_epochs=0, drop_easy=0.2, easy=0.3, seed=1)
    missing = [set(range(40)) - {int(key) for key in keys} for keys in epochs(sampler, 6)]
    assert all(len(out) == 8 and out <= set(range(12)) for out in missing)
    assert len({tuple(sorted(out)) for out in missing}) > 1


def test_the_share_follows_a_schedule():
    sampler = DifficultySampler(hard_ledger(), hard_ratio=LinearSchedule(0.2, 0.6, epochs=4), warmup_epochs=1)
    assert [sum(key >= 32 for key in keys) / 40 for keys in epochs(sampler, 6)] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.6]
    after = DifficultySampler(hard_ledger(), hard_ratio=AfterEpoch(2, 0.5), warmup_epochs=0)
    assert [sum(key >= 32 for key in keys) for keys in epochs(after, 3)] == [8, 8, 20]
    step = DifficultySampler(hard_ledger(), hard_ratio=StepSchedule({0: 0.1, 1: 0.9}), warmup_epochs=0)
    assert [sum(key >= 32 for key in keys) for keys in epochs(step, 2)] == [4, 36]
    own = DifficultySampler(hard_ledger(), hard_ratio=lambda epoch: 0.5 if epoch % 2 else 0.1, warmup_epochs=0)
    assert [sum(key >= 32 for key in keys) for keys in epochs(own, 2)] == [4, 20]


def noisy_ledger():
    """30 samples learn; 0 to 2 never do; 3 was hard and falls slowly."""
    ledger = DifficultyLedger(30, momentum=0.5)
    for epoch in range(8):
        losses = np.full(30, 2.0 * 0.6**epoch)
        losses[:3] = 3.0
        losses[3] = 6.0 * 0.9**epoch
        ledger.update(range(30), losses, epoch=epoch)
    return ledger


def test_samples_that_never_get_better_are_set_apart_and_not_drilled():
    ledger = noisy_ledger()
    assert np.flatnonzero(ledger.noisy()).tolist() == [0, 1, 2]
    assert np.flatnonzero(ledger.tags(hard=0.2) & Tag.HARD).tolist()[:4] == [0, 1, 2, 3], "they are hard, too"
    sampler = DifficultySampler(ledger, hard_ratio=0.6, warmup_epochs=0, hard=0.2, seed=0)
    counts = np.bincount([int(key) for key in sampler], minlength=30)
    assert counts[:3].max() <= 1
    assert counts[3] >= 6
    assert ledger.summary()["noisy"] == {"samples": 3, "first": [0, 1, 2]}


def test_nothing_is_noise_before_the_network_learns():
    ledger = DifficultyLedger(10)
    for _ in range(9):
        ledger.update(range(10), np.linspace(1, 2, 10))
    assert not ledger.noisy().any()


def test_updates_during_an_epoch_leave_its_order_alone_also_on_resuming(tmp_path):
    def build(ledger):
        return DifficultySampler(ledger, hard_ratio=0.5, warmup_epochs=0, seed=4)

    sampler = build(hard_ledger())
    list(sampler)
    whole = list(sampler)
    again = hard_ledger()
    stopped = build(again)
    list(stopped)
    reading = iter(stopped)
    head = [next(reading) for _ in range(11)]
    again.update(range(40), np.linspace(9, 0, 40))  # what was hard is easy now
    again.save(tmp_path / "ledger.npz")
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = build(DifficultyLedger.load(tmp_path / "ledger.npz"))
    resumed.load_state_dict(state)
    assert head + list(resumed) == whole
    with pytest.raises(ValueError, match="must belong to the order as it is now.*First load the ledger that was saved"):
        build(DifficultyLedger(40)).load_state_dict(state)


def test_ranks_have_equal_steps_though_their_ledgers_differ():
    def steps(rank, ledger):
        return sum(1 for _ in DifficultySampler(ledger, warmup_epochs=0, drop_easy=0.3, rank=rank, world_size=2))

    assert steps(0, hard_ledger()) == steps(1, DifficultyLedger(40)) == 14


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("tail", ["pad", "drop", "uneven"])
def test_the_ranks_together_draw_what_one_would(world, tail):
    def samplers(rank, world):
        common = {"rank": rank, "world_size": world, "tail": tail, "seed": 3}
        yield ClassBalancedSampler(table(), num_samples=50, **common)
        yield RepeatFactorSampler(table(), threshold=0.3, **common)
        yield DifficultySampler(hard_ledger(), hard_ratio=0.5, warmup_epochs=0, drop_easy=0.1, **common)

    for number, alone in enumerate(samplers(0, 1)):
        keys = [(int(k), k.position, k.focus_class) for k in alone]
        per_rank = [list(list(samplers(rank, world))[number]) for rank in range(world)]
        dealt = [(int(k), k.position, k.focus_class) for rank in per_rank for k in rank]
        if tail == "pad":
            assert set(dealt) == set(keys)
            assert len({len(rank) for rank in per_rank}) == 1
        elif tail == "drop":
            assert sorted(dealt, key=lambda k: k[1]) == keys[: len(keys) // world * world]
        else:
            assert sorted(dealt, key=lambda k: k[1]) == keys


@pytest.mark.parametrize("make", [
    lambda: ClassBalancedSampler(table(), num_samples=30, seed=3),
    lambda: RepeatFactorSampler(table(n=21), threshold=0.3, seed=3),
    lambda: DifficultySampler(hard_ledger(24), hard_ratio=0.5, warmup_epochs=0, seed=3),
    lambda: MultiScaleBatchSampler(ClassBalancedSampler(table(), seed=3), scales=[32, 64], batch_size=4, every=1),
])  # fmt: skip
def test_resuming_at_every_place_is_never_having_stopped(make):
    whole = list(make())
    following = make()
    list(following)
    following = list(following)
    for place in range(len(whole) + 1):
        stopped, resumed = make(), make()
        reading = iter(stopped)
        head = [next(reading) for _ in range(place)]
        state = json.loads(json.dumps(stopped.state_dict()))
        assert len(json.dumps(state)) < 1024
        if place and isinstance(resumed, DifficultySampler):
            resumed.ledger = stopped.ledger
        resumed.load_state_dict(state)
        assert head + (list(resumed) if place < len(whole) else []) == whole
        if not isinstance(resumed, DifficultySampler):
            assert list(resumed) == following


def rising(start, epoch):
    return min(start + epoch / 10, 1.0)


def test_a_state_stays_small_and_fits_another_process_with_any_schedule():
    steps = StepSchedule({epoch: epoch / 200 for epoch in range(150)})
    for ratio in (steps, functools.partial(rising, 0.1), lambda epoch: 0.5):
        sampler = DifficultySampler(hard_ledger(), hard_ratio=ratio, warmup_epochs=0)
        batches = MultiScaleBatchSampler(sampler, scales=range(32, 32 * 100, 32), batch_size=2)
        for one in (sampler, batches):
            text = json.dumps(one.state_dict())
            assert len(text) < 1024
            assert " at 0x" not in text
            one.load_state_dict(json.loads(text))
    other = DifficultySampler(hard_ledger(), hard_ratio=StepSchedule({0: 0.5}), warmup_epochs=0)
    state = DifficultySampler(hard_ledger(), hard_ratio=steps, warmup_epochs=0).state_dict()
    with pytest.raises(ValueError, match="must be of a sampler with hard_ratio"):
        other.load_state_dict(state)


def test_batches_of_one_size_carry_the_focus_class():
    sampler = MultiScaleBatchSampler(
        ClassBalancedSampler(table(), seed=1), scales=[32, (64, 96)], batch_size=4, every=1
    )
    for batch in sampler:
        assert len({key.size for key in batch}) == 1
        assert all(key.focus_class is not None for key in batch)


@pytest.mark.parametrize(("sampler", "sentence"), [
    (RepeatFactorSampler([0, 1] * 50, threshold=0.1), "threshold=0.1: no class is in a smaller share"),
    (ClassBalancedSampler([0, 1] * 50), "balancing: all classes are equally frequent already"),
    (ClassBalancedSampler([1] * 5), "balancing: 1 class is in the samples"),
    (DifficultySampler(hard_ledger(), hard_ratio=0.2), "hard_ratio=0.2: it is the share of the hard samples anyway"),
    (DifficultySampler(hard_ledger(), hard_ratio=None), "hard_ratio=None and drop_easy=0: every epoch is a plain"),
    (DifficultySampler(hard_ledger(), warmup_epochs=9), "all of it, until epoch 9"),
    (DifficultySampler(hard_ledger(), drop_easy=0.01), "drop_easy=0.01: less than one of 40 samples"),
    (MultiScaleBatchSampler(9, scales=[32, (32, 32)], batch_size=2), "all scales are the same"),
    (MultiScaleBatchSampler(9, scales=[32, 64], batch_size=2, max_pixels=2**20), "batches of 2 stay below it"),
    (MultiScaleBatchSampler(ClassBalancedSampler([1] * 5), scales=[32, 64], batch_size=2), "balancing: 1 class"),
])  # fmt: skip
def test_describe_says_when_a_setting_changes_nothing(sampler, sentence):
    assert re.search(f"changes nothing: .*{re.escape(sentence)}", sampler.describe())


@pytest.mark.parametrize("sampler", [
    RepeatFactorSampler([0] * 96 + [1] * 4, threshold=0.25),
    ClassBalancedSampler([0] * 96 + [1] * 4),
    DifficultySampler(hard_ledger(), hard_ratio=0.5, warmup_epochs=0, drop_easy=0.1),
    MultiScaleBatchSampler(9, scales=[32, 64], batch_size=2, every=2),
])  # fmt: skip
def test_describe_is_silent_about_settings_that_matter(sampler):
    assert "changes nothing" not in sampler.describe()
    assert sampler.describe().startswith(type(sampler).__name__)


@pytest.mark.parametrize("n", [0, 1])
def test_no_samples_and_one_sample(n):
    assert len(list(ClassBalancedSampler(np.ones((n, 3))))) == n
    assert len(list(RepeatFactorSampler(np.ones((n, 3))))) == n
    assert len(list(DifficultySampler(DifficultyLedger(n), warmup_epochs=0))) == n
    assert list(ClassBalancedSampler(np.zeros((4, 3)), num_samples=5)) == [], "no class is anywhere"


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: ClassBalancedSampler([[1.0, -1.0]]), ValueError, "must not be negative or NaN, got -1.0 for class 1 of"),
    (lambda: ClassBalancedSampler([[1.0, math.nan]]), ValueError, "must not be negative or NaN, got nan"),
    (lambda: ClassBalancedSampler([0, -1]), ValueError, "`frequencies` as labels must be at least 0, got -1"),
    (lambda: ClassBalancedSampler(["a"]), TypeError, "`frequencies` must be numbers"),
    (lambda: ClassBalancedSampler([0.1, 0.9]), ValueError, "A weight for each sample goes to WeightedSampler"),
    (lambda: RepeatFactorSampler([0.1, 0.9]), ValueError, "A weight for each sample goes to WeightedSampler"),
    (lambda: ClassBalancedSampler([0.5]), ValueError, r"must have shape \[N, C\], or \[N\] with one whole number"),
    (lambda: RepeatFactorSampler([[1]], threshold=0), ValueError, r"`threshold` must lie in \(0, 1\], got 0"),
    (lambda: DifficultySampler(hard_ledger(), hard_ratio=2), ValueError, r"`hard_ratio` must lie in \[0, 1\], got 2"),
    (lambda: DifficultySampler(hard_ledger(), drop_easy=1), ValueError, r"`drop_easy` must lie in \[0, 1\), got 1"),
    (lambda: list(DifficultySampler(hard_ledger(), hard_ratio=lambda e: e - 1, warmup_epochs=0)), ValueError, "-1"),
    (lambda: StepSchedule({3: 0.5}), ValueError, r"`values` must say what holds from epoch 0 on, got \[3\]"),
    (lambda: LinearSchedule(0, 1, epochs=0), ValueError, "`epochs` must be at least 1, got 0"),
])  # fmt: skip
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
