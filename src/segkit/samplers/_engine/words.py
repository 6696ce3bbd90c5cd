"""Randomness as a pure function of numbers."""

from __future__ import annotations

import numpy as np


def keyed_words(seed: int, epoch: int, stream: int, number: int, *, words: int) -> list[int]:
    """Random 32-bit words that are a pure function of the numbers; the same in every version of NumPy.

    `stream` keeps uses apart: 0 augmentation, 1 order, 2 scales. Each number enters as two words, so that no two
    different tuples run together.
    """
    entropy = [part for whole in (seed, epoch, stream, number) for part in (whole & 0xFFFFFFFF, whole >> 32)]
    return [int(word) for word in np.random.SeedSequence(entropy).generate_state(words)]
