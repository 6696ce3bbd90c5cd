"""Each sample once, in an order that is computed; or in the order that a sampler of your own gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.samplers._base import whole_number
from segkit.samplers._engine.foreign import drawn_from
from segkit.samplers._engine.permutation import KeyedPermutation
from segkit.samplers._ordered import Order, OrderedSampler, as_indices, checksum


class Shuffled:
    """[0, n) in the order of a keyed permutation."""

    once = True

    def __init__(self, n: int, seed: int, epoch: int) -> None:
        self.total = n
        self._permutation = KeyedPermutation(n, seed, epoch)

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self._permutation(positions), None


class Counted:
    """[0, n) in order."""

    once = True

    def __init__(self, n: int) -> None:
        self.total = n

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return positions, None


class ShuffleSampler(OrderedSampler):
    """Every sample once per epoch, in another order each epoch, in constant memory.

    The order is a keyed permutation of [0, n): a pure function of (seed, epoch), computed run by run, so a billion
    samples begin as fast as ten and a saved place is three numbers. The order does not depend on the number of ranks;
    position p of it goes to rank p modulo `world_size`.

    Args:
        n: number of samples, up to 2**40: `len(data_set)`. Or the samples that take part, as numbers of the whole data
            set: the list of a fold, the `.indices` of torch's Subset. Or a sampler of your own or of torch, that has a
            length: its order is dealt out as it comes, drawn once per epoch from randomness that is a pure function of
            (seed, epoch), so all ranks agree on it.
        seed: whole number, [0, 2**64).
        rank: this process's number; leave it at 0 where a framework divides the batches itself (Accelerate).
        world_size: number of processes.
        tail: what happens where the samples are not a multiple of `world_size`. "pad": the first of the order come
            again, up to `world_size - 1` of them, so that every rank gets equally many; "drop": the last of the order
            are left out of this epoch; "uneven": each exactly once, some ranks one fewer (for equal steps as well, put
            this sampler into a `MultiScaleBatchSampler`).
        shuffle: False keeps the order of the data set, for validation; with ``tail="uneven"`` each sample counts once.

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

        A fold of a cross-validation, on the whole data set; and a part for each rank, in order:

        >>> sorted(int(key) for key in ShuffleSampler([3, 5, 8], seed=0))
        [3, 5, 8]
        >>> [int(key) for key in ShuffleSampler(7, rank=1, world_size=2, tail="uneven", shuffle=False)]
        [1, 3, 5]

    Source: Black and Rogaway 2002, permutations of any size from keyed rounds and cycle walking.
    """

    def __init__(
        self,
        n: Any,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "pad",
        shuffle: bool = True,
    ) -> None:
        self._own = n if is_sampler(n) else None
        fold = as_fold("ShuffleSampler", n) if self._own is None else None
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail, indices=fold)
        if self._own is not None:
            self.n = len(self._own)
        else:
            self.n = len(fold) if fold is not None else whole_number("ShuffleSampler", "n", n, 0, 2**40 + 1)
        self.shuffle = bool(shuffle)

    def __repr__(self) -> str:
        fold = self.indices is not None and (self.indices.tolist() if self.n <= 8 else f"<{self.n} indices>")
        where = f"rank={self.rank}, world_size={self.world_size}, tail={self.tail!r}"
        shuffle = "" if self.shuffle else ", shuffle=False"
        return f"ShuffleSampler({self._own or fold or self.n}, seed={self.seed}, {where}{shuffle})"

    def order(self, epoch: int) -> Sequence[int] | np.ndarray | Order:
        """A keyed permutation, or what the sampler within draws."""
        if self._own is not None:
            return drawn_from(self._own, self.seed, epoch)
        return Shuffled(self.n, self.seed, epoch) if self.shuffle else Counted(self.n)

    def _total(self, epoch: int) -> int:
        return self.n if self._own is None else super()._total(epoch)

    def identity(self) -> dict[str, Any]:
        own = {} if self._own is None else {"own": type(self._own).__name__}
        return {"n": self.n} | own | ({} if self.shuffle else {"shuffle": False})

    def _evidence(self, epoch: int) -> dict[str, Any]:
        return {} if self._own is None else {"drawn": checksum(np.asarray(self.order(epoch)))}

    _remedy = (
        "The inner sampler must be made with the same arguments, and draw from torch's, NumPy's or Python's generator."
    )

    def _settings(self) -> str:
        if self._own is not None:
            return f"{self.n} draws per epoch of {type(self._own).__name__}, seeded with (seed {self.seed}, epoch)"
        if not self.shuffle:
            return f"each of {self.n} samples once per epoch, in order"
        return f"each of {self.n} samples once per epoch, in another order each epoch (seed {self.seed})"

    def _idle(self) -> list[str]:
        even = self.world_size > 1 and self.n % self.world_size == 0
        return [f"tail={self.tail!r}: {self.n} samples divide evenly by {self.world_size} ranks"] if even else []


def is_sampler(source: Any) -> bool:
    """Is it a sampler, of torch or anybody's own: iterable, with a length, and without items to look up?"""
    return hasattr(source, "__iter__") and hasattr(source, "__len__") and not hasattr(source, "__getitem__")


def as_fold(function: str, n: Any) -> np.ndarray | None:
    """The samples that take part, if `n` lists them."""
    if isinstance(n, (list, tuple, range, np.ndarray)) or hasattr(n, "tolist"):
        return None if getattr(n, "ndim", 1) == 0 else as_indices(function, "n", n)
    if hasattr(n, "__getitem__"):
        raise TypeError(
            f"{function}: `n` must be a number of samples, the list of those that take part, or a sampler, got a data "
            f"set, {type(n).__name__}. Give len(data_set); of torch's Subset, with the whole data set in the loader, "
            "its .indices."
        )
    return None
