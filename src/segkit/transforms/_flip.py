"""Transforms that mirror and turn by right angles: each output pixel is exactly one input pixel."""

from __future__ import annotations

import torch

from segkit.transforms._base import GeometricTransform, as_probability
from segkit.transforms._resampling.chance import integer, uniform
from segkit.transforms._resampling.geometry import Geometry, Size


class HorizontalFlip(GeometricTransform):
    """Left and right exchanged, with probability `p`.

    Args:
        p: probability of a flip for each call.

    Example:
        >>> HorizontalFlip(p=1)(torch.tensor([[[1, 2, 3]]])).tolist()
        [[[3, 2, 1]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability("HorizontalFlip", p)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        flips = uniform(0, 1, generator) < self.p
        return Geometry.flipping(source, horizontal=True) if flips else Geometry.identity(source)


class VerticalFlip(GeometricTransform):
    """Top and bottom exchanged, with probability `p`.

    Args:
        p: probability of a flip for each call.

    Example:
        >>> VerticalFlip(p=1)(torch.tensor([[[1], [2]]])).tolist()
        [[[2], [1]]]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability("VerticalFlip", p)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        flips = uniform(0, 1, generator) < self.p
        return Geometry.flipping(source, vertical=True) if flips else Geometry.identity(source)


class Rotate90(GeometricTransform):
    """Turned by none, one, two or three right angles, each equally likely; a quarter turn exchanges height and width.

    Args:
        p: probability that one of the four turns is drawn at all.

    Example:
        >>> turned = Rotate90()(torch.arange(6).reshape(1, 2, 3), generator=torch.Generator().manual_seed(0))
        >>> turned.flatten().sort().values.tolist()
        [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, p: float = 1.0) -> None:
        self.p = as_probability("Rotate90", p)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        if uniform(0, 1, generator) >= self.p:
            return Geometry.identity(source)
        return Geometry.turning(source, integer(4, generator))
