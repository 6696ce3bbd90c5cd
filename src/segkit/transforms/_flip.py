"""Transforms that mirror and turn by right angles: each output pixel is exactly one input pixel."""

from __future__ import annotations

import torch

from segkit.transforms import _geometry
from segkit.transforms._base import GeometricTransform, as_probability, uniform
from segkit.transforms._geometry import Geometry, Size


class HorizontalFlip(GeometricTransform):
    """Left and right exchanged, with probability `p`.

    Args:
        p: chance of a flip for each call.

    Example:
        >>> HorizontalFlip(p=1)(torch.tensor([[[1, 2, 3]]])).tolist()
        [[[3, 2, 1]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability("HorizontalFlip", p)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        flips = uniform(0, 1, generator) < self.p
        return _geometry.flipping(source, horizontal=True) if flips else _geometry.identity(source)


class VerticalFlip(GeometricTransform):
    """Top and bottom exchanged, with probability `p`.

    Args:
        p: chance of a flip for each call.

    Example:
        >>> VerticalFlip(p=1)(torch.tensor([[[1], [2]]])).tolist()
        [[[2], [1]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability("VerticalFlip", p)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        flips = uniform(0, 1, generator) < self.p
        return _geometry.flipping(source, vertical=True) if flips else _geometry.identity(source)
