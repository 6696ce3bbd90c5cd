"""How a batch of logits is cut into blocks that stay in the cache.

Everything here works on *flat* shapes: logits ``[B, C, N]``, one value a pixel ``[B, N]``. A block is a slice of
samples and a slice of pixels; small images are taken several at a time, large ones in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

# 2**19 elements are 2 MiB in float32: inside L2 + L3 while an operator's launch costs little. Measured at
# 4 x 21 x 512**2: 2**15 is three times slower. Small batches take smaller blocks, so that scratch memory stays a small
# part of the logits.
LARGEST, SMALLEST, PARTS = 2**19, 2**16, 32


class Block(NamedTuple):
    """Which samples and which pixels of each."""

    samples: slice
    pixels: slice


def blocks(batch: int, classes: int, pixels: int, row: int = 1) -> Iterator[Block]:
    """Cut ``[batch, classes, pixels]``; a block holds whole rows of ``row`` pixels."""
    per_block = min(LARGEST, max(SMALLEST, batch * classes * pixels // PARTS))
    samples = max(1, per_block // max(1, classes * pixels))
    step = max(1, per_block // (classes * row)) * row
    for b in range(0, batch, samples):
        for n in range(0, pixels, step):
            yield Block(slice(b, min(b + samples, batch)), slice(n, min(n + step, pixels)))


def sum_dtype(device: torch.device) -> torch.dtype:
    """What sums over blocks are kept in: float64, but for the one device that has none."""
    return torch.float32 if device.type == "mps" else torch.float64
