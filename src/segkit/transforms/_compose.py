"""One transform after another, with neighbouring geometric ones joined into a single resampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.transforms._base import GeometricTransform, Transform, given, image_size
from segkit.transforms._inputs import as_size, check_fill, check_image_fill, check_pair
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.resample import resample, resample_mask


class Compose(Transform):
    """Transforms in a row. Neighbouring geometric ones are joined into one map and resampled once.

    Each member draws its own parameters, as if it ran alone; only the pixels of the last crop are ever computed. Any
    callable t(image, mask=None, *, generator=None) that returns what it was given can be a member.

    Args:
        transforms: the members, in order. A Compose among them is opened up.

    The call takes two more keywords, as multi-scale and class-balanced samplers send them: `size` goes to the last
    sized member (Resize, RandomCrop, ...) and to each other one that was made with the same size; `focus_class` goes to
    each RandomCrop.

    Example:
        >>> from segkit.transforms import HorizontalFlip, RandomCrop
        >>> augment = Compose([HorizontalFlip(), RandomCrop(32)])
        >>> image, mask = torch.rand(3, 48, 64), torch.zeros(48, 64, dtype=torch.uint8)
        >>> image, mask = augment(image, mask, generator=torch.Generator().manual_seed(0))
        >>> image.shape, mask.shape
        (torch.Size([3, 32, 32]), torch.Size([32, 32]))
        >>> augment(image, size=24).shape
        torch.Size([3, 24, 24])
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms: tuple[Callable[..., Any], ...]
        members: list[Callable[..., Any]] = []
        for place, transform in enumerate(transforms):
            if not callable(transform):
                raise TypeError(f"Compose: `transforms` at {place} must be callable, got {transform!r}.")
            members.extend(transform.transforms if isinstance(transform, Compose) else [transform])
        self.transforms = tuple(members)

    def __call__(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        size: int | Size | None = None,
        focus_class: int | None = None,
    ) -> Any:
        """The image, or image and mask, after all members."""
        asked = self._asked_of_members(size, focus_class)
        run = _Run(image, mask, generator)
        for transform, keywords in zip(self.transforms, asked, strict=True):
            if isinstance(transform, GeometricTransform):
                run.move(transform, keywords)
            else:
                run.call(transform, keywords)
        run.resample()
        return given(run.image, run.mask)

    def _asked_of_members(self, size: int | Size | None, focus_class: int | None) -> list[dict[str, Any]]:
        """For each member, the keywords that this call has for it."""
        asked: list[dict[str, Any]] = [{} for _ in self.transforms]
        if size is not None:
            wanted = as_size("Compose", size)
            sized = [i for i, t in enumerate(self.transforms) if getattr(t, "sized", False)]
            if not sized:
                raise ValueError(
                    f"Compose: `size` must have a member that takes it, got size={wanted} for {self!r}. "
                    "Add RandomCrop or Resize."
                )
            usual = getattr(self.transforms[sized[-1]], "size", None)
            for i in sized:
                if getattr(self.transforms[i], "size", None) == usual:
                    asked[i]["size"] = wanted
        if focus_class is not None:
            focused = [i for i, t in enumerate(self.transforms) if getattr(t, "focused", False)]
            if not focused:
                raise ValueError(
                    f"Compose: `focus_class` must have a member that takes it, got focus_class={focus_class} for "
                    f"{self!r}. Add RandomCrop."
                )
            for i in focused:
                asked[i]["focus_class"] = focus_class
        return asked


class _Run:
    """One call of a Compose: image and mask as they are, and the geometry that waits to be applied to them."""

    def __init__(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> None:
        self.image = image
        self.mask = mask
        self.generator = generator
        self.pending: Geometry | None = None
        self.fills: tuple[float, int] | None = None
        self.antialias: bool | None = None

    def move(self, transform: GeometricTransform, keywords: dict[str, Any]) -> None:
        """Join what the transform draws to what waits."""
        if self.pending is None:
            check_pair(type(transform).__name__, self.image, self.mask)
        if transform.fills:
            check_image_fill(type(transform).__name__, self.image, transform.image_fill)
            check_fill(type(transform).__name__, self.mask, transform.mask_fill)
        fills = (transform.image_fill, transform.mask_fill) if transform.fills else None
        # One map has one fill and one filter: a member that wants another begins a new one.
        filters = {self.antialias, transform.antialias} - {None}
        if (self.fills and fills and fills != self.fills) or len(filters) > 1:
            self.resample()
        source = image_size(self.image) if self.pending is None else self.pending.size
        if transform.focused:
            keywords = {**keywords, "mask": self._mask_now(transform, keywords)}
        drawn = transform.draw(source, generator=self.generator, **keywords)
        self.pending = drawn if self.pending is None else self.pending.then(drawn)
        self.fills = self.fills or fills
        self.antialias = self.antialias if transform.antialias is None else transform.antialias

    def call(self, transform: Callable[..., Any], keywords: dict[str, Any]) -> None:
        """Bring image and mask up to date and hand them over."""
        self.resample()
        if self.mask is None:
            self.image = transform(self.image, generator=self.generator, **keywords)
        else:
            self.image, self.mask = transform(self.image, self.mask, generator=self.generator, **keywords)

    def resample(self) -> None:
        """Apply what waits."""
        if self.pending is not None:
            image_fill, mask_fill = self.fills or (0.0, 255)
            self.image, self.mask = resample(
                self.image,
                self.mask,
                self.pending,
                image_fill=image_fill,
                mask_fill=mask_fill,
                antialias=self.antialias is not False,
            )
        self.pending, self.fills, self.antialias = None, None, None

    def _mask_now(self, transform: GeometricTransform, keywords: dict[str, Any]) -> Tensor | None:
        """The mask as a member finds it that looks for a class in it; only then is it worth computing."""
        focus = keywords.get("focus_class", getattr(transform, "focus_class", None))
        if focus is None or self.mask is None or self.pending is None:
            return self.mask
        return resample_mask(self.mask, self.pending, self.fills[1] if self.fills else 255)
