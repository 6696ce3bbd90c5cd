"""One transform after another, with neighbouring geometric ones joined into a single resampling."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.transforms._base import GeometricTransform, Transform, given, image_size
from segkit.transforms._inputs import as_size, check_fill, check_generator, check_image_fill, check_pair
from segkit.transforms._plan import Plan
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
            _check_member(place, transform)
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
        check_generator("Compose", generator)
        asked = list(zip(self.transforms, self._asked_of_members(size, focus_class), strict=True))
        return given(*_Run(image, mask, generator).go_through(asked))

    def plan(
        self,
        source: Size,
        *,
        generator: torch.Generator | None = None,
        size: int | Size | None = None,
        focus_class: int | None = None,
        find_mask: Callable[[], Tensor] | None = None,
    ) -> Plan | None:
        """Draw what the leading members that only move pixels draw, for a picture that is still to be read.

        Args:
            source: (height, width) of the picture.
            generator: where chance comes from; the plan goes on with it, so that all draws are those of a plain call.
            size: as in a call.
            focus_class: as in a call.
            find_mask: gives the whole mask; called only where a member looks for a class in it.

        Returns:
            The plan: its `window` is all that needs to be read. None, and nothing drawn, where the first member is no
            geometric one: it may look at the whole picture.

        Example:
            >>> from segkit.transforms import HorizontalFlip, Normalize, RandomCrop
            >>> augment = Compose([HorizontalFlip(), RandomCrop(32), Normalize(0.5, 0.25)])
            >>> augment.plan((480, 640)).window[2:]
            (32, 32)
        """
        if type(self).__call__ is not Compose.__call__:
            return None  # a subclass does more than its members
        asked = list(zip(self.transforms, self._asked_of_members(size, focus_class), strict=True))
        run = _Run(None, None, generator, find_mask=find_mask, source=source)
        head = 0
        for transform, keywords in asked:
            if not isinstance(transform, GeometricTransform) or not run.joins(transform):
                break
            run.move(transform, keywords)
            head += 1
        if run.pending is None:
            return None
        rest = asked[head:]
        pointwise = rest.pop(0)[0] if rest and getattr(rest[0][0], "pointwise", False) else None
        return Plan(
            run.pending,
            members=self.transforms[:head],
            fills=run.fills,
            antialias=run.antialias is not False,
            pointwise=pointwise,
            then=(lambda image, mask: _Run(image, mask, generator).go_through(rest)) if rest else None,
        )

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


def _check_member(place: int, transform: Any) -> None:
    """Raise unless it can be called as t(image, mask, generator=...), with the adapter to use."""
    if not callable(transform):
        raise TypeError(f"Compose: `transforms` at {place} must be callable, got {transform!r}.")
    package = type(transform).__module__.partition(".")[0]
    adapters = {"torchvision": "FromTorchvision", "albumentations": "FromAlbumentations", "torch": "OnImage"}
    if package in adapters:
        raise TypeError(
            f"Compose: `transforms` at {place} must take (image, mask, generator=...), got {type(transform).__name__} "
            f"of {package}. Wrap it in {adapters[package]}(...)."
        )
    try:
        inspect.signature(transform).bind(None, None, generator=None)
    except TypeError:
        raise TypeError(
            f"Compose: `transforms` at {place} must take (image, mask=None, *, generator=None), got {transform!r}. "
            "Wrap a function of the image alone in OnImage(...), give another the keyword `generator`."
        ) from None
    except ValueError:  # a builtin does not say what it takes
        return


class _Run:
    """One call of a Compose: image and mask as they are, and the geometry that waits to be applied to them."""

    def __init__(
        self,
        image: Tensor | None,
        mask: Tensor | None,
        generator: torch.Generator | None,
        *,
        find_mask: Callable[[], Tensor] | None = None,
        source: Size | None = None,
    ) -> None:
        self.image = image  # None: not read yet, of the size `source`
        self.mask = mask
        self.generator = generator
        self.pending: Geometry | None = None
        self.fills: tuple[float, int] | None = None
        self.antialias: bool | None = None
        self._find_mask, self._source = find_mask, source

    def go_through(self, asked: Sequence[tuple[Callable[..., Any], dict[str, Any]]]) -> tuple[Any, Any]:
        """All members, each with the keywords for it; the image and the mask after them."""
        for transform, keywords in asked:
            if isinstance(transform, GeometricTransform):
                self.move(transform, keywords)
            else:
                self.call(transform, keywords)
        self.resample()
        return self.image, self.mask

    def joins(self, transform: GeometricTransform) -> bool:
        """One map has one fill and one filter: a member that wants another begins a new one."""
        fills = (transform.image_fill, transform.mask_fill) if transform.fills else None
        filters = {self.antialias, transform.antialias} - {None}
        return not (self.fills and fills and fills != self.fills) and len(filters) < 2

    def move(self, transform: GeometricTransform, keywords: dict[str, Any]) -> None:
        """Join what the transform draws to what waits."""
        if self.image is not None:
            if self.pending is None:
                check_pair(type(transform).__name__, self.image, self.mask)
            if transform.fills:
                check_image_fill(type(transform).__name__, self.image, transform.image_fill)
                check_fill(type(transform).__name__, self.mask, transform.mask_fill)
            if not self.joins(transform):
                self.resample()
        fills = (transform.image_fill, transform.mask_fill) if transform.fills else None
        if transform.focused:
            keywords = {**keywords, "mask": self._mask_now(transform, keywords)}
        drawn = transform.draw(self._size(), generator=self.generator, **keywords)
        self.pending = drawn if self.pending is None else self.pending.then(drawn)
        self.fills = self.fills or fills
        self.antialias = self.antialias if transform.antialias is None else transform.antialias

    def _size(self) -> Size:
        if self.pending is not None:
            return self.pending.size
        return image_size(self.image) if self.image is not None else self._source or (0, 0)

    def call(self, transform: Callable[..., Any], keywords: dict[str, Any]) -> None:
        """Bring image and mask up to date and hand them over."""
        self.resample()
        assert self.image is not None
        if self.mask is None:
            self.image = transform(self.image, generator=self.generator, **keywords)
        else:
            self.image, self.mask = transform(self.image, self.mask, generator=self.generator, **keywords)

    def resample(self) -> None:
        """Apply what waits."""
        if self.pending is not None:
            assert self.image is not None
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
        looks = transform.needs_mask(keywords.get("focus_class"))
        if looks and self.mask is None and self._find_mask is not None:
            self.mask = self._find_mask()
        if not looks or self.mask is None or self.pending is None:
            return self.mask
        return resample_mask(self.mask, self.pending, self.fills[1] if self.fills else 255)
