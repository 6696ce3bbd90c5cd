"""What all transforms share: how they are called, what they print as, and how chance is drawn."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from segkit.transforms._inputs import as_number, check_fill, check_image_fill, check_pair
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.resample import resample


class Transform:
    """A transform is called as t(image, mask=None, *, generator=None) and returns what it was given.

    Subclasses implement `_apply`; they hold parameters under the names of their constructor's arguments.
    """

    @overload
    def __call__(self, image: Tensor, mask: None = None, *, generator: torch.Generator | None = None) -> Tensor: ...
    @overload
    def __call__(
        self, image: Tensor, mask: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]: ...
    def __call__(
        self, image: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The changed image, or the changed image and mask."""
        check_pair(type(self).__name__, image, mask)
        return given(*self._apply(image, mask, generator))

    def _apply(
        self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        raise TypeError(f"{type(self).__name__} does not say what it does: implement _apply.")

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


class GeometricTransform(Transform):
    """A transform that only moves pixels: it draws a geometry, which `Compose` joins with its neighbours'.

    Attributes:
        sized: the call takes `size`, "this size for this call".
        focused: the call takes `focus_class`.
        fills: something from outside of the image may come in; it then holds `image_fill` and `mask_fill`.
        antialias: blur what shrinks; None lets the neighbours in a `Compose` decide, and is yes if they do not.
    """

    sized: ClassVar[bool] = False
    focused: ClassVar[bool] = False
    fills: ClassVar[bool] = False
    antialias: bool | None = None
    image_fill: float = 0.0
    mask_fill: int = 255

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call, for an image of (height, width) `source`."""
        raise TypeError(f"{type(self).__name__} does not say where pixels go: implement draw.")

    def _apply(
        self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        return self._move(image, mask, self.draw(image_size(image), generator=generator))

    def _move(self, image: Tensor, mask: Tensor | None, geometry: Geometry) -> tuple[Tensor, Tensor | None]:
        if self.fills:
            check_image_fill(type(self).__name__, image, self.image_fill)
            check_fill(type(self).__name__, mask, self.mask_fill)
        return resample(
            image,
            mask,
            geometry,
            image_fill=self.image_fill,
            mask_fill=self.mask_fill,
            antialias=self.antialias is not False,
        )


class SizedTransform(GeometricTransform):
    """A geometric transform with a target size, which each call may replace: t(image, mask, size=(h, w))."""

    sized = True
    size: Size

    def __call__(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        size: int | Size | None = None,
    ) -> Any:
        """The changed image, or the changed image and mask; `size` replaces the constructor's for this call."""
        check_pair(type(self).__name__, image, mask)
        return given(*self._move(image, mask, self.draw(image_size(image), generator=generator, size=size)))

    def draw(
        self, source: Size, *, generator: torch.Generator | None = None, size: int | Size | None = None
    ) -> Geometry:
        """The map of one call, for an image of (height, width) `source`."""
        raise TypeError(f"{type(self).__name__} does not say where pixels go: implement draw.")


def given(image: Tensor, mask: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
    """An image alone comes back alone."""
    return image if mask is None else (image, mask)


def image_size(image: Tensor) -> Size:
    """(height, width)."""
    return image.shape[-2], image.shape[-1]


def uniform(low: float, high: float, generator: torch.Generator | None) -> float:
    """A number from [low, high)."""
    device = None if generator is None else generator.device
    return low + (high - low) * torch.rand((), generator=generator, device=device, dtype=torch.float64).item()


def uniforms(ranges: Sequence[tuple[float, float]], generator: torch.Generator | None) -> list[float]:
    """A number from each [low, high), in one call of the generator."""
    device = None if generator is None else generator.device
    draws = torch.rand(len(ranges), generator=generator, device=device, dtype=torch.float64).tolist()
    return [low + (high - low) * each for (low, high), each in zip(ranges, draws, strict=True)]


def log_uniform(low: float, high: float, generator: torch.Generator | None) -> float:
    """A positive number whose logarithm is uniform: as often between 1/2 and 1 as between 1 and 2."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def integer(high: int, generator: torch.Generator | None) -> int:
    """One of 0, 1, ..., high - 1, each equally likely."""
    device = None if generator is None else generator.device
    return int(torch.randint(high, (), generator=generator, device=device).item())


def as_probability(name: str, value: float) -> float:
    """A chance in [0, 1]."""
    return as_number(name, "p", value, 0, 1)
