"""The promise of every sampler, for many sizes, ranks, tails and places to resume from."""

from __future__ import annotations

import itertools
import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.samplers import MultiScaleBatchSampler, SampleKey, ShuffleSampler

SIZES = [0, 1, 7, 1000]
WORLDS = range(1, 9)
TAILS = ["pad", "drop", "uneven"]


def facts(key):
    return int(key), key.size, key.epoch, key.seed, key.focus_class, key.position


def listed(sampler):
    """A pass as plain values, batches kept apart."""
    items = list(sampler)
    return [facts(item) if isinstance(item, SampleKey) else [facts(key) for key in item] for item in items]


def ranks_of_shuffle(n, world, tail, seed=3):
    return [ShuffleSampler(n, seed=seed, rank=rank, world_size=world, tail=tail) for rank in range(world)]


def ranks_of_batches(n, world, tail, batch_size=4, seed=3, **options):
    options = {"scales": [32, (64, 32), 96], "every": 2} | options
    return [
        MultiScaleBatchSampler(n, batch_size=batch_size, seed=seed, rank=rank, world_size=world, tail=tail, **options)
        for rank in range(world)
    ]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("n", SIZES)
def test_shuffle_keeps_its_promise(n, tail, world):
    per_rank = [list(sampler) for sampler in ranks_of_shuffle(n, world, tail)]
    assert [len(keys) for keys in per_rank] == [len(sampler) for sampler in ranks_of_shuffle(n, world, tail)]
    seen = sorted(int(key) for keys in per_rank for key in keys)
    lengths = {len(keys) for keys in per_rank}
    if tail == "uneven":
        assert seen == list(range(n))
        assert max(lengths) - min(lengths) <= 1
    elif tail == "pad":
        assert set(seen) == set(range(n))
        assert len(lengths) == 1
        assert len(seen) - n in (range(world) if n else [0])
    else:
        assert len(set(seen)) == len(seen) == n // world * world
        assert len(lengths) == 1


@pytest.mark.parametrize(("world", "batch"), [(world, batch) for world in WORLDS for batch in (1, 4, 16)])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("n", SIZES)
def test_batches_keep_their_promise(n, tail, world, batch):
    samplers = ranks_of_batches(n, world, tail, batch)
    per_rank = [list(sampler) for sampler in samplers]
    steps = {len(batches) for batches in per_rank}
    assert steps == {len(samplers[0])}, "equal steps on every rank, and len() says how many"
    for step in zip(*per_rank, strict=True):
        assert len({key.size for keys in step for key in keys}) == 1, "one size in a step, on all ranks"
        assert max(len(keys) for keys in step) <= batch
    seen = sorted(int(key) for batches in per_rank for keys in batches for key in keys)
    if tail == "uneven":
        assert seen == list(range(n))
        if n >= world and batch > 1:
            assert all(keys for batches in per_rank for keys in batches), "no empty batch"
    elif tail == "pad":
        assert set(seen) == set(range(n))
        assert len(seen) - n < world
        assert all(len({len(keys) for keys in step}) == 1 for step in zip(*per_rank, strict=True))
    else:
        assert len(set(seen)) == len(seen) == n // (world * batch) * world * batch


