"""One draw for each sample of a batch: sample by sample in threads on the CPU, the whole batch at once elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from segkit.transforms._base import GeometricTransform, Transform, ValueTransform, given, image_size
from segkit.transforms._compose import Row
from segkit.transforms._resampling.chance import Chance, Source, can_be_read, on_host
from segkit.transforms._resampling.geometry import Geometries, Geometry, Size
from segkit.transforms._resampling.inputs import as_size, check_generator, check_pair
from segkit.transforms._resampling.sample_parts import take_apart
from segkit.transforms._run import Numbers, Run

Steps = Sequence[tuple[Any, Any]]
_PAYS = 1 << 16  # values of a sample from which on a second thread gains more than it costs
_AT_ONCE = (torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64)


class PerSample:
    """A batch [B, ...] with one draw for each sample, instead of one for the whole batch.

    On the CPU samples are changed one by one, in as many threads as torch has where that pays. On an accelerator the
    whole batch [B, C, H, W] is changed at once, in a number of operators that does not depend on B, and nothing is read
    from the device: what moves pixels, colour, gamma, blur and holes, of floating point and uint8 images with any C.
    What else draws (noise, CLAHE, a function of your own) is called for each sample, and a crop that looks for a class
    reads the masks. Each way through a `OneOf`, `SomeOf` or `Maybe` is a batch of its own.

    Args:
        transform: any transform; its results must have one size.
        batched: None: at once on an accelerator. True and False ask for one way: both draw the same, and give the same
            sample: bit for bit masks and what moves whole pixels, and the rest within what rounding makes of it.

    A `generator` on the CPU gives what `transform` would draw for one sample after the other; of one on the device the
    seed and the place decide, which are read on the host.

    Example:
        >>> from segkit.transforms import PerSample, RandomCrop
        >>> images, masks = torch.rand(4, 3, 64, 64), torch.zeros(4, 64, 64, dtype=torch.uint8)
        >>> images, masks = PerSample(RandomCrop(32))(images, masks)
        >>> images.shape, masks.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 32, 32]))
    """

    def __init__(self, transform: Callable[..., Any], *, batched: bool | None = None) -> None:
        if not callable(transform):
            raise TypeError(f"PerSample: `transform` must be callable, got {transform!r}.")
        if batched is not None and not isinstance(batched, bool):
            raise TypeError(f"PerSample: `batched` must be None, True or False, got {batched!r}.")
        self.transform = transform
        self.batched = batched
        # What the transform takes, this takes, so that a Compose asks both alike.
        self.sized = getattr(transform, "sized", False)
        self.focused = getattr(transform, "focused", False)
        self.size = getattr(transform, "size", None)

    def __call__(
        self, image: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None, **keywords: Any
    ) -> Any:
        """The batch, or batch and masks, stacked again."""
        check_generator("PerSample", generator)
        check_pair("PerSample", image, mask)
        if image.ndim < 4:
            raise ValueError(
                f"PerSample: `image` must be a batch [B, ..., C, H, W], got {list(image.shape)}. "
                "Call the transform itself for a single image."
            )
        if len(image) == 0:
            return given(image, mask)
        drawn = _not_compiled(self._draw)(image, mask, generator, keywords)
        if drawn is None:
            host = on_host(generator)
            return _stacked([self.transform(*pair, generator=host, **keywords) for pair in _pairs(image, mask)])
        at_once = image.device.type != "cpu" if self.batched is None else self.batched
        if at_once and image.ndim == 4 and image.dtype in _AT_ONCE:
            with contextlib.suppress(_UnevenError):
                return _at_once(image, mask, drawn)
        return _one_by_one(image, mask, drawn)

    def _draw(
        self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None, keywords: dict[str, Any]
    ) -> list[Steps] | None:
        """What the call for each sample draws; None where nobody can say it beforehand."""
        if not keywords.keys() <= {"size", "focus_class"} or not _says_first(self.transform):
            return None
        leaves = list(_leaves(self.transform))
        focus = keywords.get("focus_class")
        looks = mask is not None and any(getattr(each, "focused", False) and each.needs_mask(focus) for each in leaves)
        if looks and not all(hasattr(each, "needs_mask") for each in leaves):
            return None  # others may have changed the mask in which a crop looks for its class
        with _chance(self.transform, on_host(generator)) as source:
            masks = mask if looks and mask is not None else [None] * len(image)
            return [_steps(self.transform, image_size(image), source, labels, **keywords) for labels in masks]

    def __repr__(self) -> str:
        return f"PerSample({self.transform!r}{'' if self.batched is None else f', batched={self.batched}'})"


def _not_compiled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """There is nothing to compile in a few numbers on the host. A decorator would load the compiler at import."""
    disable: Any = torch.compiler.disable
    return disable(draw) if torch.compiler.is_compiling() else draw


def _says_first(transform: Any) -> bool:
    """Can all draws be made before anything is done?"""
    kind = type(transform)
    if isinstance(transform, Row):
        known = all(
            hasattr(leaf, "needs_mask")
            or not (getattr(leaf, "moves", True) or getattr(leaf, "sized", False) or getattr(leaf, "focused", False))
            for leaf in _leaves(transform)
        )
        return known and kind.__call__ is Row.__call__
    own = [base for base in (GeometricTransform, ValueTransform) if isinstance(transform, base)]
    return bool(own) and kind.apply is own[0].apply and kind.__call__ is Transform.__call__


def _leaves(transform: Any) -> Iterator[Any]:
    """The members of a row and of the rows in it; or the transform."""
    if isinstance(transform, Row):
        for member in transform.transforms:
            yield from _leaves(member)
    else:
        yield transform


@contextlib.contextmanager
def _chance(transform: Any, generator: torch.Generator | None) -> Iterator[Source]:
    """What the generator would draw by no operator of torch, unless a transform from outside asks it itself."""
    ours = all(
        type(leaf).__module__.startswith("segkit.") for leaf in _leaves(transform) if hasattr(leaf, "needs_mask")
    )
    if not ours or not can_be_read():
        yield generator
        return
    generator = torch.default_generator if generator is None else generator
    chance = Chance.of(generator)
    try:
        yield chance
    finally:
        chance.give_back(generator)


def _steps(
    transform: Any, source: Size, chance: Source, mask: Tensor | None, size: Any = None, focus_class: Any = None
) -> Steps:
    """One sample's members, each with its geometry, its numbers, or the seed of its chance."""
    if isinstance(transform, ValueTransform):
        transform._asked(size, focus_class)
        return [(transform, Numbers(transform.numbers(source, chance)))]
    if isinstance(transform, Row):
        drawn = transform.steps(source, chance, size=size, focus_class=focus_class, mask=mask)
    else:
        transform._asked(size, focus_class)
        wanted = None if size is None else as_size(type(transform).__name__, size)
        usual = [getattr(transform, "size", None)]
        run = Run(None, chance, size=wanted, usual=usual, focus=focus_class, source=source)  # type: ignore[arg-type]
        run.masks = [] if mask is None else [mask]
        run.join(transform)
        drawn = run.steps
    steps: list[tuple[Any, Any]] = []
    for member, each in drawn:
        if isinstance(each, Geometry):
            source = each.size
        elif isinstance(member, ValueTransform):
            seeded = Chance.seeded(each) if can_be_read() else torch.Generator().manual_seed(each)
            each = Numbers(member.numbers(source, seeded))
        steps.append((member, each))
    return steps


