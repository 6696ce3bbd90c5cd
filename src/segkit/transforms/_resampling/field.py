"""A smooth displacement of every pixel, held as a few control points: what an elastic deformation is made of."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """Displacements in pixels between control points: a uniform cubic B-spline, so it has no kinks anywhere.

    Attributes:
        points: float64 [2, rows, columns], the x and y displacement at each control point; control point (1, 1) sits on
            pixel (0, 0), and one more ring of points lies around the image, as a cubic spline needs it.
        spacing: distance between control points in pixels, (vertical, horizontal).
    """

    points: Tensor
    spacing: tuple[float, float]

    def __repr__(self) -> str:
        return f"Field({list(self.points.shape)} points, spacing={self.spacing})"

    def displacement(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The displacement at places x and y (float64, broadcasting to [height, width]): two tensors of that shape."""
        points = self.points.to(x.device)
        columns, across = _weights(x / self.spacing[1], points.shape[2])
        rows, down = _weights(y / self.spacing[0], points.shape[1])
        if x.shape[0] == 1 and y.shape[1] == 1:  # the axes are apart: two small matrix products instead of 16 look-ups
            left = _dense(rows[:, :, 0], down[:, :, 0], points.shape[1])  # [height, rows]
            right = _dense(columns[:, 0], across[:, 0], points.shape[2])  # [width, columns]
            both = left @ points @ right.T
            return both[0], both[1]
        total = torch.zeros((2, y.shape[0], x.shape[1]), dtype=torch.float64, device=x.device)
        for row, weight_down in zip(rows, down, strict=True):
            for column, weight_across in zip(columns, across, strict=True):
                total += points[:, row, column] * (weight_down * weight_across)
        return total[0], total[1]


def _weights(places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The four control points around each place and their B-spline weights, both [4, *shape]."""
    cell = places.floor().clamp_(0, count - 4)
    t = (places - cell).clamp_(0, 1)  # beyond the last control point the displacement stays what it is there
    s = 1 - t
    weights = torch.stack([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3]) / 6
    first = cell.to(torch.int64)
    return torch.stack([first, first + 1, first + 2, first + 3]), weights


def _dense(index: Tensor, weights: Tensor, count: int) -> Tensor:
    """[n, count] from the [4, n] non-zero entries of each row."""
    dense = torch.zeros((index.shape[1], count), dtype=weights.dtype, device=weights.device)
    return dense.scatter_(1, index.T, weights.T)
