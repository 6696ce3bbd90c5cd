"""Which source pixel is nearest to each output pixel's place: an exact float64 map, in numbers that OpenCV rounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segkit.transforms._resampling.affine import Affine
from segkit.transforms._resampling.geometry import EPSILON, Size, Stage, coordinates, single_affine

_BLOCK = 1 << 18  # places that are computed at a time, so that they stay in the cache
_TILE = 512  # columns that are ranked together
_EXACT = 1 << 24  # float32 holds every whole number up to here


class Indices:
    """Column and row of the nearest source pixel, in float32, for a block of output rows at a time.

    The index is what a value rounds to. It is counted from `origin`, the (top, left) of what is visible there.

    Attributes:
        apart: the column depends on the output's column only, and the row on its row: [1, width] and [rows, 1].
    """

    def __init__(self, stages: tuple[Stage, ...], size: Size, origin: tuple[int, int]) -> None:
        self.stages, self.size = stages, size
        # On the edge between two pixels, where rounding decides, it is always the later one.
        self._down, self._right = (0.5 + EPSILON - each for each in origin)
        affine = single_affine(stages)
        self.apart = affine is not None and affine.xy == affine.yx == 0
        self._tiles: list[tuple[slice, list[tuple[Tensor, Tensor]]]] = []
        if affine is not None and not self.apart:
            self._rank(affine)
        self._index: list[Tensor] = []

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor]:
        if not self._tiles:
            x, y = coordinates(self.stages, self.size, rows=rows)
            return (x + self._right).floor_().to(torch.float32), (y + self._down).floor_().to(torch.float32)
        shape = rows.stop - rows.start, self.size[1]
        if not self._index or self._index[0].shape != shape:
            self._index = [torch.empty(shape) for _ in range(2)]
        for columns, axes in self._tiles:
            for (across, down), index in zip(axes, self._index, strict=True):
                torch.add(across, down[rows], out=index[:, columns])
        return self._index[0], self._index[1]

    def blocks(self) -> list[slice]:
        """Rows of the output, as many at a time as stay in the cache."""
        step = max(1, _BLOCK // self.size[1])
        return [slice(top, min(top + step, self.size[0])) for top in range(0, self.size[0], step)]

    def _rank(self, affine: Affine) -> None:
        """Prepare an affine map, which is a sum of what the column and what the row gives; nothing if it leads too far.

        A tile holds its columns, and for x and y float32 [1, columns] and [height, 1], whose sum rounds to the index.
        """
        height, width = self.size
        parts = (affine.xx, affine.xy, affine.dx + self._right), (affine.yx, affine.yy, affine.dy + self._down)
        if max(abs(a) * width + abs(b) * height + abs(c) for a, b, c in parts) + 2 > _EXACT / (2 * _TILE):
            return
        rows = np.arange(height, dtype=np.float64)
        for left in range(0, width, _TILE):
            columns = np.arange(left, min(left + _TILE, width), dtype=np.float64)
            axes = [_ranked(columns * a, rows * b + c) for a, b, c in parts]
            self._tiles.append((slice(left, left + len(columns)), axes))


def _ranked(across: np.ndarray, down: np.ndarray) -> tuple[Tensor, Tensor]:
    """float32 [1, n] and [m, 1] whose sums round to floor(across[j] + down[i]), with nothing lost to float32.

    The floor of a sum is the sum of the floors, and 1 more where the fractions make up a whole. Whether they do is a
    comparison of the one with what the other lacks, and comparisons are decided by ranks, which are short numbers.
    """
    near, far = np.floor(across), np.floor(down)
    fraction = across - near
    order = fraction.argsort()
    lacking = fraction[order].searchsorted(1 - (down - far))  # so many fractions are not enough
    # In steps of 1 / _TILE, from the middle of the first one, and less by half a pixel, as sums are rounded, not cut.
    near[order] += _STEPS[: len(order)]
    far += (_TILE + 0.5 - lacking) / _TILE - 0.5
    return torch.from_numpy(near.astype(np.float32))[None], torch.from_numpy(far.astype(np.float32))[:, None]


_STEPS = np.arange(_TILE) / _TILE