class _UnevenError(Exception):
    """Samples have different sizes somewhere on the way, and make no batch there."""


class _Batch(Run):
    """A run whose image is a batch: each step has what each of the samples drew."""

    def resample(self) -> None:
        if self.pending is not None and len({each.size for each in self.pending.each}) > 1:
            raise _UnevenError
        super().resample()

    def _change(self, transform: Any, drawn: Any, keywords: dict[str, Any]) -> None:
        self.resample()
        image, mask = self.images[0], self.masks[0] if self.masks else None
        if isinstance(drawn[0], Numbers):
            image, mask = transform.change_each(image, mask, [each.values for each in drawn])
        elif drawn[0] is None:  # nothing by chance: a batch is as good as a single image
            image, mask = _both(transform(*_given(image, mask)))
        else:
            chances = [torch.Generator().manual_seed(seed) for seed in drawn]
            pairs = zip(_pairs(image, mask), chances, strict=True)
            image, mask = _both(_stacked([transform(*pair, generator=chance) for pair, chance in pairs]))
        self.images[0] = image
        if mask is not None:
            self.masks[0] = mask


def _at_once(image: Tensor, mask: Tensor | None, drawn: list[Steps]) -> Any:
    """All samples that go the same way through the row together."""
    ways: dict[tuple[int, ...], list[int]] = {}
    for place, steps in enumerate(drawn):
        ways.setdefault(tuple(id(transform) for transform, _ in steps), []).append(place)
    done = []
    for places in ways.values():
        some = _given(image, mask)
        if len(ways) > 1:
            index = torch.tensor(places).to(image.device)
            some = tuple(each[index.to(each.device)] for each in some)
        run = _Batch(take_apart("PerSample", *_both(some)), None)
        for step, (transform, first) in enumerate(drawn[places[0]]):
            each = tuple(drawn[place][step][1] for place in places)
            run.step(transform, Geometries(each) if isinstance(first, Geometry) else each)
        done.append(run.result())
    if len(ways) == 1:
        return done[0]
    if len({_both(each)[0].shape[1:] for each in done}) > 1:
        raise _UnevenError
    back = torch.tensor([place for places in ways.values() for place in places]).argsort()
    parts = [torch.cat(each) for each in zip(*(_given(*_both(part)) for part in done), strict=True)]
    return given(*_both(tuple(each[back.to(each.device)] for each in parts)))


