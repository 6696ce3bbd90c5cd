"""The index that says more than which sample: how large, and from which randomness."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]


def keyed_words(seed: int, epoch: int, stream: int, number: int, *, words: int) -> list[int]:
    """Random 32-bit words that are a pure function of the numbers; the same in every version of NumPy.

    `stream` keeps uses apart: 0 augmentation, 1 order, 2 scales. Each number enters as two words, so that no two
    different tuples run together.
    """
    entropy = [part for whole in (seed, epoch, stream, number) for part in (whole & 0xFFFFFFFF, whole >> 32)]
    return [int(word) for word in np.random.SeedSequence(entropy).generate_state(words)]


class SampleKey(int):
    """An index that carries how to make its sample: any map-style data set takes it as a plain int.

    The size, the epoch and the randomness travel with the index into whichever worker loads it, so workers,
    prefetching and persistent workers cannot mix them up, and a data set needs no state.

    Args:
        index: which sample.
        size: (height, width) in pixels that the sample is to have; None: as the transform says.
        epoch: the pass over the data that the key belongs to, from 0.
        seed: the sampler's seed.
        focus_class: the class that a crop is to contain; None: any.
        position: the place in the epoch's order. It tells repeated draws of a sample apart; None: the index does.

    Example:
        >>> key = SampleKey(7, size=(256, 384), epoch=2, seed=1)
        >>> ["a", "b", "c", "d", "e", "f", "g", "h"][key], key.size, key.epoch
        ('h', (256, 384), 2)
        >>> import torch
        >>> torch.rand(1, generator=key.generator()) == torch.rand(1, generator=key.generator())
        tensor([True])
    """

    size: Size | None = None
    epoch: int = 0
    seed: int = 0
    focus_class: int | None = None
    position: int | None = None
    _reading: Any = None  # the pass that drew it, in the process that did

    def __new__(
        cls,
        index: int,
        *,
        size: Size | None = None,
        epoch: int = 0,
        seed: int = 0,
        focus_class: int | None = None,
        position: int | None = None,
    ) -> SampleKey:
        key = int.__new__(cls, index)
        key.__dict__.update(size=size, epoch=epoch, seed=seed, focus_class=focus_class, position=position)
        return key

    def generator(self) -> torch.Generator:
        """A fresh CPU generator for this sample's augmentation: the same each time it is asked for.

        It is a pure function of (seed, epoch, position), whichever worker, rank or framework asks.
        """
        import torch  # here, so that samplers stay light to import

        low, high = keyed_words(self.seed, self.epoch, 0, self.draw, words=2)
        return torch.Generator().manual_seed(low | high << 32)

    @property
    def draw(self) -> int:
        """What tells this draw from the others of its epoch: the position, or the index where each comes once."""
        return int(self) if self.position is None else self.position

    def __repr__(self) -> str:
        fields = ("size", "epoch", "seed", "focus_class", "position")
        given = [f"{name}={getattr(self, name)!r}" for name in fields if getattr(self, name) is not None]
        return f"SampleKey({', '.join([int.__repr__(self), *given])})"

    __str__ = int.__repr__  # so that f"{key}.png" names a file as a plain index does

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reading is not None:
            self._reading.sent = True  # pickled: it goes to a worker process, which may be ahead of the training loop
        return _restore, (int(self), self.size, self.epoch, self.seed, self.focus_class, self.position)


def key_class(size: Size | None, epoch: int, seed: int, reading: Any = None) -> type[SampleKey]:
    """A SampleKey with the common fields on the class: made a million times a second, and a few bytes each."""
    return type("SampleKey", (SampleKey,), {"size": size, "epoch": epoch, "seed": seed, "_reading": reading})


_class_in_worker = lru_cache(maxsize=64)(key_class)


def _restore(
    index: int, size: Size | None, epoch: int, seed: int, focus_class: int | None, position: int | None
) -> SampleKey:
    key = int.__new__(_class_in_worker(size, epoch, seed), index)
    if focus_class is not None:
        key.focus_class = focus_class
    if position is not None:
        key.position = position
    return key
