"""Samplers that yield one sample after another: an order of the whole epoch, dealt out to the ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np

from segkit.samplers._base import Pass, Sampler
from segkit.samplers._key import SampleKey


class Order(Protocol):
    """The order of one epoch, before it is dealt out: `total` draws, each computed from its position."""

    total: int
    once: bool  # each index at most once, so that the index tells the draws apart

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The index at each position in [0, total), and its focus class where there is one; both int64."""
        ...


class OrderedSampler(Sampler[SampleKey]):
    """Deals an order out to the ranks like cards: position p goes to rank p modulo world_size.

    So the order of an epoch does not depend on the number of ranks, and neither does any sample's randomness.
    """

    _cached: tuple[int, Order] | None = None

    @abstractmethod
    def _make_order(self, epoch: int) -> Order:
        """The order of an epoch."""

    def _total(self, epoch: int) -> int:
        """Draws of an epoch over all ranks."""
        return self._order(epoch).total

    def _order(self, epoch: int) -> Order:
        if self._cached is None or self._cached[0] != epoch:
            self._cached = epoch, self._make_order(epoch)
        return self._cached[1]

    def _forget(self) -> None:
        self._cached = None

    def _length(self, epoch: int) -> int:
        total = self._total(epoch)
        if self.tail == "drop":
            return total // self.world_size
        if self.tail == "uneven":
            return (total - self.rank + self.world_size - 1) // self.world_size
        return -(-total // self.world_size)

    def _run(self, reading: Pass[SampleKey], start: int, stop: int) -> tuple[Iterator[Any], Iterator[SampleKey]]:
        order = self._order(reading.epoch)
        positions = np.arange(start, stop, dtype=np.int64) * self.world_size + self.rank
        positions %= order.total  # beyond the end the order begins anew: the pad
        if order.once:
            # The list iterator counts what is left; C code turns each int into a key, past SampleKey's own __new__.
            left: Iterator[Any] = iter(order.take(positions)[0].tolist())
            return left, map(partial(int.__new__, reading.key_class()), left)
        left = iter(make_keys(reading.key_class(), order, positions))
        return left, left


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
