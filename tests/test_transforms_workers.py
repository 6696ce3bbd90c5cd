"""An epoch is the same with any number of workers, forked or spawned, and the next one is another."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from segkit.collate import pad_collate
from segkit.datasets import PairDataset
from segkit.samplers import MultiScaleBatchSampler, ShuffleSampler
from segkit.transforms import (
    ColorJitter,
    Compose,
    ElasticDeform,
    GaussianNoise,
    HorizontalFlip,
    RandomAffine,
    RandomCrop,
    RandomScale,
)


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(16):
        image, mask = tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png"
        Image.fromarray(rng.integers(0, 256, (60, 70, 3), dtype=np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 4, (60, 70), dtype=np.uint8)).save(mask)
        pairs.append((image, mask))
    row = [RandomScale((0.8, 1.2)), RandomAffine(), ElasticDeform(2), HorizontalFlip(), RandomCrop(32)]
    return PairDataset(pairs, transform=Compose([*row, ColorJitter(), GaussianNoise()]))


def epochs(dataset, workers, context=None):
    """A digest of each batch of two epochs, with the sizes of its pictures."""
    sampler = MultiScaleBatchSampler(ShuffleSampler(16, seed=5), scales=[16, 32], batch_size=4, every=1, multiple_of=16)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        multiprocessing_context=context,
        collate_fn=pad_collate,
        timeout=100 if workers else 0,
        persistent_workers=workers > 0,
    )
    digests = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        digests.append([digest(batch) for batch in loader])
    return digests


def digest(batch):
    parts = (batch["image"].numpy().tobytes(), batch["mask"].numpy().tobytes(), batch["index"].numpy().tobytes())
    return tuple(batch["image"].shape), hashlib.sha256(b"".join(parts)).hexdigest()


WORKERS = [(2, "fork"), (8, "fork"), (2, "spawn")]
if os.environ.get("SEGKIT_LONG"):
    WORKERS.append((8, "spawn"))


@pytest.mark.parametrize(("workers", "context"), WORKERS)
@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_epochs_do_not_depend_on_the_workers_and_differ_from_each_other(dataset, workers, context):
    alone = epochs(dataset, 0)  # this also starts OpenCV's threads before anything is forked
    assert epochs(dataset, workers, context) == alone
    assert {shape[-1] for shape, _ in alone[0] + alone[1]} == {16, 32}
    assert not {name for _, name in alone[0]} & {name for _, name in alone[1]}
    torch.manual_seed(123)
    assert epochs(dataset, 0) == alone, "the global generator plays no part"
