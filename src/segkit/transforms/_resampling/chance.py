"""Where chance comes from: a generator of torch, or the numbers that it would give without a call of torch for each."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

_BYTES = 5056  # of the state of torch's generator on the CPU: a Mersenne Twister of 624 words behind 24 bytes


class Chance:
    """What a generator on the CPU would draw: the same numbers, by no operator of torch.

    A batch draws hundreds of numbers, of which each would be a call; and a compiler need not look at them.
    """

    def __init__(self, twister: np.random.RandomState) -> None:
        self._twister = twister

    @classmethod
    def seeded(cls, seed: int) -> Chance:
        """As `torch.Generator().manual_seed(seed)`."""
        return cls(np.random.RandomState(seed & 0xFFFFFFFF))

    @classmethod
    def of(cls, generator: torch.Generator) -> Chance:
        """Goes on where the generator stands; `give_back` lets that go on in turn."""
        state = generator.get_state().numpy()
        left, following = int(state[8:12].view(np.int32)[0]), int(state[16:24].view(np.int64)[0])
        twister = np.random.RandomState()
        words = state[24 : 24 + 624 * 8].view(np.uint64).astype(np.uint32)
        twister.set_state(("MT19937", words, 624 if left == 1 else following, 0, 0.0))
        return cls(twister)

    def give_back(self, generator: torch.Generator) -> None:
        """Let the generator go on where this stands."""
        twister: Any = self._twister.get_state(legacy=False)["state"]
        words, place = twister["key"], int(twister["pos"])
        state = generator.get_state().numpy().copy()
        state[8:12].view(np.int32)[0] = 625 - place
        state[16:24].view(np.int64)[0] = place
        state[24 : 24 + 624 * 8].view(np.uint64)[:] = words
        generator.set_state(torch.from_numpy(state))

    def rand(self, count: int) -> np.ndarray:
        """As `torch.rand(count, dtype=torch.float64)`."""
        return (self._long(count) & ((1 << 53) - 1)) * 2.0**-53

    def below(self, high: int) -> int:
        """As `torch.randint(high, ())`."""
        return int(self._long(1)[0] if high >= 1 << 32 else self._words(1)[0]) % high

    def randn(self, count: int) -> np.ndarray:
        """As `torch.randn(count, dtype=torch.float64)` from 16 numbers on: by Box and Muller, in blocks of 16."""
        values = self.rand(count)
        whole = count - count % 16
        values[:whole] = _normal(values[:whole])
        if count % 16:
            values[-16:] = _normal(self.rand(16))
        return values

    def permuted(self, count: int) -> list[int]:
        """As `torch.randperm(count)`."""
        order = list(range(count))
        for place in range(count - 1):
            other = place + self.below(count - place)
            order[place], order[other] = order[other], order[place]
        return order

    def _words(self, count: int) -> np.ndarray:
        return np.frombuffer(self._twister.bytes(4 * count), "<u4")

    def _long(self, count: int) -> np.ndarray:
        words = self._words(2 * count).astype(np.uint64)
        return (words[0::2] << np.uint64(32)) | words[1::2]


Source = torch.Generator | Chance | None


@functools.cache
def can_be_read() -> bool:
    """Are torch's generators made as `Chance` takes it?"""
    generator = torch.Generator().manual_seed(7)
    if generator.get_state().numel() != _BYTES:
        return False
    torch.rand(3, generator=generator)
    chance = Chance.of(generator)
    alike = chance.rand(1)[0] == torch.rand((), generator=generator, dtype=torch.float64).item()
    chance.give_back(generator)
    return bool(alike and chance.below(99) == torch.randint(99, (), generator=generator).item())


def on_host(generator: torch.Generator | None) -> torch.Generator | None:
    """The generator; for one on a device, another that follows from it, without a number being read from there."""
    if generator is None or generator.device.type == "cpu":
        return generator
    state = generator.get_state().numpy().tobytes()  # a seed and a place, which the host knows
    torch.empty(1, device=generator.device).uniform_(generator=generator)  # the next call finds another place
    seed = int.from_bytes(hashlib.blake2b(state, digest_size=8).digest(), "little") >> 1
    return torch.Generator().manual_seed(seed)


def uniform(low: float, high: float, generator: Source) -> float:
    """A number from [low, high)."""
    return uniforms([(low, high)], generator)[0]


def uniforms(ranges: Sequence[tuple[float, float]], generator: Source) -> list[float]:
    """A number from each [low, high), in one call of the generator."""
    if isinstance(generator, Chance):
        draws = generator.rand(len(ranges)).tolist()
    else:
        device = None if generator is None else generator.device
        draws = torch.rand(len(ranges), generator=generator, device=device, dtype=torch.float64).tolist()
    return [low + (high - low) * each for (low, high), each in zip(ranges, draws, strict=True)]


def log_uniform(low: float, high: float, generator: Source) -> float:
    """A positive number whose logarithm is uniform: as often between 1/2 and 1 as between 1 and 2."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def integer(high: int, generator: Source) -> int:
    """One of 0, 1, ..., high - 1, each equally likely."""
    if isinstance(generator, Chance):
        return generator.below(high)
    device = None if generator is None else generator.device
    return int(torch.randint(high, (), generator=generator, device=device).item())


def normals(shape: tuple[int, ...], generator: Source) -> np.ndarray:
    """At least 16 numbers of mean 0 and deviation 1, float64."""
    if isinstance(generator, Chance):
        return generator.randn(math.prod(shape)).reshape(shape)
    device = None if generator is None else generator.device
    drawn: np.ndarray = torch.randn(shape, generator=generator, device=device, dtype=torch.float64).cpu().numpy()
    return drawn


def permutation(count: int, generator: Source) -> list[int]:
    """0, 1, ..., count - 1 in an order by chance."""
    if isinstance(generator, Chance):
        return generator.permuted(count)
    device = None if generator is None else generator.device
    order: list[int] = torch.randperm(count, generator=generator, device=device).tolist()
    return order


def _normal(values: np.ndarray) -> np.ndarray:
    """Normal numbers from even ones: of each 16, the first eight with the last eight."""
    first, last = values.reshape(-1, 2, 8).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * math.pi * last
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
