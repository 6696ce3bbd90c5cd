"""One promise for all samplers: what ranks draw together is what one rank draws alone, in equal steps, resumable."""

from __future__ import annotations

import itertools
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.mining import DifficultyLedger
from segkit.samplers import (
    ClassBalancedSampler,
    DifficultySampler,
    MultiScaleBatchSampler,
    RepeatFactorSampler,
    ShuffleSampler,
)

LONG = os.environ.get("SEGKIT_LONG") == "1"
TAILS = ["pad", "drop", "uneven"]


def labels(n):
    return np.arange(n) ** 2 % 5 // 3  # class 1 is rarer; one class only where n is small


def ledger(n):
    book = DifficultyLedger(n)
    book.update(range(n), np.random.default_rng(1).random(n))
    return book


LEDGERS = {n: ledger(n) for n in (0, 1, 7, 1000)}
KINDS = {
    "shuffle": lambda n, **place: ShuffleSampler(n, **place),
    "balanced": lambda n, **place: ClassBalancedSampler(labels(n), **place),
    "repeat": lambda n, **place: RepeatFactorSampler(labels(n), threshold=0.5, **place),
    "difficulty": lambda n, **place: DifficultySampler(
        LEDGERS.get(n) or ledger(n), hard_ratio=0.5, warmup_epochs=0, drop_easy=0.1, **place
    ),
}


def build(kind, n, batch, **place):
    sampler = KINDS[kind](n, **place)
    if batch is None:
        return sampler
    return MultiScaleBatchSampler(sampler, scales=[32, (64, 32), 96], batch_size=batch, every=2)


def facts(key):
    return int(key), key.size, key.epoch, key.seed, key.focus_class, key.position


def listed(sampler):
    items = list(sampler)
    return [[facts(key) for key in item] if isinstance(item, list) else [facts(item)] for item in items]


def content(rows):
    """What is drawn, apart from the size, which a batch decides."""
    return [(row[0], row[2], row[4], row[5]) for rows in rows for row in rows]


def check(kind, n, world, tail, batch, seed=3, epoch=0):
    """The promises of one setting, for all its ranks."""
    alone = KINDS[kind](n, seed=seed)
    alone.set_epoch(epoch)
    order = content([[facts(key)] for key in alone])
    samplers = [build(kind, n, batch, seed=seed, rank=rank, world_size=world, tail=tail) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    lengths = [len(sampler) for sampler in samplers]
    per_rank = [listed(sampler) for sampler in samplers]
    assert lengths == [len(steps) for steps in per_rank], "len() is what is yielded"
    if batch is not None or tail != "uneven":
        assert len(set(lengths)) == 1, "equal steps on every rank"
    else:
        assert max(lengths) - min(lengths) <= 1
    for step in zip(*per_rank, strict=False):
        assert len({row[1] for rows in step for row in rows}) <= 1, "sizes agree on all ranks at each step"
    drawn = [row for rank in per_rank for row in content(rank)]
    if tail == "uneven":
        assert sorted(drawn, key=repr) == sorted(order, key=repr)
    elif tail == "pad":
        assert set(drawn) == set(order)
        assert len(drawn) - len(order) in (range(world) if order else [0])
    else:
        full = world * (batch or 1)
        assert len(drawn) == len(order) // full * full
        assert sorted(drawn, key=repr) == sorted(order[: len(drawn)], key=repr)
    return per_rank


def check_resuming(kind, n, world, tail, batch, rank, places, per_rank, epoch=0):
    for place in places:
        stopped = build(kind, n, batch, seed=3, rank=rank, world_size=world, tail=tail)
        stopped.set_epoch(epoch)
        reading = iter(stopped)
        for _ in range(place):
            next(reading)
        text = json.dumps(stopped.state_dict())
        assert len(text) < 1024
        resumed = build(kind, n, batch, seed=3, rank=rank, world_size=world, tail=tail)
        resumed.load_state_dict(json.loads(text))
        if place and place == len(per_rank[rank]):
            assert resumed.epoch == epoch + 1, "the end of an epoch is the start of the next"
            continue
        assert listed(resumed) == per_rank[rank][place:], "resuming is never having stopped"
        middle = (place + len(per_rank[rank])) // 2  # and once more, further on
        resumed.load_state_dict(json.loads(text))
        reading = iter(resumed)
        for _ in range(middle - place):
            next(reading)
        again = build(kind, n, batch, seed=3, rank=rank, world_size=world, tail=tail)
        again.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
        assert listed(again) == per_rank[rank][middle:]


@pytest.mark.parametrize("batch", [None, 1, 4, 16])
@pytest.mark.parametrize("n", [0, 1, 7, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_keeps_its_promise(kind, n, batch):
    for world, tail in itertools.product(range(1, 9), TAILS):
        per_rank = check(kind, n, world, tail, batch)
        for rank in {0, world - 1}:
            length = len(per_rank[rank])
            everywhere = length < 10 or (LONG and (world, tail) == (3, "pad"))
            places = range(length + 1) if everywhere else sorted({1, length // 3, length - 1})
            if everywhere or world in (1, 8):
                check_resuming(kind, n, world, tail, batch, rank, places, per_rank)


@settings(max_examples=1000 if LONG else 120, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(0, 200),
    world=st.integers(1, 8),
    tail=st.sampled_from(TAILS),
    batch=st.none() | st.integers(1, 20),
    epoch=st.integers(0, 2**40),
    data=st.data(),
)
def test_promises_hold_for_any_parameters(kind, n, world, tail, batch, epoch, data):
    per_rank = check(kind, n, world, tail, batch, epoch=epoch)
    rank = data.draw(st.integers(0, world - 1))
    place = data.draw(st.integers(0, len(per_rank[rank])))
    if kind != "difficulty":  # whose ledger was frozen for this epoch by another sampler
        check_resuming(kind, n, world, tail, batch, rank, [place], per_rank, epoch=epoch)


@pytest.mark.parametrize("kind", KINDS)
def test_other_epochs_and_other_seeds_give_other_orders(kind):
    sampler = build(kind, 50, 4, seed=0)
    passes = [tuple(content(listed(sampler))) for _ in range(3)] + [tuple(content(listed(build(kind, 50, 4, seed=1))))]
    orders = {tuple(row[0] for row in one) for one in passes}
    assert len(orders) == 4
