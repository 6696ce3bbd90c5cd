"""Logits coarser than the target: rows are interpolated when a block is read, so full-size logits never exist.

Linear interpolation along one axis is a product with a sparse matrix R; along all axes, one product after another. The
gradient is the product with the transposed matrices: exact and in a fixed order. Only the part of R that a piece needs
is ever made, since output columns [a, b) depend on a short range of input columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.streamed.blocks import Block, Logits

PIECE = 128  # output columns for each product: a dense product then wastes little on the zeros of R


class Piece(NamedTuple):
    """Output positions ``out`` of an axis from input positions ``source``: ``matrix`` [len(out), len(source)]."""

    out: slice
    source: slice
    matrix: Tensor


def piece(size_in: int, size_out: int, start: int, stop: int, like: Logits) -> Piece:
    """The rows [start, stop) of R for one axis; pixel centres aligned, as ``align_corners=False``."""
    place = (
        (torch.arange(start, stop, dtype=torch.float64, device="cpu") + 0.5) * (size_in / size_out) - 0.5
    ).clamp_min(0)
    low = place.floor().clamp_max(size_in - 1)
    share = (place - low)[:, None]
    first = int(max(0.0, (start + 0.5) * size_in / size_out - 0.5))
    last = int(max(0.0, (stop - 0.5) * size_in / size_out - 0.5)) + 2
    source = torch.arange(first, min(last, size_in), dtype=torch.float64, device="cpu")
    high = (low + 1).clamp_max(size_in - 1)
    matrix = (source == low[:, None]) * (1 - share) + (source == high[:, None]) * share
    return Piece(slice(start, stop), slice(first, min(last, size_in)), matrix.to(dtype=like.dtype).to(like.device))


class CoarseLogits(Logits):
    """Logits [B, C, *coarse], read as if they had been interpolated to ``size``."""

    def __init__(self, x: Tensor, size: list[int]) -> None:
        flat = x.reshape(*x.shape[:2], -1)
        super().__init__(flat)
        self.coarse, self.size = list(x.shape[2:]), list(size)
        if len(size) == 1:  # one axis: a single row
            self.coarse, self.size = [1, *self.coarse], [1, *self.size]
        self.x = x.reshape(*x.shape[:2], *self.coarse)
        self.row = 1
        for length in self.size[1:]:
            self.row *= length
        self.shape = (x.shape[0], x.shape[1], self.size[0] * self.row)
        self.pieces = [
            [piece(i, o, a, min(a + PIECE, o), self) for a in range(0, o, PIECE)]
            for i, o in zip(self.coarse[1:], self.size[1:], strict=True)
        ]

    def rows(self, block: Block) -> Piece:
        """The part of R for the first axis that a block needs."""
        start, stop = block.pixels.start // self.row, block.pixels.stop // self.row
        return piece(self.coarse[0], self.size[0], start, stop, self)

    def in_full(self) -> torch.autocast:
        """Products here are of float32 or wider, also where autocast would round them."""
        return torch.autocast(self.device.type, enabled=False)

    def read(self, block: Block) -> Tensor:
        """The interpolated logits of a block, [b, C, n], float32 or wider."""
        rows = self.rows(block)
        x = self.x[block.samples, :, rows.source].to(self.dtype)
        with self.in_full():
            for axis, pieces in enumerate(self.pieces, start=3):
                x = x.movedim(axis, -1)
                x = torch.cat([x[..., p.source] @ p.matrix.T for p in pieces], -1).movedim(-1, axis)
            shape = x.shape
            x = rows.matrix @ x.reshape(*shape[:3], -1)  # [b, C, rows, the rest]
        return x.reshape(*shape[:2], -1)

    def write(self, block: Block, gradient: Tensor) -> None:
        """Add the gradient of a block to the coarse logits it was made from."""
        if self.grad is None:
            self.grad = torch.zeros(self.x.shape, dtype=self.dtype, device=self.device)
        rows = self.rows(block)
        with self.in_full():
            g = rows.matrix.T @ gradient.reshape(*gradient.shape[:2], rows.matrix.shape[0], -1)
            g = g.reshape(*g.shape[:3], *self.size[1:])
            for axis, pieces in enumerate(self.pieces, start=3):
                g = g.movedim(axis, -1)
                coarse = g.new_zeros(*g.shape[:-1], self.coarse[axis - 2])
                for p in pieces:
                    coarse[..., p.source] += g[..., p.out] @ p.matrix
                g = coarse.movedim(-1, axis)
        self.grad[block.samples, :, rows.source] += g

    def gradient(self) -> Tensor:
        """The gradient by the coarse logits, in their dtype."""
        return torch.zeros_like(self.x) if self.grad is None else self.grad.to(self.x.dtype)
