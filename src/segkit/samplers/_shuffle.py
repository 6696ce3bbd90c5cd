"""Each sample once, in an order that is computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from segkit.samplers._base import whole_number
from segkit.samplers._order import Order, OrderedSampler
from segkit.samplers._permutation import KeyedPermutation


class Shuffled:
    """[0, n) in the order of a keyed permutation."""

    once = True

    def __init__(self, n: int, seed: int, epoch: int) -> None:
        self.total = n
        self._permutation = KeyedPermutation(n, seed, epoch)

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self._permutation(positions), None


class ShuffleSampler(OrderedSampler):
    """Every sample once per epoch, in another order each epoch, in constant memory.

    The order is a keyed permutation of [0, n): a pure function of (seed, epoch), computed run by run, so a billion
    samples begin as fast as ten and a saved place is three numbers. The order does not depend on the number of ranks;
    position p of it goes to rank p modulo `world_size`.

    Args:
        n: number of samples, up to 2**40. `len(data_set)`.
        seed: whole number, [0, 2**64).
        rank: this process's number; leave it at 0 where a framework divides the batches itself (Accelerate).
        world_size: number of processes.
        tail: what happens where n is no multiple of `world_size`. "pad": the first of the order come again, up to
            `world_size - 1` of them, so that every rank gets equally many; "drop": the last of the order are left out
            of this epoch; "uneven": each exactly once, some ranks one fewer (for equal steps as well, put this sampler
            into a `MultiScaleBatchSampler`).

    Yields:
        `SampleKey`: an int with the epoch, the seed and a generator for its augmentation.

    Example:
        >>> sampler = ShuffleSampler(5, seed=0)
        >>> sorted(sampler) == [0, 1, 2, 3, 4], list(sampler) == list(sampler)
        (True, False)
        >>> sampler.set_epoch(3)
        >>> order = list(sampler)
        >>> sampler.load_state_dict({**sampler.state_dict(), "epoch": 3, "consumed": 2})
        >>> list(sampler) == order[2:]
        True

    Source: Black and Rogaway 2002, permutations of any size from keyed rounds and cycle walking.
    """

    def __init__(self, n: int, *, seed: int = 0, rank: int = 0, world_size: int = 1, tail: str = "pad") -> None:
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail)
        self.n = whole_number("ShuffleSampler", "n", n, 0, 2**40 + 1)

    def __repr__(self) -> str:
        where = f"rank={self.rank}, world_size={self.world_size}, tail={self.tail!r}"
        return f"ShuffleSampler({self.n}, seed={self.seed}, {where})"

    def _make_order(self, epoch: int) -> Order:
        return Shuffled(self.n, self.seed, epoch)

    def _total(self, epoch: int) -> int:
        return self.n

    def _identity(self) -> dict[str, Any]:
        return {"n": self.n, "seed": self.seed, "tail": self.tail}

    def _settings(self) -> str:
        return f"each of {self.n} samples once an epoch, in another order each epoch (seed {self.seed})"

    def _idle(self) -> list[str]:
        even = self.world_size > 1 and self.n % self.world_size == 0
        return [f"tail={self.tail!r}: {self.n} samples divide evenly by {self.world_size} ranks"] if even else []
