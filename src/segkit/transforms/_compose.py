"""One transform after another, neighbouring geometric ones joined into a single resampling; and choices of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.transforms._base import GeometricTransform, Transform, as_probability
from segkit.transforms._drawn import Drawn
from segkit.transforms._plan import Plan
from segkit.transforms._resampling.chance import integer, permutation, uniform
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.inputs import as_size, as_whole, check_generator
from segkit.transforms._resampling.sample_parts import Parts, take_apart
from segkit.transforms._run import Run


class Row(Transform):
    """Transforms of which a call takes some or all, one after the other. Subclasses say which."""

    transforms: tuple[Callable[..., Any], ...]

    def choose(self, generator: torch.Generator | None) -> Sequence[Callable[..., Any]]:
        """The members of one call, in order."""
        raise TypeError(f"{type(self).__name__} does not say which members a call takes: implement choose.")

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
        """What was given, after the members: see `Transform`."""
        name = type(self).__name__
        check_generator(name, generator)
        parts = take_apart(name, image, mask, images=images, masks=masks, maps=maps)
        run = self._run(parts, generator, size, focus_class)
        run.go(self)
        return run.result()

    def draw(
        self,
        source: Size,
        *,
        generator: torch.Generator | None = None,
        size: int | Size | None = None,
        focus_class: int | Sequence[int] | None = None,
        mask: Tensor | None = None,
    ) -> Drawn:
        """What one call draws for pictures of (height, width) `source`, to print, to store, to do again and to undo.

        Args:
            source: (height, width) of the pictures.
            generator: the source of random numbers; a call with the same one does the same.
            size: as in a call.
            focus_class: as in a call.
            mask: where members look for a class.

        Example:
            >>> from segkit.transforms import HorizontalFlip, RandomCrop
            >>> drawn = Compose([HorizontalFlip(), RandomCrop(32)]).draw((48, 64))
            >>> drawn(torch.rand(3, 48, 64)).shape
            torch.Size([3, 32, 32])
        """
        check_generator(type(self).__name__, generator)
        source = as_size(type(self).__name__, source, "source")
        return Drawn(source, self.steps(source, generator, size=size, focus_class=focus_class, mask=mask))

    def steps(
        self, source: Size, chance: Any, *, size: Any = None, focus_class: Any = None, mask: Tensor | None = None
    ) -> list[tuple[Any, Any]]:
        """The members that take part, each with what it drew: a geometry, or the seed of its chance."""
        run = self._run(None, chance, size, focus_class, source=source)
        run.masks = [] if mask is None else [mask]
        run.go(self)
        return run.steps

    def _run(
        self,
        parts: Parts | None,
        generator: torch.Generator | None,
        size: int | Size | None,
        focus_class: Any,
        *,
        find_mask: Callable[[], Tensor] | None = None,
        source: Size | None = None,
    ) -> Run:
        name = type(self).__name__
        wanted = None if size is None else as_size(name, size)
        for argument, value, takes, remedy in (
            ("size", wanted, self.sized, "RandomCrop or Resize"),
            ("focus_class", focus_class, self.focused, "RandomCrop"),
        ):
            if value is not None and not takes:
                raise ValueError(
                    f"{name}: `{argument}` must have a member that takes it, got {argument}={value} for {self!r}. "
                    f"Add {remedy}."
                )
        usual = _last_sizes(self) if wanted is not None else []
        return Run(parts, generator, size=wanted, usual=usual, focus=focus_class, find_mask=find_mask, source=source)

    def _hold(self, transforms: Sequence[Callable[..., Any]]) -> None:
        """Keep the members, if they can be."""
        members: list[Callable[..., Any]] = []
        for place, transform in enumerate(transforms):
            _check_member(type(self).__name__, place, transform)
            opened = isinstance(transform, Compose) and isinstance(self, Compose)
            members.extend(transform.transforms if opened else [transform])  # type: ignore[attr-defined]
        self.transforms = tuple(members)
        self.sized = any(getattr(member, "sized", False) for member in members)
        self.focused = any(getattr(member, "focused", False) for member in members)


class Compose(Row):
    """Transforms one after another. Neighbouring geometric ones are joined into one map and resampled once.

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
        self._hold(transforms)

    def choose(self, generator: torch.Generator | None) -> Sequence[Callable[..., Any]]:
        """All members."""
        return self.transforms

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
            generator: the source of random numbers; the plan goes on with it, so that all draws are those of a plain
                call.
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
        run = self._run(None, generator, size, focus_class, find_mask=find_mask, source=source)
        rest, head, chose = list(self.transforms), [], False
        while rest:
            if isinstance(rest[0], Row):
                rest[:1], chose = rest[0].choose(generator), True
            elif _in_a_window(rest[0]) and run.joins(rest[0]):
                head.append(rest.pop(0))
                run.join(head[-1])
            else:
                break
        if run.pending is None and not chose:
            return None
        pointwise = rest.pop(0) if rest and getattr(rest[0], "pointwise", False) else None

        def then(image: Tensor, mask: Tensor | None) -> Any:
            later = self._run(take_apart("Compose", image, mask), generator, size, focus_class)
            for transform in rest:
                later.go(transform)
            return (later.result(), None) if mask is None else later.result()

        return Plan(
            run.pending or Geometry.identity(source),
            members=head,
            fills=run.fills,
            antialias=run.antialias is not False,
            pointwise=pointwise,
            then=then if rest else None,
        )