def test_no_batch_is_empty_where_there_are_samples_enough():
    for n, world, batch in itertools.product(range(1, 70), [1, 2, 3, 5, 8], [2, 3, 4]):
        per_rank = [list(sampler) for sampler in ranks_of_batches(n, world, "uneven", batch, every=1)]
        assert sorted(int(key) for batches in per_rank for keys in batches for key in keys) == list(range(n))
        assert len({len(batches) for batches in per_rank}) == 1
        assert all(len(keys) in range(n >= world, batch + 1) for batches in per_rank for keys in batches)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_order_does_not_depend_on_the_number_of_ranks(world):
    alone = listed(ShuffleSampler(100, seed=3))
    together = [listed(sampler) for sampler in ranks_of_shuffle(100, world, "uneven")]
    dealt = [together[place % world][place // world] for place in range(100)]
    assert dealt == alone
    key, other = ShuffleSampler(100, seed=3), ShuffleSampler(100, seed=3, world_size=world, rank=world - 1)
    draws = {int(k): torch.rand(1, generator=k.generator()).item() for k in key}
    assert all(torch.rand(1, generator=k.generator()).item() == draws[k] for k in other)


def test_other_epoch_other_order_and_other_seed_other_order():
    for make in (lambda seed: ShuffleSampler(50, seed=seed), lambda seed: ranks_of_batches(50, 1, "pad", seed=seed)[0]):
        sampler = make(0)
        orders = [[int(k) for item in sampler for k in (item if isinstance(item, list) else [item])] for _ in range(3)]
        orders += [[int(k) for item in make(1) for k in (item if isinstance(item, list) else [item])]]
        assert len({tuple(order) for order in orders}) == 4
        assert all(sorted(order) == list(range(50)) for order in orders)


def test_set_epoch_is_optional_and_twice_is_once():
    free, told = ShuffleSampler(20, seed=1), ShuffleSampler(20, seed=1)
    for epoch in range(3):
        told.set_epoch(epoch)
        told.set_epoch(epoch)
        assert told.epoch == free.epoch == epoch
        assert listed(told) == listed(free)
    told.set_epoch(1)
    again = listed(told)
    told.set_epoch(1)
    assert listed(told) == again


def test_a_loader_that_asks_for_iterators_and_reads_one_skips_no_epoch():
    sampler = ShuffleSampler(20, seed=1)
    iter(sampler), iter(sampler)
    assert {key.epoch for key in sampler} == {0}
    assert {key.epoch for key in sampler} == {1}


SAMPLERS = {
    "shuffle": lambda: ShuffleSampler(23, seed=5, rank=1, world_size=2),
    "one": lambda: ShuffleSampler(1, seed=5),
    "none": lambda: ShuffleSampler(0, seed=5),
    "batches": lambda: ranks_of_batches(61, 2, "pad", batch_size=3)[1],
    "budget": lambda: ranks_of_batches(61, 2, "uneven", batch_size=None, max_pixels=4 * 96 * 96, every=1)[0],
    "batched sampler": lambda: MultiScaleBatchSampler(
        ShuffleSampler(23, seed=5, tail="drop"), scales=[32, 64], batch_size=3, world_size=2
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_resuming_at_every_place_is_never_having_stopped(name):
    make = SAMPLERS[name]
    reference = make()
    whole = [listed(reference) for _ in range(3)]
    for place in range(len(whole[1]) + 1):
        stopped = make()
        list(stopped)
        reading = iter(stopped)
        head = [next(reading) for _ in range(place)]
        for state in (stopped.state_dict(), stopped.state_dict(consumed=place)) if place else ():
            state = json.loads(json.dumps(state))
            assert len(json.dumps(state)) < 1024
            resumed = make()
            resumed.load_state_dict(state)
            assert resumed.state_dict() == state
            assert len(resumed) == len(whole[2 if place == len(whole[1]) else 1])
            rest = [listed(resumed), listed(resumed)]
            done = place == len(whole[1])
            assert rest[0] == (whole[2] if done else whole[1][len(head) :]), "never an empty pass"
            assert done or rest[1] == whole[2], "and then the next epoch"


@pytest.mark.parametrize("name", ["shuffle", "batches", "budget"])
def test_a_resumed_pass_can_be_resumed(name):
    make = SAMPLERS[name]
    whole = listed(make())
    state, got = make().state_dict(), []
    while len(got) < len(whole):
        sampler = make()
        sampler.load_state_dict(state)
        reading = iter(sampler)
        items = list(itertools.islice(reading, 3))
        got += [facts(item) if isinstance(item, SampleKey) else [facts(key) for key in item] for item in items]
        state = sampler.state_dict()
    assert got == whole


def test_advance_counts_what_was_consumed_and_not_what_was_drawn():
    sampler = ShuffleSampler(20, seed=1)
    reading = iter(sampler)
    drawn = list(itertools.islice(reading, 10))  # a loader reads ahead
    sampler.advance(2)
    sampler.advance()
    resumed = ShuffleSampler(20, seed=1)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed)[:7] == drawn[3:]
    sampler.advance(17)
    list(reading)
    assert sampler.state_dict()["epoch"] == 1, "a finished epoch is the start of the next"
    with pytest.raises(
        ValueError, match=r"ShuffleSampler.advance: `items` must add up to at most the 20 of this epoch, got 21"
    ):
        sampler.advance()


def test_an_iterator_can_be_put_elsewhere_in_the_middle():
    sampler = ranks_of_batches(61, 2, "pad", batch_size=3)[1]
    whole = listed(ranks_of_batches(61, 2, "pad", batch_size=3)[1])
    list(sampler)
    reading = iter(sampler)
    next(reading)
    reading.load_state_dict({**sampler.state_dict(), "epoch": 0, "consumed": 4})
    assert [[facts(key) for key in batch] for batch in reading] == whole[4:]
    assert {key.epoch for batch in sampler for key in batch} == {1}


def test_keys_in_worker_processes_make_the_count_a_question():
    sampler = ShuffleSampler(20, seed=1)
    reading = iter(sampler)
    pickle.dumps(next(reading))
    with pytest.raises(ValueError, match="`consumed` must be given, since worker processes draw ahead"):
        sampler.state_dict()
    assert sampler.state_dict(consumed=1)["consumed"] == 1
    list(reading)
    assert sampler.state_dict()["epoch"] == 1


def at_epoch(sampler, epoch):
    sampler.set_epoch(epoch)
    return sampler


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 300),
    world=st.integers(1, 8),
    tail=st.sampled_from(TAILS),
    every=st.sampled_from(["epoch", 1, 3]),
    budget=st.integers(96 * 96, 20 * 96 * 96),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_pixel_budget_holds_for_any_parameters(n, world, tail, every, budget, seed, epoch, data):
    options = {"batch_size": None, "max_pixels": budget, "every": every, "seed": seed}
    samplers = ranks_of_batches(n, world, tail, **options)
    for sampler in samplers:
        sampler.set_epoch(epoch)
    per_rank = [list(sampler) for sampler in samplers]
    assert {len(batches) for batches in per_rank} == {len(at_epoch(samplers[0], epoch))}
    for step in zip(*per_rank, strict=True):
        assert len({key.size for keys in step for key in keys}) == 1
        assert all(sum(key.size[0] * key.size[1] for key in keys) <= budget for keys in step)
    seen = sorted(int(key) for batches in per_rank for keys in batches for key in keys)
    if tail == "uneven":
        assert seen == list(range(n))
    elif tail == "pad":
        assert set(seen) == set(range(n))
        assert len(seen) - n < world
    else:
        assert len(set(seen)) == len(seen)
    rank = data.draw(st.integers(0, world - 1))
    place = data.draw(st.integers(0, len(per_rank[rank])))
    resumed = ranks_of_batches(n, world, tail, **options)[rank]
    samplers[rank].set_epoch(epoch)
    resumed.load_state_dict(samplers[rank].state_dict(consumed=place))
    if place < len(per_rank[rank]):
        assert list(resumed) == per_rank[rank][place:]
    else:
        assert resumed.epoch == (epoch + 1 if place else epoch), "the end of an epoch is the start of the next"


def test_each_scale_comes_once_in_a_round():
    scales = [32, 64, 96, 128]
    sampler = MultiScaleBatchSampler(64, scales=scales, batch_size=2, every=2, seed=0)
    sides = [batch[0].size[0] for batch in sampler]
    assert sides[0::2] == sides[1::2]
    blocks = sides[0::2]
    assert all(sorted(blocks[i : i + 4]) == scales for i in range(0, 16, 4))
    assert len({tuple(blocks[i : i + 4]) for i in range(0, 16, 4)}) > 1
    epochs = MultiScaleBatchSampler(4, scales=scales, batch_size=2, seed=0)
    per_epoch = [{key.size for batch in epochs for key in batch} for _ in range(8)]
    assert all(len(sizes) == 1 for sizes in per_epoch)
    assert sorted(size[0] for sizes in per_epoch[:4] for size in sizes) == scales
    assert sorted(size[0] for sizes in per_epoch[4:] for size in sizes) == scales


@pytest.mark.parametrize("scale", [1, 47, 513, (100, 333), (64, 65)])
def test_a_size_that_cannot_come_is_named_when_the_sampler_is_made(scale):
    with pytest.warns(UserWarning, match=r"`scales` must be multiples of multiple_of=32, got .* multiple_of=1"):
        sampler = MultiScaleBatchSampler(4, scales=[scale], batch_size=1)
    assert all(side % 32 == 0 for size in sampler.scales for side in size)
    as_asked = MultiScaleBatchSampler(4, scales=[scale], batch_size=1, multiple_of=1)
    assert next(iter(as_asked))[0].size == (scale if isinstance(scale, tuple) else (scale, scale))


def test_a_key_is_an_index_and_carries_the_rest_into_another_process():
    key = SampleKey(3, size=(32, 64), epoch=2, seed=9, focus_class=1, position=17)
    assert [10, 11, 12, 13][key] == 13
    assert f"{key}.png" == "3.png"
    assert json.dumps([key]) == "[3]"
    assert hash(key) == hash(3)
    other = pickle.loads(pickle.dumps(key))
    assert facts(other) == facts(key) == (3, (32, 64), 2, 9, 1, 17)
    assert isinstance(other, SampleKey)
    assert torch.equal(torch.rand(4, generator=key.generator()), torch.rand(4, generator=other.generator()))
    assert repr(key) == "SampleKey(3, size=(32, 64), epoch=2, seed=9, focus_class=1, position=17)"
    drawn = next(iter(ranks_of_batches(9, 1, "pad")[0]))[0]
    assert facts(pickle.loads(pickle.dumps(drawn))) == facts(drawn)


def test_generators_differ_by_seed_epoch_and_position():
    keys = [SampleKey(i, seed=s, epoch=e, position=p) for i, s, e, p in [
        (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (0, 0, 2**32, 0), (0, 2**32, 0, 0), (0, 0, 0, 2**32),
    ]]  # fmt: skip
    draws = {torch.rand(1, generator=key.generator()).item() for key in keys}
    assert len(draws) == len(keys)
    before = torch.get_rng_state()
    keys[0].generator()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["shuffle", "batches", "budget"])
def test_samplers_pickle_in_the_middle_of_a_pass(name):
    sampler = SAMPLERS[name]()
    reading = iter(sampler)
    list(itertools.islice(reading, 2))
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.state_dict() == sampler.state_dict()
    assert listed(copy) == [facts(i) if isinstance(i, SampleKey) else [facts(k) for k in i] for i in reading]


def test_repr_shows_each_argument():
    sampler = ShuffleSampler(5, seed=2, rank=1, world_size=3, tail="drop")
    assert repr(sampler) == "ShuffleSampler(5, seed=2, rank=1, world_size=3, tail='drop')"
    batches = MultiScaleBatchSampler(5, scales=[32], batch_size=2, every=3, seed=1, world_size=2, rank=1)
    for argument in ("scales=[(32, 32)]", "batch_size=2", "max_pixels=None", "every=3", "multiple_of=32", "seed=1"):
        assert argument in repr(batches)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ShuffleSampler(-1), ValueError, r"ShuffleSampler: `n` must be a whole number in \[0, .*, got -1"),
        (lambda: ShuffleSampler(2.0), TypeError, "ShuffleSampler: `n` must be a whole number in .*, got 2.0"),
        (lambda: ShuffleSampler(5, seed=-1), ValueError, "`seed` must be a whole number"),
        (lambda: ShuffleSampler(5, rank=2, world_size=2), ValueError, r"`rank` must be a whole number in \[0, 2\)"),
        (lambda: ShuffleSampler(5, tail="last"), ValueError, "`tail` must be one of pad, drop, uneven, got 'last'"),
        (lambda: ShuffleSampler(5).set_epoch(-1), ValueError, "set_epoch: `epoch` must be a whole number"),
        (lambda: ShuffleSampler(5).advance(), ValueError, "advance: a pass must have begun"),
        (lambda: ShuffleSampler(5).state_dict(consumed=6), ValueError, r"`consumed` must be .* in \[0, 6\), got 6"),
        (lambda: ShuffleSampler(5).load_state_dict({}), ValueError, "`state` must be what state_dict"),
        (
            lambda: ShuffleSampler(5).load_state_dict(ShuffleSampler(6).state_dict()),
            ValueError,
            "must be of a sampler with n = 5, got 6",
        ),
        (
            lambda: ShuffleSampler(5).load_state_dict(ranks_of_batches(5, 1, "pad")[0].state_dict()),
            ValueError,
            "must be of a sampler with sampler = 'ShuffleSampler', got 'MultiScaleBatchSampler'",
        ),
        (lambda: ranks_of_batches(5, 1, "pad", batch_size=None), ValueError, "`batch_size` or `max_pixels`"),
        (lambda: ranks_of_batches(5, 1, "pad", scales=[]), ValueError, "`scales` must hold at least one size"),
        (lambda: ranks_of_batches(5, 1, "pad", scales=["a"]), TypeError, "`scales` must each be a side or"),
        (lambda: ranks_of_batches(5, 1, "pad", scales=[0]), ValueError, "`scales` must be a whole number"),
        (lambda: ranks_of_batches(5, 1, "pad", every="batch"), TypeError, "`every` must be a whole number"),
        (lambda: ranks_of_batches(5, 1, "pad", max_pixels=9215), ValueError, "`max_pixels` must hold one sample"),
        (lambda: ranks_of_batches([1.5, 2], 1, "pad"), TypeError, r"`sampler_or_n`: .* whole numbers .* float64"),
        (lambda: ranks_of_batches(torch.utils.data.TensorDataset(torch.ones(3)), 1, "pad"), TypeError,
         r"`sampler_or_n`: .* must be a number .* got a data set, TensorDataset. Give len\(data_set\)"),
        (lambda: ShuffleSampler([3, -1]), ValueError, "`n` must hold indices of samples from 0 on, got -1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
