"""Samplers that yield one sample after another: an order of the whole epoch, dealt out to the ranks."""

from __future__ import annotations

import weakref
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from segkit.samplers._base import Sampler
from segkit.samplers._engine.clock import Place
from segkit.samplers._engine.reading import Pass
from segkit.samplers._key import SampleKey, Size, key_class


class Order(Protocol):
    """The order of one epoch, before it is dealt out: `total` draws, each computed from its position.

    Example:
        Every number below a million, backwards, and nothing stored:

        >>> class Backwards:
        ...     total, once = 10**6, True
        ...
        ...     def take(self, positions):
        ...         return self.total - 1 - positions, None
        >>> Backwards().take(np.array([0, 999_999]))[0].tolist()
        [999999, 0]
    """

    total: int
    once: bool  # each index at most once, so that the index tells the draws apart

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The index at each position in [0, total), and its focus class where there is one; both int64."""
        ...


class OrderedSampler(Sampler[SampleKey]):
    """The base of samplers of single samples, and of your own: say the order, and the rest is there.

    A subclass has `order`, and is then dealt out to ranks, resumed, batched at several scales, counted and described
    as the samplers of this module are. The order is dealt like cards: position p goes to rank p modulo `world_size`. So
    it does not depend on the number of ranks, and neither does any sample's randomness.

    Args:
        seed: whole number, [0, 2**64).
        rank: this process's number, in [0, `world_size`).
        world_size: number of processes.
        tail: what happens where the draws are not a multiple of `world_size`: "pad", "drop" or "uneven", as in
            `ShuffleSampler`.
        indices: the samples that take part, as numbers of the whole data set: a fold, a split. `order` then speaks of
            places in this list. None: all.

    Example:
        Every other sample, the odd ones in odd epochs:

        >>> class Halves(OrderedSampler):
        ...     def __init__(self, n, **place):
        ...         super().__init__(**place)
        ...         self.n = n
        ...
        ...     def order(self, epoch):
        ...         return range(epoch % 2, self.n, 2)
        ...
        ...     def identity(self):
        ...         return {"n": self.n}
        >>> sampler = Halves(6, rank=0, world_size=2)
        >>> [[int(key) for key in sampler] for epoch in range(2)]
        [[0, 4], [1, 5]]
    """

    _cached: tuple[int, Order] | None = None
    _listeners: weakref.WeakSet[Sampler[Any]] | None = None  # the batch samplers that batch this order

    def __init__(
        self,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "pad",
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail)
        self.indices = None if indices is None else as_indices(type(self).__name__, "indices", indices)
        self._fold = {} if self.indices is None else {"indices": f"{len(self.indices)}, {checksum(self.indices)}"}

    # What a subclass says -------------------------------------------------------------------------------------------

    @abstractmethod
    def order(self, epoch: int) -> Sequence[int] | np.ndarray | Order:
        """The samples of an epoch, over all ranks, in order: a pure function of the arguments and the epoch.

        Args:
            epoch: which epoch, from 0. `segkit.samplers.SampleKey` has the rest of what a sampler may say: give an
                object with `total`, `once` and ``take(positions) -> (indices, focus classes or None)`` where the order
                is too long to be listed, or where draws have a class to focus on.
        """

    def identity(self) -> dict[str, Any]:
        """The arguments that decide the order, as plain values: a saved place is taken only where they agree."""
        return {}

    # ----------------------------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, and that of a batch sampler that batches this order: see `Sampler`."""
        super().set_epoch(epoch)
        for sampler in self._listeners or ():
            sampler.set_epoch(epoch)

    def _listen(self, sampler: Sampler[Any]) -> None:
        """Frameworks say the epoch to ``loader.batch_sampler.sampler``: the batch sampler is to hear it."""
        if self._listeners is None:
            self._listeners = weakref.WeakSet()
        self._listeners.add(sampler)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_listeners": None}

    @property
    def num_replicas(self) -> int:
        """`world_size`, by the name that torch's DistributedSampler gives it."""
        return self.world_size

    def __repr__(self) -> str:
        fields = self.identity() | {"seed": self.seed, "rank": self.rank, "world_size": self.world_size}
        return f"{type(self).__name__}({', '.join(f'{f}={v!r}' for f, v in fields.items())}, tail={self.tail!r})"

    def _identity(self) -> dict[str, Any]:
        return self.identity() | self._fold | {"seed": self.seed, "tail": self.tail}

    def _total(self, epoch: int) -> int:
        """Draws of an epoch over all ranks."""
        return self._order(epoch).total

    def _order(self, epoch: int) -> Order:
        if self._cached is None or self._cached[0] != epoch:
            order: Any = self.order(epoch)
            named: Order = order if hasattr(order, "total") else Listed(self, order)
            self._cached = epoch, named if self.indices is None else Fold(self, named)
        return self._cached[1]

    def _forget(self) -> None:
        self._cached = None

    def _stop(self, epoch: int, origin: int) -> int:
        left = max(self._total(epoch) - origin, 0)
        if self.tail == "drop":
            return left // self.world_size
        if self.tail == "uneven":
            return (left - self.rank + self.world_size - 1) // self.world_size
        return -(-left // self.world_size)

    def _on_other_ranks(self, state: dict[str, Any]) -> Place:
        origin = state.get("origin", 0) + state["consumed"] * state["world_size"]
        return Place(state["epoch"], 0, min(origin, self._total(state["epoch"])))

    def _run(self, reading: Pass[SampleKey], start: int, stop: int) -> tuple[Iterator[Any], Iterator[SampleKey]]:
        order = self._order(reading.epoch)
        positions = np.arange(start, stop, dtype=np.int64) * self.world_size + (self.rank + reading.origin)
        positions %= order.total  # beyond the end the order begins anew: the pad
        kind = kind_of_key(reading, None, self.seed)
        if order.once:
            # The list iterator counts what is left; C code turns each int into a key, past SampleKey's own __new__.
            left: Iterator[Any] = iter(order.take(positions)[0].tolist())
            return left, map(partial(int.__new__, kind), left)
        left = iter(make_keys(kind, order, positions))
        return left, left


class Listed:
    """An order as its list."""

    def __init__(self, sampler: OrderedSampler, order: Any) -> None:
        self._indices = as_indices(f"{type(sampler).__name__}.order", "the order", order)
        self.total = len(self._indices)
        self.once = len(np.unique(self._indices)) == self.total

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self._indices[positions], None


class Fold:
    """An order of places in a list of samples, as an order of the samples."""

    def __init__(self, sampler: OrderedSampler, order: Order) -> None:
        assert sampler.indices is not None
        self._indices, self._order = sampler.indices, order
        self.total = order.total
        self.once = order.once and len(np.unique(self._indices)) == len(self._indices)

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        places, focus = self._order.take(positions)
        return self._indices[places], focus


def kind_of_key(reading: Pass[Any], size: Size | None, seed: int) -> type[SampleKey]:
    """The class of a pass's keys of one size."""
    if size not in reading.kinds:
        reading.kinds[size] = key_class(size, reading.epoch, seed, reading)
    kind: type[SampleKey] = reading.kinds[size]
    return kind


def make_keys(kind: type[SampleKey], order: Order, positions: np.ndarray) -> list[SampleKey]:
    """The keys of these positions."""
    indices, focus = order.take(positions)
    keys = [int.__new__(kind, index) for index in indices.tolist()]
    if not order.once:
        for key, position in zip(keys, positions.tolist(), strict=True):
            key.position = position
    if focus is not None:
        for key, focus_class in zip(keys, focus.tolist(), strict=True):
            key.focus_class = focus_class
    return keys


def as_indices(function: str, argument: str, indices: Any) -> np.ndarray:
    """Numbers of samples as an int64 array [n], n >= 0, none of them negative."""
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{function}: `{argument}` must be whole numbers of samples, shape [n], got shape {array.shape} of "
            f"{array.dtype}. Of a mask, give numpy.flatnonzero(mask)."
        )
    if array.size and array.min() < 0:
        raise ValueError(f"{function}: `{argument}` must hold indices of samples from 0 on, got {array.min()}.")
    return array.astype(np.int64)


def checksum(array: np.ndarray) -> str:
    """A short name for the content of an array."""
    return f"crc32 {zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"
