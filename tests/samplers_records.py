"""Data sets that say what they were asked for. Apart from the tests, since each spawned worker imports this file."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset, get_worker_info


class Recorder(Dataset):
    """A sample is what its key says, with a random number of its own."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, key):
        height, width = (0, 0) if key.size is None else key.size
        draw = torch.rand(1, generator=key.generator()).item()
        worker = get_worker_info()
        place = torch.tensor([int(key), key.epoch, height, width, -1 if worker is None else worker.id])
        return {"facts": place, "draw": torch.tensor(draw, dtype=torch.float64)}


class Pictures(Recorder):
    """Pictures of the size that the key asks for: stacking fails if sizes mix."""

    def __getitem__(self, key):
        return super().__getitem__(key) | {"image": torch.zeros(1, *key.size)}
