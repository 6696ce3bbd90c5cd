"""One call of a row of transforms: its images, masks and maps, and the geometry that waits to be applied to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.transforms._resampling.chance import integer
from segkit.transforms._resampling.geometry import Geometries, Geometry, Size
from segkit.transforms._resampling.inputs import check_fill, check_image_fill, check_pair
from segkit.transforms._resampling.resample import resample, resample_mask
from segkit.transforms._resampling.sample_parts import Parts


class Numbers(NamedTuple):
    """What a transform of values has drawn already."""

    values: Any


class Run:
    """Goes through members one after the other, and joins those that only move pixels.

    Attributes:
        steps: what was drawn: each member with its geometry, or with the seed of its chance.
        pending: the joined geometry that is not applied yet.
    """

    def __init__(
        self,
        parts: Parts | None,
        generator: torch.Generator | None,
        *,
        size: Size | None = None,
        usual: Sequence[Any] = (),
        focus: Any = None,
        find_mask: Callable[[], Tensor] | None = None,
        source: Size | None = None,
    ) -> None:
        self.parts = parts
        self.images, self.masks, self.maps = ([], [], []) if parts is None else map(list, parts[:3])
        self.generator = generator
        self.steps: list[tuple[Any, Any]] = []
        self.pending: Any = None  # a Geometry, or Geometries of a batch
        self.fills: tuple[float | str, int] | None = None
        self.antialias: bool | None = None
        self.interpolation = "bilinear"  # of what waits
        self._size, self._usual, self._focus = size, usual, focus  # of this call, for members made with a usual size
        self._find_mask, self._source = find_mask, source

    def go(self, transform: Any) -> None:
        """Let a member draw, and join or apply what it drew."""
        if hasattr(transform, "choose"):
            for member in transform.choose(self.generator):
                self.go(member)
        elif hasattr(transform, "needs_mask"):
            self.join(transform)
        else:
            seed = integer(1 << 62, self.generator) if getattr(transform, "draws", True) else None
            self.step(transform, seed, self.keywords(transform))

    def step(self, transform: Any, drawn: Any, keywords: dict[str, Any] | None = None) -> None:
        """Do what was drawn."""
        self.steps.append((transform, drawn))
        if isinstance(drawn, (Geometry, Geometries)):
            self._move(transform, drawn)
        else:
            self._change(transform, drawn, keywords or {})

    def result(self) -> Any:
        """What the call returns."""
        self.resample()
        return self.parts.together(self.images, self.masks, self.maps) if self.parts else None

    def keywords(self, transform: Any) -> dict[str, Any]:
        """What this call asks of a member."""
        asked: dict[str, Any] = {}
        usual = getattr(transform, "sized", False) and getattr(transform, "size", None) in self._usual
        if self._size is not None and usual:
            asked["size"] = self._size
        if self._focus is not None and getattr(transform, "focused", False):
            asked["focus_class"] = self._focus
        return asked

    def joins(self, transform: Any) -> bool:
        """One map has one fill and one filter: a member that wants another begins a new one."""
        if self.pending is not None and "bicubic" in (self.interpolation, transform.interpolation):
            return False
        fills = (transform.image_fill, transform.mask_fill) if transform.fills else None
        filters = {self.antialias, transform.antialias} - {None}
        return not (self.fills and fills and fills != self.fills) and len(filters) < 2

    def join(self, transform: Any) -> None:
        """Join what a geometric member draws to what waits."""
        if not self.joins(transform):
            self.resample()
        self._check(transform)
        keywords = self.keywords(transform)
        if transform.focused:
            keywords["mask"] = self._mask_now(transform.needs_mask(keywords.get("focus_class")))
        self.step(transform, transform.draw(self.size, generator=self.generator, **keywords))

    @property
    def size(self) -> Size:
        """(height, width) as they are now."""
        if self.pending is not None:
            return self.pending.size
        for each in (*self.images, *self.masks):
            return each.shape[-2], each.shape[-1]
        return self._source or (0, 0)

    def resample(self) -> None:
        """Apply what waits."""
        geometry, self.pending = self.pending, None
        if geometry is None:
            return
        (image_fill, mask_fill), smooth = self.fills or (0.0, 255), self.antialias is not False
        interpolation, self.interpolation = self.interpolation, "bilinear"
        self.fills, self.antialias, self._source = None, None, geometry.size
        labels: Any = self.masks[0] if self.masks else None
        for place, image in enumerate(self.images):
            options: Any = {"image_fill": image_fill, "mask_fill": mask_fill, "antialias": smooth}
            options["interpolation"] = interpolation
            self.images[place], moved = resample(image, None if place else labels, geometry, **options)
            if moved is not None:
                self.masks[0] = moved
        for place in range(1 if self.images else 0, len(self.masks)):
            self.masks[place] = resample_mask(self.masks[place], geometry, mask_fill)
        for place, (each, fill) in enumerate(zip(self.maps, self.parts.fills if self.parts else (), strict=True)):
            moved, _ = resample(each.unsqueeze(-3), None, geometry, image_fill=fill, antialias=smooth)
            self.maps[place] = moved.squeeze(-3)

    def _move(self, transform: Any, geometry: Any) -> None:
        if not self.joins(transform):
            self.resample()
        self._check(transform)
        self.pending = geometry if self.pending is None else self.pending.then(geometry)
        self.fills = self.fills or ((transform.image_fill, transform.mask_fill) if transform.fills else None)
        self.antialias = self.antialias if transform.antialias is None else transform.antialias
        self.interpolation = transform.interpolation

    def _check(self, transform: Any) -> None:
        name = type(transform).__name__
        if self.pending is None and self.images:
            check_pair(name, self.images[0], self.masks[0] if self.masks else None)
        if transform.fills:
            for image in self.images:
                check_image_fill(name, image, transform.image_fill)
            for mask in self.masks:
                check_fill(name, mask, transform.mask_fill)

    def _change(self, transform: Any, seed: int | Numbers | None, keywords: dict[str, Any]) -> None:
        """Bring all up to date and hand them over, with the same chance for each."""
        self.resample()
        name = type(transform).__name__
        if self.maps and getattr(transform, "moves", True):
            raise TypeError(
                f"{name}: a sample must have no maps of numbers here, as it moves only images and masks, got "
                f"{len(self.maps)}. Use transforms of segkit, or leave them out of the sample."
            )
        if self.parts and self.parts.unsure and not getattr(transform, "keeps_values", False):
            raise TypeError(
                f"{name}: it must be clear whether {self.parts.unsure} hold pictures, which it changes, or numbers, "
                f"which it leaves. Say it: images=({self.parts.unsure[0]!r},) or maps=({self.parts.unsure[0]!r},)."
            )
        first = self.images[0] if self.images else None
        if first is None:
            return

        def called(image: Any, *mask: Any) -> Any:
            if isinstance(seed, Numbers):
                changed = transform.change(image, mask[0] if mask else None, seed.values)
                return changed if mask else changed[0]
            chance = None if seed is None else self._seeded(seed)
            return transform(image, *mask, generator=chance, **keywords)

        for place, image in enumerate(self.images[1:], 1):
            self.images[place] = called(image)
        for place, mask in enumerate(self.masks[1:], 1):
            self.masks[place] = called(first, mask)[1]
        if self.masks:
            self.images[0], self.masks[0] = called(first, self.masks[0])
        else:
            self.images[0] = called(first)

    def _seeded(self, seed: int) -> torch.Generator:
        return torch.Generator("cpu" if self.generator is None else self.generator.device).manual_seed(seed)

    def _mask_now(self, looks: bool) -> Tensor | None:
        """The mask as a member finds it that looks at it; only then is it worth computing."""
        if looks and not self.masks and self._find_mask is not None:
            self.masks = [self._find_mask()]
        mask: Tensor | None = self.masks[0] if self.masks else None
        if not looks or mask is None or self.pending is None:
            return mask
        return resample_mask(mask, self.pending, self.fills[1] if self.fills else 255)