class OneOf(Row):
    """One of several transforms in each call. What it chose joins its neighbours in a `Compose` as if it stood there.

    Args:
        transforms: what to choose from.
        weights: how likely each is, in proportion; None: all alike.

    Example:
        >>> from segkit.transforms import GaussianBlur, GaussianNoise
        >>> OneOf([GaussianBlur(), GaussianNoise()])(torch.rand(3, 8, 8)).shape
        torch.Size([3, 8, 8])
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], *, weights: Sequence[float] | None = None) -> None:
        self._hold(transforms)
        self.weights = None if weights is None else tuple(float(weight) for weight in weights)
        chances = self.weights or (1.0,) * len(self.transforms)
        if len(chances) != len(self.transforms) or not self.transforms or min(chances) < 0 or sum(chances) <= 0:
            raise ValueError(
                f"OneOf: `weights` must be one number of at least 0 for each of {len(self.transforms)} transforms, "
                f"not all 0, got {weights!r}. None makes all alike."
            )

    def choose(self, generator: torch.Generator | None) -> Sequence[Callable[..., Any]]:
        """The one."""
        if self.weights is None:
            return [self.transforms[integer(len(self.transforms), generator)]]
        place = uniform(0, sum(self.weights), generator)
        for transform, weight in zip(self.transforms, self.weights, strict=True):
            if place < weight:
                return [transform]
            place -= weight
        return [self.transforms[-1]]


class SomeOf(Row):
    """Some of several transforms in each call, in their order; each selection of that many is equally likely.

    Args:
        transforms: what to choose from.
        n: how many, or the smallest and largest number.

    Example:
        >>> from segkit.transforms import ColorJitter, GaussianBlur, GaussianNoise
        >>> SomeOf([ColorJitter(), GaussianBlur(), GaussianNoise()], n=(0, 2))(torch.rand(3, 8, 8)).shape
        torch.Size([3, 8, 8])
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], n: int | tuple[int, int]) -> None:
        self._hold(transforms)
        low, high = n if isinstance(n, Sequence) else (n, n)
        self.n = as_whole("SomeOf", "n", low, 0), as_whole("SomeOf", "n", high, 0, len(self.transforms))
        if self.n[0] > self.n[1]:
            raise ValueError(f"SomeOf: `n` must be a number, or (smallest, largest), got {n!r}.")

    def choose(self, generator: torch.Generator | None) -> Sequence[Callable[..., Any]]:
        """The ones of this call."""
        count = self.n[0] + integer(self.n[1] - self.n[0] + 1, generator)
        return [self.transforms[place] for place in sorted(permutation(len(self.transforms), generator)[:count])]


class Maybe(Row):
    """A transform, or nothing.

    Args:
        transform: what may happen; a `Compose` happens as a whole.
        p: how likely.

    Example:
        >>> from segkit.transforms import RandomAffine
        >>> image = torch.rand(3, 8, 8)
        >>> Maybe(RandomAffine(15), p=0)(image) is image
        True
    """

    def __init__(self, transform: Callable[..., Any], p: float = 0.5) -> None:
        self._hold([transform])
        self.transform, self.p = transform, as_probability("Maybe", p)

    def choose(self, generator: torch.Generator | None) -> Sequence[Callable[..., Any]]:
        """The transform, or nothing."""
        return self.transforms if uniform(0, 1, generator) < self.p else ()


def _in_a_window(member: Any) -> bool:
    """Does it move pixels only, take none from beyond the picture's edge, and join its neighbours?"""
    if not isinstance(member, GeometricTransform) or member.interpolation == "bicubic":
        return False
    return not (member.fills and isinstance(member.image_fill, str))


def _last_sizes(row: Row) -> list[Any]:
    """The sizes that the last sized member was made with: several where there is a choice."""
    for member in reversed(row.transforms) if isinstance(row, Compose) else ():
        if getattr(member, "sized", False):
            return _last_sizes(member) if isinstance(member, Row) else [getattr(member, "size", None)]
    return [
        size
        for member in row.transforms
        if getattr(member, "sized", False)
        for size in (_last_sizes(member) if isinstance(member, Row) else [getattr(member, "size", None)])
    ]


def _check_member(name: str, place: int, transform: Any) -> None:
    """Raise unless it can be called as t(image, mask, generator=...), with the adapter to use."""
    if not callable(transform):
        raise TypeError(f"{name}: `transforms` at {place} must be callable, got {transform!r}.")
    package = type(transform).__module__.partition(".")[0]
    adapters = {"torchvision": "FromTorchvision", "albumentations": "FromAlbumentations", "torch": "OnImage"}
    if package in adapters:
        raise TypeError(
            f"{name}: `transforms` at {place} must take (image, mask, generator=...), got {type(transform).__name__} "
            f"of {package}. Wrap it in {adapters[package]}(...)."
        )
    try:
        inspect.signature(transform).bind(None, None, generator=None)
    except TypeError:
        raise TypeError(
            f"{name}: `transforms` at {place} must take (image, mask=None, *, generator=None), got {transform!r}. "
            "Wrap a function of the image alone in OnImage(...), give another the keyword `generator`."
        ) from None
    except ValueError:  # a builtin does not say what it takes
        return
