"""Where samplers meet others' parts: torch's data sets, somebody's own sampler, a fold, another number of ranks."""

from __future__ import annotations

import itertools
import json
import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)

from segkit.collate import stack_collate
from segkit.datasets import PairDataset
from segkit.mining import DifficultyLedger
from segkit.samplers import (
    ClassBalancedSampler,
    DifficultySampler,
    GrowingScales,
    MultiScaleBatchSampler,
    OrderedSampler,
    RepeatFactorSampler,
    SampleKey,
    ShuffleSampler,
    StepSchedule,
    WeightedSampler,
)
from segkit.transforms import Compose, HorizontalFlip, RandomCrop

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# Keys through the data sets that people wrap around ours ------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    made = []
    for number in range(12):
        mask = np.zeros((60, 70), dtype=np.uint8)
        mask[5, 5 + number] = 2
        Image.fromarray(rng.integers(0, 255, (60, 70, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        made.append((folder / f"{number}.png", folder / f"{number}_mask.png"))
    return made


class Repeat(Dataset):
    def __init__(self, base, times):
        self.base, self.times = base, times

    def __len__(self):
        return len(self.base) * self.times

    def __getitem__(self, index):
        return self.base[index % len(self.base)]


class LookUp(Dataset):
    """Somebody's own Subset, with a step in between."""

    def __init__(self, base, numbers):
        self.base, self.numbers = base, numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return self.load(self.numbers[index])

    def load(self, number):
        return self.base[number]


def wrappers(pairs):
    transform = Compose([HorizontalFlip(), RandomCrop(48)])
    whole = PairDataset(pairs, transform=transform)
    halves = [PairDataset(pairs[:5], transform=transform), PairDataset(pairs[5:], transform=transform)]
    numbers = [7, 3, 11, 0, 5, 9, 1, 2]
    return {
        "whole": whole,
        "Subset": Subset(whole, numbers),
        "Subset of an array": Subset(whole, np.array(numbers)),
        "Subset of a Subset": Subset(Subset(whole, numbers[::-1]), [6, 2, 4, 0]),
        "random_split": random_split(whole, [8, 4], generator=torch.Generator().manual_seed(0))[0],
        "ConcatDataset": ConcatDataset(halves),
        "Subset of a ConcatDataset": Subset(ConcatDataset(halves), numbers),
        "ConcatDataset of Subsets": ConcatDataset([Subset(halves[0], [4, 2]), Subset(halves[1], [6, 1, 0])]),
        "split": whole.split([[7, 3, 0], [1]])[0],
        "joined": halves[0] + halves[1],
        "repeated": Repeat(whole, 2),
        "looked up": LookUp(whole, numbers),
    }


@pytest.mark.parametrize("kind", wrappers([("a.png", "b.png")] * 12))
def test_a_key_survives_the_data_sets_around_ours(pairs, kind):
    dataset = wrappers(pairs)[kind]
    n = len(dataset)

    def load(workers):
        torch.manual_seed(workers)  # what nobody should draw from
        inner = ClassBalancedSampler(np.array([[1, 0, 1]] * n), num_samples=2 * n, seed=1)
        batches = MultiScaleBatchSampler(inner, scales=[16, 32], batch_size=3, every=1, multiple_of=8, seed=2)
        keys = list(batches)
        batches.set_epoch(0)
        loader = DataLoader(dataset, batch_sampler=batches, collate_fn=stack_collate, num_workers=workers)
        return keys, list(loader)

    (keys, alone), (_, apart) = load(0), load(2)
    for wanted, one, two in zip(keys, alone, apart, strict=True):
        assert one["image"].shape[-2:] == wanted[0].size
        assert torch.equal(one["image"], two["image"])
        for key, mask, index in zip(wanted, one["mask"], one["index"], strict=True):
            assert key.focus_class != 2 or (mask == 2).any(), "the crop holds the class that was drawn"
            if kind not in ("split",):
                assert index == key, "the number that the sampler drew, by which a ledger counts"


def test_repeated_draws_of_a_sample_differ_and_the_halves_of_a_joined_set_do_too(pairs):
    for kind in ("repeated", "ConcatDataset"):
        dataset = wrappers(pairs)[kind]
        keys = {int(key): key for key in ShuffleSampler(len(dataset), seed=0)}
        first, second = (keys[0], keys[12]) if kind == "repeated" else (keys[0], keys[5])
        drawn = [key.generator().initial_seed() for key in (first, second % 12 if kind == "repeated" else second - 5)]
        assert drawn[0] != drawn[1]


def test_a_plain_number_asked_for_by_hand_is_a_plain_number(pairs):
    dataset = wrappers(pairs)["whole"]
    for key in MultiScaleBatchSampler(3, scales=[32], batch_size=3):
        assert dataset[int(key[0])]["image"].shape == (3, 48, 48)
        assert Subset(dataset, [4, 5, 6])[int(key[0])]["index"] == [4, 5, 6][key[0]]


def test_mistakes_with_a_loader_are_named(pairs):
    batches = MultiScaleBatchSampler(12, scales=[32], batch_size=2)
    whole = wrappers(pairs)["whole"]
    with pytest.raises(
        TypeError, match=r"got a list of 2. Give a sampler of batches as DataLoader\(batch_sampler=...\)"
    ):
        next(iter(DataLoader(whole, sampler=batches)))
    with pytest.raises(TypeError, match=r"got one key. Give a sampler of single samples as DataLoader\(sampler="):
        next(iter(DataLoader(whole, batch_sampler=ShuffleSampler(12))))
    with pytest.raises(ValueError, match=r"PairDataset: `transform` must be given .* a size, \(32, 32\)"):
        next(iter(DataLoader(PairDataset(pairs), batch_sampler=batches)))

    def own(image, mask):
        return image, mask

    with pytest.raises(TypeError, match=r"must take generator=, which the sampler's SampleKey carries, got own. Write"):
        next(iter(DataLoader(PairDataset(pairs, transform=own), sampler=ShuffleSampler(12))))
    with pytest.raises(TypeError, match=r"must take size=, .* got own. Add RandomCrop to it in a Compose"):
        next(iter(DataLoader(PairDataset(pairs, transform=own), batch_sampler=batches)))


def test_arithmetic_keeps_what_a_key_carries():
    drawn = next(iter(MultiScaleBatchSampler(ClassBalancedSampler(np.ones((9, 2))), scales=[32], batch_size=1)))[0]
    drawn.donor = 5  # whatever else a sample needs to know
    key = pickle.loads(pickle.dumps(drawn))
    for made, value in [
        (key - 3, int(key) - 3),
        (key + np.int64(2), int(key) + 2),
        (key - torch.tensor(1), int(key) - 1),
        (10 - key, 10 - int(key)),
        (3 + key, 3 + int(key)),
        (key % 4, int(key) % 4),
        (key // 2, int(key) // 2),
        (2 * key, 2 * int(key)),
        (-key, -int(key)),
        (abs(key), int(key)),
        (divmod(key, 4)[1], int(key) % 4),
        (key.at(77), 77),
        (key.at(77).at(3) % 2, 1),
    ]:
        again = pickle.loads(pickle.dumps(made))
        for one in (made, again):
            assert int(one) == value
            carried = one.size, one.epoch, one.seed, one.focus_class, one.draw, one.sample, one.donor
            assert carried == ((32, 32), 0, 0, drawn.focus_class, drawn.position, int(drawn), 5)
            assert one.generator().initial_seed() == drawn.generator().initial_seed()
    assert type(key / 2) is type(key * 0.5) is float
    assert (np.arange(3) + key).tolist() == [int(key), int(key) + 1, int(key) + 2]
    assert key.__add__("a") is NotImplemented


# Folds, weights, orders and samplers of one's own --------------------------------------------------------------------

FOLD = [3, 5, 8, 21, 34]


def fold_samplers(**place):
    ledger = DifficultyLedger(40)
    ledger.update(range(40), np.linspace(0, 1, 40))
    labels = np.arange(40) % 3
    return [
        ShuffleSampler(FOLD, **place),
        ShuffleSampler(np.array(FOLD), **place),
        ShuffleSampler(FOLD, shuffle=False, **place),
        ClassBalancedSampler(labels, indices=FOLD, **place),
        RepeatFactorSampler(labels, indices=FOLD, **place),
        WeightedSampler(np.arange(40), indices=FOLD, num_samples=30, **place),
        DifficultySampler(ledger, indices=FOLD, hard_ratio=0.5, warmup_epochs=0, **place),
        MultiScaleBatchSampler(FOLD, scales=[32], batch_size=2, **place),
        MultiScaleBatchSampler(SubsetRandomSampler(FOLD), scales=[32], batch_size=2, **place),
        ShuffleSampler(SubsetRandomSampler(FOLD), **place),
    ]


def flat(items):
    return [key for item in items for key in (item if isinstance(item, list) else [item])]


def test_a_fold_is_drawn_by_the_numbers_of_the_whole_data_set():
    for number, sampler in enumerate(fold_samplers()):
        drawn = flat(sampler)
        assert set(drawn) <= set(FOLD), number
        assert all(isinstance(key, SampleKey) for key in drawn)
        if number not in (3, 5, 6):
            assert set(drawn) == set(FOLD)
        state = json.loads(json.dumps(sampler.state_dict(consumed=1)))
        if number in (0, 7):
            other = type(sampler)([*FOLD[:-1], 9], **({"scales": [32], "batch_size": 2} if number == 7 else {}))
            with pytest.raises(ValueError, match="must be of a sampler with"):
                other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"`indices` must be below the 3 rows of `frequencies`, got 34"):
        ClassBalancedSampler([0, 1, 2], indices=FOLD)
    with pytest.raises(ValueError, match=r"`indices` must be below the 3 of `weights`, got 34"):
        WeightedSampler([1, 1, 1], indices=FOLD)
    with pytest.raises(TypeError, match=r"`n` must be whole numbers of samples, .* numpy.flatnonzero"):
        ShuffleSampler(np.array([True, False]))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_order_without_shuffling_counts_each_sample_once_over_ranks(world):
    ranks = [ShuffleSampler(10, rank=rank, world_size=world, tail="uneven", shuffle=False) for rank in range(world)]
    per_rank = [list(sampler) for sampler in ranks]
    assert sorted(itertools.chain(*per_rank)) == list(range(10))
    assert per_rank == [list(range(rank, 10, world)) for rank in range(world)]
    assert list(ranks[0]) == per_rank[0], "in every epoch"
    assert "shuffle=False" in repr(ranks[0])


def test_counts_of_weights_are_off_by_less_than_one_over_any_ranks():
    weights = np.array([0, 1, 2.5, 0, 0.25, 4, 0])
    due = 50 * weights / weights.sum()
    for world in (1, 2, 4):
        samplers = [
            WeightedSampler(weights, num_samples=50, rank=r, world_size=world, tail="drop") for r in range(world)
        ]
        totals = np.zeros(7)
        for _ in range(60):
            drawn = np.bincount([key for sampler in samplers for key in sampler], minlength=7)
            if world == 1:
                assert (np.abs(drawn - due) < 1).all()
            totals += drawn
        assert totals[[0, 3, 6]].sum() == 0
        assert np.allclose(totals / totals.sum(), due / due.sum(), atol=0.01)
    assert list(WeightedSampler([], num_samples=0)) == []
    for wrong, message in [([1, -1], "not negative, got -1.0 for sample 1"), ([[1.0]], r"shape \[N\], got \(1, 1\)"),
                           ([0, 0], "must hold one above 0"), ([1, np.nan], "must be finite")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            WeightedSampler(wrong)


class Halves(OrderedSampler):
    def __init__(self, n, **place):
        super().__init__(**place)
        self.n = n

    def order(self, epoch):
        return range(epoch % 2, self.n, 2)

    def identity(self):
        return {"n": self.n}


class FromEveryGenerator:
    def __len__(self):
        return 9

    def __iter__(self):
        yield from (random.randrange(50), int(np.random.randint(50)), int(torch.randint(50, ())))  # noqa: NPY002
        yield from torch.randperm(6).tolist()


OWN = {
    "own order": lambda **place: Halves(23, **place),
    "torch's weights": lambda **place: ShuffleSampler(WeightedRandomSampler([0.1, 0.9, 3], 20), **place),
    "own generator": lambda **place: ShuffleSampler(
        SubsetRandomSampler(range(30), generator=torch.Generator().manual_seed(1)), **place
    ),
    "every generator": lambda **place: ShuffleSampler(FromEveryGenerator(), **place),
    "batched": lambda **place: MultiScaleBatchSampler(
        WeightedRandomSampler([0.1, 0.9, 3], 20), scales=[32, 64], batch_size=3, every=1, **place
    ),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_sampler_of_ones_own_agrees_on_all_ranks_and_goes_on(kind):
    make = OWN[kind]
    before = torch.get_rng_state(), random.getstate()
    alone = [[(int(k), k.draw) for k in flat(make(tail="uneven"))] for _ in range(1)][0]
    per_rank = [flat(make(rank=rank, world_size=3, tail="uneven")) for rank in range(3)]
    assert sorted(int(key) for rank in per_rank for key in rank) == sorted(index for index, _ in alone)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    whole = make()
    epochs = [flat(whole) for _ in range(2)]
    assert [*epochs[0]] != [*epochs[1]]
    stopped = make()
    list(stopped)
    reading = iter(stopped)
    head = flat([next(reading) for _ in range(3)])
    resumed = make()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert head + flat(resumed) == epochs[1]
    assert sampler_survives(stopped)


def sampler_survives(sampler):
    copy = pickle.loads(pickle.dumps(sampler))
    return copy.state_dict() == sampler.state_dict() and "describe" not in copy.describe()


def test_a_batch_sampler_is_no_order():
    batches = torch.utils.data.BatchSampler(range(5), 2, False)
    with pytest.raises(TypeError, match="BatchSampler must give indices of samples, got .* Give a sampler of single"):
        list(ShuffleSampler(batches))


# On another number of ranks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["pad", "drop", "uneven"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (4, 2), (3, 4)])
def test_each_remaining_sample_comes_once_on_another_number_of_ranks(before, after, tail):
    n = 50
    for kind in ("samples", "batches", "budget", "balanced"):

        def make(rank, world, kind=kind):
            place = {"seed": 1, "rank": rank, "world_size": world, "tail": tail}
            if kind == "samples":
                return ShuffleSampler(n, **place)
            if kind == "balanced":
                return ClassBalancedSampler(np.arange(n) % 3, **place)
            size = {"batch_size": 3} if kind == "batches" else {"max_pixels": 4 * 64 * 64}
            return MultiScaleBatchSampler(n, scales=[32, 64], every=2, **size, **place)

        order = [(int(k), k.position) for k in flat(make(0, 1))] if kind != "budget" else None
        for consumed in (1, 2, 3):
            samplers = [make(rank, before) for rank in range(before)]
            if consumed >= len(samplers[0]):
                continue  # the next epoch, on any number of ranks
            seen = []
            for sampler in samplers:
                reading = iter(sampler)
                seen += flat([next(reading) for _ in range(consumed)])
            state = json.loads(json.dumps(samplers[0].state_dict()))
            resumed = [make(rank, after) for rank in range(after)]
            for sampler in resumed:
                sampler.load_state_dict(state)
            lengths = {len(sampler) for sampler in resumed}
            rest = [list(sampler) for sampler in resumed]
            assert lengths == {len(items) for items in rest}
            if kind in ("batches", "budget") or tail != "uneven":
                assert len(lengths) == 1
            keys = seen + flat(itertools.chain(*rest))
            drawn = [(int(key), key.position) for key in keys]
            if tail == "drop":
                assert len(set(drawn)) == len(drawn)
            elif tail == "uneven":
                assert len(set(drawn)) == len(drawn) == n
            else:
                assert len(set(drawn)) == n
                assert len(drawn) - n < after
            if order is not None:
                assert set(drawn) <= set(order), "the draws of the epoch, with their randomness"
            following = [[(int(k), k.epoch) for k in flat(sampler)] for sampler in resumed]
            fresh = [make(rank, after) for rank in range(after)]
            for sampler in fresh:
                sampler.set_epoch(1)
            assert following == [[(int(k), k.epoch) for k in flat(sampler)] for sampler in fresh]


def test_batches_over_all_ranks_are_the_same_where_they_are_as_large():
    def make(rank, world, batch):
        return MultiScaleBatchSampler(
            60, scales=[32, 64], batch_size=batch, every=1, seed=1, rank=rank, world_size=world, tail="uneven"
        )

    whole = [sorted(step) for step in zip(*(list(make(rank, 2, 6)) for rank in range(2)), strict=True)]
    whole = [sorted((int(key), key.size) for batch in step for key in batch) for step in whole]
    sampler = make(0, 2, 6)
    reading = iter(sampler)
    next(reading), next(reading)
    for world, batch in ((1, 12), (3, 4), (4, 3)):
        resumed = [make(rank, world, batch) for rank in range(world)]
        for each in resumed:
            each.load_state_dict(sampler.state_dict())
        rest = [
            sorted((int(key), key.size) for batch in step for key in batch)
            for step in zip(*(list(each) for each in resumed), strict=True)
        ]
        assert rest == whole[2:]
    with pytest.raises(ValueError, match=r"must be of a sampler with batch_size = 5, got 6"):
        make(0, 2, 5).load_state_dict(sampler.state_dict())


def test_a_place_on_other_ranks_can_be_saved_again():
    sampler = ShuffleSampler(50, seed=1, rank=0, world_size=4)
    reading = iter(sampler)
    seen = [[next(reading) for _ in range(3)]]
    states = [sampler.state_dict()]
    for world in (2, 3, 1):
        now = ShuffleSampler(50, seed=1, rank=0, world_size=world)
        now.load_state_dict(states[-1])
        reading = iter(now)
        seen.append([next(reading) for _ in range(4)])
        states.append(json.loads(json.dumps(now.state_dict())))
    order = list(ShuffleSampler(50, seed=1))
    assert seen == [order[0:12:4], order[12:20:2], order[20:32:3], order[32:36]]
    assert states[-1]["origin"] == 32


# Sizes that grow, and shapes ------------------------------------------------------------------------------------------


def test_patches_grow_at_the_same_number_of_pixels():
    budget = 4 * 256 * 256
    for scales in (GrowingScales(64, 256, epochs=4), StepSchedule({0: [64], 1: [(128, 128)], 2: 192, 3: 256})):
        sampler = MultiScaleBatchSampler(200, scales=scales, max_pixels=budget, seed=1)
        sides = []
        for epoch in range(6):
            assert sampler.length(epoch) == len(sampler)
            batches = list(sampler)
            sides.append(batches[0][0].size[0])
            assert len(batches[0]) == budget // sides[-1] ** 2
            assert sorted(flat(batches)) == list(range(200))
        assert sides == [64, 128, 192, 256, 256, 256]
        copy = pickle.loads(pickle.dumps(sampler))
        assert copy.epoch == 6
        resumed = MultiScaleBatchSampler(200, scales=scales, max_pixels=budget, seed=1)
        resumed.set_epoch(2)
        whole = list(resumed)
        resumed.load_state_dict({**sampler.state_dict(), **resumed._state(resumed._clock.at(2))})
        assert list(resumed) == whole[2:]
        with pytest.raises(ValueError, match=r"`max_pixels` must hold one sample of the largest scale, 65536 pixels"):
            MultiScaleBatchSampler(200, scales=scales, max_pixels=200 * 200)
    with pytest.raises(ValueError, match="`first` and `last` must be multiples of 32"):
        GrowingScales(64, 250, epochs=3)
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        GrowingScales(64, 96, epochs=0)


@pytest.mark.parametrize("tail", ["pad", "drop", "uneven"])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("size", [{"batch_size": 4}, {"max_pixels": 6 * 96 * 96}])
def test_a_batch_holds_one_shape_and_every_sample_comes_once(world, tail, size):
    ratios = np.exp(np.random.default_rng(0).normal(0, 0.6, 97))

    def make(rank):
        return MultiScaleBatchSampler(
            97,
            scales=[64, 96],
            every=1,
            multiple_of=8,
            seed=1,
            rank=rank,
            world_size=world,
            tail=tail,
            ratios=ratios,
            **size,
        )

    samplers = [make(rank) for rank in range(world)]
    per_rank = [list(sampler) for sampler in samplers]
    assert {len(sampler) for sampler in [make(0)]} == {len(batches) for batches in per_rank}
    drawn = flat(itertools.chain(*per_rank))
    if tail == "uneven":
        assert sorted(drawn) == list(range(97))
    elif tail == "pad":
        assert set(drawn) == set(range(97))
    else:
        assert len(set(drawn)) == len(drawn)
    spread, off = [], []
    for step in zip(*per_rank, strict=True):
        keys = flat(step)
        assert len({key.size for key in keys}) == 1
        height, width = keys[0].size
        assert height % 8 == width % 8 == 0
        assert height * width <= 96 * 96
        logs = np.log(ratios[keys])
        spread.append(logs.std())
        off.append(abs(np.log(width / height) - logs.mean()))
    assert np.mean(spread) < 0.4 * np.log(ratios).std(), "against any samples"
    assert np.mean(off) < 0.2
    stopped = make(0)
    reading = iter(stopped)
    head = [next(reading) for _ in range(3)]
    resumed = make(0)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert head + list(resumed) == per_rank[0]


def test_ratios_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"`ratios` must be width / height .* above 0, got shape \(2,\) .* from 0 to 1"
    ):
        MultiScaleBatchSampler(2, scales=[32], batch_size=1, ratios=[0, 1])
    with pytest.raises(ValueError, match=r"`ratios` must have one number for each sample .* got 2 and sample 2"):
        list(MultiScaleBatchSampler(3, scales=[32], batch_size=1, ratios=[1, 1]))
