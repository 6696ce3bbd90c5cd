"""What all transforms share: how they are called, what they print as, and how chance is drawn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from segkit.transforms._plan import Plan
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.inputs import (
    as_number,
    as_size,
    check_fill,
    check_generator,
    check_image_fill,
    check_pair,
)
from segkit.transforms._resampling.resample import resample
from segkit.transforms._resampling.sample_parts import is_sample, take_apart
from segkit.transforms._run import Run

Pair = tuple[Tensor, Tensor | None]


class Transform:
    """What every transform is: called as t(image, mask=None, *, generator=None), it returns what it was given.

    A transform of your own that changes values implements `apply`, and holds its constructor's arguments under their
    names, which `repr` prints. One that moves pixels is a `GeometricTransform`.

    Attributes:
        sized: the call takes `size`, "this size for this call".
        focused: the call takes `focus_class`, "with this class in the picture".
        moves: it is not a geometric transform, and moves pixels all the same.
        draws: it takes from the generator.
        apart: calls in several threads do not disturb each other.

    Example:
        >>> class Invert(Transform):
        ...     def apply(self, image, mask, generator):
        ...         return 1 - image, mask
        >>> Invert()(torch.tensor([[[0.25, 1.0]]]))
        tensor([[[0.7500, 0.0000]]])
    """

    sized: bool = False
    focused: bool = False
    moves: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    apart: ClassVar[bool] = False
    size: Any  # (height, width) where `sized`

    def __call__(
        self,
        image: Any,
        mask: Any = None,
        *,
        generator: torch.Generator | None = None,
        size: int | Size | None = None,
        focus_class: int | Sequence[int] | None = None,
        images: Sequence[Any] = (),
        masks: Sequence[Any] = (),
        maps: Sequence[Any] | Mapping[Any, float] = (),
    ) -> Any:
        """What was given, changed: an image, an image and its mask, or a sample.

        Args:
            image: [..., C, H, W]; or a sample: a dict, NamedTuple, tuple or list of tensors. Beside its first image
                (called "image", if one is), floating point [C, H, W] are images, integers [H, W] and [N, H, W] masks,
                and floating point [H, W] maps of numbers, which are bilinear and keep their values.
            mask: [..., H, W], integers, one or a stack; or several, as a dict, tuple or list.
            generator: the source of random numbers; None is torch's global one.
            size: (height, width) of this call, of what is `sized`.
            focus_class: class that a crop of this call contains, of what is `focused`.
            images: names in the sample that are images.
            masks: names in the sample that are masks.
            maps: names in the sample that are maps of numbers; a dict says what each holds where something enters from
                outside, instead of 0.

        Raises:
            ValueError: tensors do not belong together, or the transform takes no `size` or `focus_class`.
            TypeError: something is no tensor, or it is in doubt what it is.
        """
        name = type(self).__name__
        check_generator(name, generator)
        asked = self._asked(size, focus_class)
        if not (is_sample(image, mask) or images or masks or maps):
            check_pair(name, image, mask)
            return given(*self.apply(image, mask, generator, **asked))
        parts = take_apart(name, image, mask, images=images, masks=masks, maps=maps)
        usual = [getattr(self, "size", None)]
        run = Run(parts, generator, size=asked.get("size"), usual=usual, focus=asked.get("focus_class"))
        run.go(self)
        return run.result()

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        """The changed image and mask, for checked ones; the inputs stay as they are. This is what subclasses implement.

        Args:
            image: [..., C, H, W], any dtype.
            mask: [..., H, W], integers; None if none was given, and then None comes back.
            generator: the source of random numbers; None is torch's global one.
        """
        raise TypeError(f"{type(self).__name__} does not say what it does: implement apply.")

    def wanted(self, size: int | Size | None) -> Size:
        """The size of one call of a sized transform: `self.size` unless the call brings another."""
        usual: Size = self.size
        return usual if size is None else as_size(type(self).__name__, size)

    def _asked(self, size: int | Size | None, focus_class: int | Sequence[int] | None) -> dict[str, Any]:
        """What this call asks for beyond image and mask, if the transform takes it."""
        asked = {}
        for argument, value, takes, remedy in (
            ("size", size, self.sized, "RandomCrop or Resize"),
            ("focus_class", focus_class, self.focused, "RandomCrop"),
        ):
            if value is None:
                continue
            if not takes:
                raise ValueError(
                    f"{type(self).__name__}: `{argument}` must not be given, as it sets none, got {argument}={value}. "
                    f"Add {remedy} to it in a Compose."
                )
            asked[argument] = value
        return asked

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


class GeometricTransform(Transform):
    """A transform that only moves pixels: it draws a `Geometry`, which `Compose` joins with its neighbours'.

    One of your own implements `draw`. If `sized`, its `draw` takes `size` too, and `wanted(size)` is the size of the
    call; if `focused`, it takes `focus_class` and the `mask`.

    Attributes:
        fills: something from outside the image may come in; it then holds `image_fill` and `mask_fill`.
        antialias: blur what shrinks; None lets the neighbours in a `Compose` decide, and is yes if they do not.
        interpolation: "bilinear", or "bicubic" where the map scales the whole picture; it is then resampled by itself.

    Example:
        >>> class Transpose(GeometricTransform):
        ...     def draw(self, source, *, generator=None):
        ...         turned = Geometry.turning(source, 1)
        ...         return turned.then(Geometry.flipping(turned.size, vertical=True))
        >>> Transpose()(torch.tensor([[[1, 2, 3], [4, 5, 6]]])).tolist()
        [[[1, 4], [2, 5], [3, 6]]]
    """

    fills: ClassVar[bool] = False
    antialias: bool | None = None
    interpolation: str = "bilinear"
    image_fill: float | str = 0.0
    mask_fill: int = 255

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call, for an image of (height, width) `source`. This is what subclasses implement."""
        raise TypeError(f"{type(self).__name__} does not say where pixels go: implement draw.")

    def needs_mask(self, focus_class: int | Sequence[int] | None) -> bool:
        """Does a call with this `focus_class` look at the mask? Asked of `focused` transforms only."""
        return focus_class is not None or getattr(self, "focus_class", None) is not None

    def plan(
        self,
        source: Size,
        *,
        generator: torch.Generator | None = None,
        find_mask: Callable[[], Tensor] | None = None,
        **keywords: Any,
    ) -> Plan | None:
        """One draw for a picture of (height, width) `source` that is still to be read; see `Compose.plan`."""
        kind = type(self)
        if kind.apply is not GeometricTransform.apply or kind.__call__ is not Transform.__call__:
            return None  # it does more than to move pixels
        if self.fills and isinstance(self.image_fill, str):
            return None  # the picture goes on beyond its own edge, not that of a window
        if self.interpolation == "bicubic":
            return None
        if self.focused:
            looks = find_mask is not None and self.needs_mask(keywords.get("focus_class"))
            keywords["mask"] = find_mask() if looks and find_mask is not None else None
        return Plan(
            self.draw(source, generator=generator, **keywords),
            members=[self],
            fills=(self.image_fill, self.mask_fill) if self.fills else None,
            antialias=self.antialias is not False,
        )

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None, **asked: Any) -> Pair:
        """Image and mask, moved by one draw."""
        if self.focused:
            asked["mask"] = mask
        if self.fills:
            check_image_fill(type(self).__name__, image, self.image_fill)
            check_fill(type(self).__name__, mask, self.mask_fill)
        return resample(
            image,
            mask,
            self.draw(image_size(image), generator=generator, **asked),
            image_fill=self.image_fill,
            mask_fill=self.mask_fill,
            antialias=self.antialias is not False,
            interpolation=self.interpolation,
        )


