"""The order that somebody else's sampler draws, as a pure function of (seed, epoch)."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from segkit.samplers._engine.words import keyed_words

FOREIGN = 9  # a stream of randomness, beside the order's own


def drawn_from(sampler: Any, seed: int, epoch: int) -> list[int]:
    """The numbers that a sampler gives in an epoch, drawn at once.

    Raises:
        TypeError: it gives batches, or no numbers.
    """
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    with _seeded(sampler, *keyed_words(seed, epoch, FOREIGN, 0, words=2)):
        drawn = list(itertools.islice(sampler, len(sampler)))
    for item in drawn[:1]:
        if not hasattr(item, "__index__"):
            raise TypeError(
                f"segkit.samplers: {type(sampler).__name__} must give indices of samples, got {item!r}. "
                "Give a sampler of single samples: batches are made of its order."
            )
    return [int(item) for item in drawn]


@contextmanager
def _seeded(sampler: Any, low: int, high: int) -> Iterator[None]:
    """Whatever generator a sampler draws from begins at these words, and goes on afterwards as if nothing was drawn."""
    torch = sys.modules.get("torch")  # a sampler that draws from torch has imported it
    generator = getattr(sampler, "generator", None)
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the legacy one is what they draw from)
    states = []
    if torch is not None:
        own = [generator] if isinstance(generator, torch.Generator) else []
        states = [(each, each.get_state()) for each in (torch.default_generator, *own)]
    try:
        random.seed(low | high << 32)
        np.random.seed(low)  # noqa: NPY002
        for each, _ in states:
            each.manual_seed(low | high << 32)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        for each, state in states:
            each.set_state(state)
