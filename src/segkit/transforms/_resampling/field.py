"""A smooth displacement of every pixel, held as a few control points: what an elastic deformation is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """Displacements in pixels between control points: a uniform cubic B-spline, so it has no kinks anywhere.

    Attributes:
        points: float64 array [2, rows, columns], the x and y displacement at each control point; control point (1, 1)
            sits on pixel (0, 0), and one more ring of points lies around the image, as a cubic spline needs it.
        spacing: distance between control points in pixels, (vertical, horizontal).
    """

    points: np.ndarray
    spacing: tuple[float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", np.asarray(self.points, dtype=np.float64))  # of a tensor, too

    def __repr__(self) -> str:
        return f"Field({list(self.points.shape)} points, spacing={self.spacing})"

    def displacement(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The displacement at places x and y (float64, broadcasting to [height, width]): two tensors of that shape."""
        right, down = displacements([self], x[None], y[None])[0]
        return right, down


STILL = Field(np.zeros((2, 4, 4)), (1.0, 1.0))


def displacements(fields: Sequence[Field], x: Tensor, y: Tensor) -> Tensor:
    """Of each field [B, 2, height, width], at places of its own: x and y, float64 [B, 1 or height, 1 or width]."""
    rows, columns = ([field.points.shape[axis] for field in fields] for axis in (1, 2))
    padded = np.zeros((len(fields), 2, max(rows), max(columns)))
    for field, place in zip(fields, padded, strict=True):
        place[:, : field.points.shape[1], : field.points.shape[2]] = field.points
    points = torch.from_numpy(padded).to(x.device)
    column, across = _weights(x, [field.spacing[1] for field in fields], columns)
    row, down = _weights(y, [field.spacing[0] for field in fields], rows)
    if x.shape[1] == 1 and y.shape[2] == 1:  # the axes are apart: two small matrix products instead of 16 look-ups
        left = _dense(row[..., 0], [each[..., 0] for each in down], max(rows))[:, None]  # [B, 1, height, rows]
        return left @ points @ _dense(column[:, 0], [each[:, 0] for each in across], max(columns))[:, None].mT
    shape = len(fields), y.shape[1], x.shape[2]
    first = (row * max(columns) + column).expand(shape).flatten(1)[:, None].expand(-1, 2, -1)
    total: Tensor | None = None
    for below, weight_down in enumerate(down):
        for right, weight_across in enumerate(across):
            found = points.flatten(2).gather(2, first + (below * max(columns) + right))
            term = found.reshape(len(fields), 2, *shape[1:]) * (weight_down * weight_across)[:, None]
            total = term if total is None else total.add_(term)
    assert total is not None
    return total


def _weights(places: Tensor, spacing: Sequence[float], count: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """The first of the four control points around each place, and their B-spline weights, each of its shape."""
    apart, last = (
        torch.tensor(each, dtype=torch.float64).to(places.device)[:, None, None] for each in (spacing, count)
    )
    places = places / apart
    cell = places.floor().clamp_(min=0).minimum(last - 4)
    t = (places - cell).clamp_(0, 1)  # beyond the last control point the displacement stays what it is there
    s = 1 - t
    return cell.to(torch.int64), [each / 6 for each in (s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3)]


def _dense(first: Tensor, weights: Sequence[Tensor], count: int) -> Tensor:
    """[B, n, count] from the four non-zero entries of each row, which are neighbours."""
    dense = torch.full((*first.shape, count), 0.0, dtype=torch.float64, device=first.device)
    for place, weight in enumerate(weights):
        dense.scatter_(2, (first + place)[..., None], weight[..., None])
    return dense