def _one_by_one(image: Tensor, mask: Tensor | None, drawn: list[Steps]) -> Any:
    """Sample after sample, in threads where that pays."""
    pairs = list(_pairs(image, mask))

    def done(place: int) -> Any:
        run = Run(take_apart("PerSample", *pairs[place]), None)
        for transform, each in drawn[place]:
            run.step(transform, each)
        return run.result()

    threads = min(len(image), torch.get_num_threads())
    apart = all(isinstance(each, (Geometry, Numbers)) or _apart(t) for steps in drawn for t, each in steps)
    if threads == 1 or not apart or image.device.type != "cpu" or image[0].numel() < _PAYS or image.requires_grad:
        return _stacked([done(place) for place in range(len(image))])
    outs: list[Tensor] = []
    lock = threading.Lock()

    def write(place: int) -> Any:
        found = _given(*_both(done(place)))
        with lock:
            if not outs:
                outs.extend(each.new_empty((len(image), *each.shape)) for each in found)
        for out, each in zip(outs, found, strict=True):
            if out.shape[1:] == each.shape:
                out[place] = each
        return [each.shape for each in found]

    with ThreadPoolExecutor(threads) as pool:
        shapes = list(pool.map(write, range(len(image))))
    for each in zip(*shapes, strict=True):
        _check_one_size(each)
    return given(*_both(tuple(outs)))


def _apart(transform: Any) -> bool:
    return bool(getattr(transform, "apart", False))


def _pairs(image: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The samples."""
    return zip(image, [None] * len(image) if mask is None else mask, strict=True)


def _given(image: Any, mask: Any) -> tuple[Any, ...]:
    return (image,) if mask is None else (image, mask)


def _both(result: Any) -> tuple[Any, Any]:
    """Image and mask, which may be None, of what a transform returned."""
    if not isinstance(result, tuple):
        return result, None
    return (result[0], None) if len(result) == 1 else (result[0], result[1])


def _stacked(samples: Sequence[Any]) -> Any:
    """Images, pairs, or dicts of targets, as batches."""
    first = samples[0]
    if isinstance(first, tuple):
        return tuple(_stacked(part) for part in zip(*samples, strict=True))
    if isinstance(first, Mapping):
        return {name: _stacked([each[name] for each in samples]) for name in first}
    _check_one_size([each.shape for each in samples])
    return torch.stack(list(samples))


def _check_one_size(shapes: Sequence[torch.Size]) -> None:
    if len(set(shapes)) > 1:
        raise ValueError(
            "PerSample: `transform` must give one size for all samples of a batch, got "
            f"{sorted({tuple(shape) for shape in shapes})[:4]}. End it with RandomCrop or Resize."
        )
