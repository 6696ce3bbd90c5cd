"""Samplers inside the loaders people use, in one process: torch's DataLoader and torchdata's StatefulDataLoader."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from samplers_records import Pictures, Recorder
from segkit.datasets import PairDataset, find_pairs
from segkit.samplers import ClassBalancedSampler, MultiScaleBatchSampler, SampleKey, ShuffleSampler
from segkit.transforms import Compose, HorizontalFlip, RandomCrop

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes"),  # that is the point
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # Python 3.12 on fork
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata 0.11 calls it in newer torch
]

# One case, four spawned workers anew for each of three epochs, takes half a minute: each imports torch.
LONG = os.environ.get("SEGKIT_LONG") == "1"


def batches(n=29, **options):
    options = {"scales": [32, (64, 32), 96], "batch_size": 4, "every": 1, "seed": 2} | options
    return MultiScaleBatchSampler(n, **options)


def record(loader):
    return [(batch["facts"][:, :4].tolist(), batch["draw"].tolist()) for batch in loader]


def cases():
    for method, workers, persistent in itertools.product(["fork", "spawn"], [0, 2, 4], [False, True]):
        if workers == 0 and (persistent or method == "spawn"):
            continue  # no processes, nothing to start or to keep
        quick = method == "fork" or workers == 2 or persistent
        skip = pytest.mark.skipif(not quick and not LONG, reason="set SEGKIT_LONG=1: each worker imports torch anew")
        yield pytest.param(method, workers, persistent, marks=skip, id=f"{method}-{workers}-{persistent}")


@pytest.mark.parametrize(("method", "workers", "persistent"), list(cases()))
def test_workers_and_prefetching_cannot_mix_sizes_epochs_or_draws(method, workers, persistent):
    sampler = batches()
    expected = [
        [([[int(k), k.epoch, *k.size] for k in keys], [torch.rand(1, generator=k.generator()).item() for k in keys])
         for keys in batches_of_epoch]
        for batches_of_epoch in ([list(itertools.chain(keys)) for keys in sampler] for _ in range(3))
    ]  # fmt: skip
    loader = DataLoader(
        Pictures(29),
        batch_sampler=batches(),
        num_workers=workers,
        multiprocessing_context=method if workers else None,
        persistent_workers=persistent,
        timeout=60 if workers else 0,
    )
    assert len(loader) == len(expected[0])
    for epoch in range(3):
        seen = list(loader)
        assert [(b["facts"][:, :4].tolist(), b["draw"].tolist()) for b in seen] == expected[epoch]
        assert all(batch["image"].shape[-2:] == tuple(batch["facts"][0, 2:4].tolist()) for batch in seen)
        if workers:
            assert {worker for batch in seen for worker in batch["facts"][:, 4].tolist()} == set(range(workers))


def test_a_plain_loader_batches_single_keys():
    for workers in (0, 2):
        loader = DataLoader(Recorder(10), sampler=ShuffleSampler(10, seed=1), batch_size=4, num_workers=workers)
        for epoch in range(2):
            seen = record(loader)
            expected = ShuffleSampler(10, seed=1)
            expected.set_epoch(epoch)
            assert [row[0] for batch in seen for row in batch[0]] == list(expected)
            assert [len(batch[0]) for batch in seen] == [4, 4, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_goes_on_where_the_loop_was(workers):
    """Prefetched batches do not count: the loop says what it has used."""
    whole = record(DataLoader(Recorder(29), batch_sampler=batches()))
    sampler, seen = batches(), []
    for batch in DataLoader(Recorder(29), batch_sampler=sampler, num_workers=workers):
        seen.append((batch["facts"][:, :4].tolist(), batch["draw"].tolist()))
        sampler.advance()
        if len(seen) == 3:
            break
    state = json.loads(json.dumps(sampler.state_dict()))
    assert state == sampler.state_dict(consumed=3)
    resumed = batches()
    resumed.load_state_dict(state)
    assert seen + record(DataLoader(Recorder(29), batch_sampler=resumed, num_workers=workers)) == whole


def test_a_loader_with_workers_that_is_not_told_refuses_to_guess():
    sampler = batches()
    for _ in DataLoader(Recorder(29), batch_sampler=sampler, num_workers=2):
        break
    with pytest.raises(ValueError, match="`consumed` must be given, since worker processes draw ahead"):
        sampler.state_dict()
    alone = batches()
    for _ in DataLoader(Recorder(29), batch_sampler=alone):
        break
    assert alone.state_dict()["consumed"] == 1, "without workers nothing is drawn ahead"


# torchdata: stop in the middle of an epoch, go on in a new process ---------------------------------------------------

RESUME = """
import json, sys
sys.path.insert(0, {tests!r})
from test_samplers_loaders import make_stateful, record
import torch
kind, workers = sys.argv[1], int(sys.argv[2])
loader = make_stateful(kind, workers)
loader.load_state_dict(torch.load(sys.argv[3], weights_only=False))
print(json.dumps([record(loader), record(loader)]))
"""


def make_stateful(kind, workers, every=1):
    from torchdata.stateful_dataloader import StatefulDataLoader

    options = {"num_workers": workers, "snapshot_every_n_steps": every, "timeout": 60 if workers else 0}
    if kind == "batches":
        return StatefulDataLoader(Recorder(29), batch_sampler=batches(), **options)
    samplers = {"shuffle": ShuffleSampler(29, seed=2), "balanced": ClassBalancedSampler([0] * 25 + [1] * 4, seed=2)}
    return StatefulDataLoader(Recorder(29), sampler=samplers[kind], batch_size=4, **options)


@pytest.mark.parametrize(("kind", "workers"), [("batches", 0), ("batches", 2), ("shuffle", 2), ("balanced", 0)])
def test_torchdata_goes_on_in_a_new_process(kind, workers, tmp_path):
    pytest.importorskip("torchdata")
    reference = make_stateful(kind, 0)
    whole, following = record(reference), record(reference)
    loader = make_stateful(kind, workers)
    seen = []
    for batch in loader:
        seen.append((batch["facts"][:, :4].tolist(), batch["draw"].tolist()))
        if len(seen) == 3:
            torch.save(loader.state_dict(), tmp_path / "state.pt")
            break
    script = textwrap.dedent(RESUME).format(tests=os.path.dirname(__file__))
    command = [sys.executable, "-c", script, kind, str(workers), str(tmp_path / "state.pt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rest, next_epoch = [[(rows, draws) for rows, draws in part] for part in json.loads(done.stdout)]
    assert seen == whole[:3]
    assert rest == whole[3:]
    assert next_epoch == following


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["batches", "shuffle"])
def test_torchdata_goes_on_from_every_step(kind, workers, every):
    pytest.importorskip("torchdata")
    reference = make_stateful(kind, 0)
    whole, following = record(reference), record(reference)
    loader, states, seen = make_stateful(kind, workers, every), [], []
    reading = iter(loader)
    for _ in range(len(whole)):
        states.append(loader.state_dict())
        batch = next(reading)
        seen.append((batch["facts"][:, :4].tolist(), batch["draw"].tolist()))
    assert seen == whole
    assert next(reading, None) is None
    after = loader.state_dict()
    for step in range(len(whole)) if workers == 0 else (1, len(whole) - 1):
        resumed = make_stateful(kind, workers, every)
        resumed.load_state_dict(states[step])
        assert record(resumed) == whole[step:]
        if workers == 0:
            assert record(resumed) == following
    resumed = make_stateful(kind, workers, every)
    resumed.load_state_dict(after)
    assert record(resumed) == following, "a state after the epoch begins the next"


def test_keys_keep_their_fields_through_a_spawned_queue():
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    key = SampleKey(3, size=(32, 64), epoch=2, seed=9, focus_class=1, position=17)
    queue.put([key])
    got = queue.get(timeout=30)[0]
    assert repr(got) == repr(key)
    queue.close()
    queue.join_thread()


def test_pairs_are_augmented_by_their_keys_whoever_loads_them(tmp_path):
    """The rooms together: size and focus class of a key reach the crop, and 0 or 2 workers agree bit by bit."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    pixels = np.zeros((6, 3), dtype=int)
    for number in range(6):
        mask = np.zeros((80, 96), dtype=np.uint8)
        mask[60:64, 70 + number : 76 + number] = 1 + number % 2  # a small object, far from the corner
        pixels[number] = np.bincount(mask.ravel(), minlength=3)
        image = rng.integers(0, 255, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    pairs = find_pairs(tmp_path / "images", tmp_path / "masks")
    dataset = PairDataset(pairs, transform=Compose([HorizontalFlip(), RandomCrop(32)]))
    sampler = ClassBalancedSampler(pixels, num_samples=12, seed=1)

    def load(workers, epoch):
        source = MultiScaleBatchSampler(sampler, scales=[32, 64], batch_size=3, every=1, seed=4)
        source.set_epoch(epoch)
        keys = list(source)
        source.set_epoch(epoch)
        loaded = list(DataLoader(dataset, batch_sampler=source, num_workers=workers))
        for batch, wanted in zip(loaded, keys, strict=True):
            assert batch["image"].shape[-2:] == wanted[0].size
            for mask, key in zip(batch["mask"], wanted, strict=True):
                assert (mask == key.focus_class).any(), "the crop holds the class that was drawn"
        return loaded

    alone, apart, later = load(0, 0), load(2, 0), load(0, 2)
    for one, two in zip(alone, apart, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in ("image", "mask", "index"))
    assert not all(torch.equal(one["image"], two["image"]) for one, two in zip(alone, later, strict=True))