class ValueTransform(Transform):
    """A transform that draws a few numbers and changes values by them: for `PerSample`, many samples at once.

    Subclasses implement `numbers`, `change` and `change_each`.
    """

    apart = True

    def numbers(self, size: Size, generator: Any) -> Any:
        """What one call draws for a picture of (height, width) `size`; None if nothing happens."""
        raise TypeError(f"{type(self).__name__} does not say what it draws: implement numbers.")

    def change(self, image: Tensor, mask: Tensor | None, numbers: Any) -> Pair:
        """Image and mask, changed by the numbers of one draw."""
        raise TypeError(f"{type(self).__name__} does not say what it does: implement change.")

    def change_each(self, images: Tensor, masks: Tensor | None, numbers: Sequence[Any]) -> Pair:
        """A batch [B, C, H, W], floating point or uint8, and its masks, each sample changed by numbers of its own."""
        raise TypeError(f"{type(self).__name__} does not say what it does to a batch: implement change_each.")

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        """Image and mask, changed by one draw."""
        return self.change(image, mask, self.numbers(image_size(image), generator))


class SizedTransform(GeometricTransform):
    """A geometric transform with a target size, which each call may replace: t(image, mask, size=(h, w))."""

    sized = True

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


def as_probability(name: str, value: float) -> float:
    """A chance in [0, 1]."""
    return as_number(name, "p", value, 0, 1)
