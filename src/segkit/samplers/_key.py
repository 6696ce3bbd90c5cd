"""The index that says more than which sample: how large, and from which randomness."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from segkit.samplers._engine.words import keyed_words

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]


class SampleKey(int):
    """An index that carries how to make its sample: any map-style data set takes it as a plain int.

    The size, the epoch and the randomness travel with the index into whichever worker loads it, so workers,
    prefetching and persistent workers cannot mix them up, and a data set needs no state.

    Arithmetic keeps all of it (``key - offset``, ``key % length``, ``divmod``), as data sets that join or repeat others
    do it. A data set that looks its index up in a list hands on ``key.at(indices[key])``. Whatever else a sample needs
    to know may be set as an attribute of a key: it travels along.

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
        >>> inner = key % 5
        >>> int(inner), inner.size, inner.sample
        (2, (256, 384), 7)
    """

    size: Size | None = None
    epoch: int = 0
    seed: int = 0
    focus_class: int | None = None
    position: int | None = None
    _drawn: int | None = None  # the number that the sampler drew, where the index is another by now
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
        return self.sample if self.position is None else self.position

    @property
    def sample(self) -> int:
        """The number that the sampler drew, however data sets between have changed the index: ledgers count by it."""
        return int(self) if self._drawn is None else self._drawn

    def at(self, index: int) -> SampleKey:
        """This draw for another index: for a data set that hands it on to one that it wraps.

        Args:
            index: the number of the sample in the inner data set.

        Example:
            >>> fold = [3, 5, 8]
            >>> key = SampleKey(1, size=(32, 32)).at(fold[1])
            >>> int(key), key.size, key.sample
            (5, (32, 32), 1)
        """
        key = int.__new__(type(self), index)
        key.__dict__.update(self.__dict__)
        key._drawn = self.sample
        return key

    def __repr__(self) -> str:
        fields = ("size", "epoch", "seed", "focus_class", "position")
        given = [f"{name}={getattr(self, name)!r}" for name in fields if getattr(self, name) is not None]
        return f"SampleKey({', '.join([int.__repr__(self), *given])})"

    __str__ = int.__repr__  # so that f"{key}.png" names a file as a plain index does

    def __iter__(self) -> Iterator[NoReturn]:
        raise TypeError(
            "SampleKey: a batch must be a list of keys, got one key. "
            "Give a sampler of single samples as DataLoader(sampler=..., batch_size=...), not as batch_sampler=."
        )

    def __divmod__(self, other: Any) -> Any:
        quotient, rest = self // other, self % other
        return NotImplemented if NotImplemented in (quotient, rest) else (quotient, rest)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reading is not None:
            self._reading.sent = True  # pickled: it goes to a worker process, which may be ahead of the training loop
        return _restore, (int(self), self.size, self.epoch, self.seed, self.__dict__)


def _keeping(name: str) -> Callable[..., Any]:
    """An operator of int whose whole result is the same draw for another index."""
    operate = getattr(int, name)

    def method(self: SampleKey, *others: Any) -> Any:
        # NumPy's numbers and tensors without axes count as the ints they are, or they would answer in our place.
        plain = [operator.index(o) if hasattr(o, "__index__") and not getattr(o, "ndim", 0) else o for o in others]
        value = operate(self, *plain)
        return self.at(value) if type(value) is int else value

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "mod", "neg", "pos", "abs"):
    setattr(SampleKey, f"__{_name}__", _keeping(f"__{_name}__"))


def key_class(size: Size | None, epoch: int, seed: int, reading: Any = None) -> type[SampleKey]:
    """A SampleKey with the common fields on the class: made a million times a second, and a few bytes each."""
    return type("SampleKey", (SampleKey,), {"size": size, "epoch": epoch, "seed": seed, "_reading": reading})


_class_in_worker = lru_cache(maxsize=64)(key_class)


def _restore(index: int, size: Size | None, epoch: int, seed: int, own: dict[str, Any]) -> SampleKey:
    key = int.__new__(_class_in_worker(size, epoch, seed), index)
    key.__dict__.update(own)
    return key
