"""A sample taken apart into images, masks and maps, and put together again: what each tensor is, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from segkit.transforms._resampling.inputs import check_pair

Names = Sequence[Any]


class Parts(NamedTuple):
    """The tensors of one call.

    Attributes:
        images: [..., C, H, W]: bilinear, and what changes values changes them.
        masks: [..., H, W] integers: nearest.
        maps: floating point targets: bilinear, and values stay.
        fills: what each map holds where something enters from outside.
        unsure: names of maps that may as well be images.
        together: from the changed images, masks and maps, what the call returns.
    """

    images: list[Any]
    masks: list[Any]
    maps: list[Tensor]
    fills: list[float]
    unsure: list[Any]
    together: Callable[[list[Any], list[Any], list[Any]], Any]


def take_apart(
    name: str, image: Any, mask: Any, *, images: Names = (), masks: Names = (), maps: Names | Mapping[Any, float] = ()
) -> Parts:
    """What a transform is called with, by dtype and shape beside the sample's image, or as the caller says.

    Raises:
        TypeError: it is in doubt what a tensor is.
        ValueError: a tensor has another height and width than the image.
    """
    if not (is_sample(image, mask) or images or masks or maps):
        return _pair(image, mask)
    told = {**dict.fromkeys(images, "image"), **dict.fromkeys(masks, "mask"), **dict.fromkeys(maps, "map")}
    entries = [(0, key, value) for key, value in _items(image, "image")]
    entries += [(1, key, value) for key, value in _items(mask, "mask")]
    missing = set(told) - {key for _, key, _ in entries}
    if missing:
        raise ValueError(
            f"{name}: `images`, `masks` and `maps` must name what is in the sample, got {sorted(map(str, missing))}, "
            f"and it has {[key for _, key, _ in entries]}."
        )
    first = _first_image(name, entries, told)
    found: dict[str, list[tuple[int, Any, Any]]] = {"image": [], "mask": [], "map": [], "unsure": []}
    for slot, key, value in entries:
        kind = _kind(name, slot, key, value, first, told.get(key), bare=slot == 1 and isinstance(mask, Tensor))
        if kind:
            found[kind].append((slot, key, value))
    found["image"].sort(key=lambda entry: entry[2] is not first)
    places = [*found["image"], *found["mask"], *found["map"], *found["unsure"]]
    fills = [float(maps[key]) if isinstance(maps, Mapping) else 0.0 for _, key, _ in found["map"]]

    def together(new_images: list[Any], new_masks: list[Any], new_maps: list[Any]) -> Any:
        new = {place[:2]: value for place, value in zip(places, [*new_images, *new_masks, *new_maps], strict=True)}
        changed = tuple(
            _replaced(old, {key: value for (at, key), value in new.items() if at == slot})
            for slot, old in enumerate((image, mask))
        )
        return changed[0] if mask is None else changed

    return Parts(
        [value for _, _, value in found["image"]],
        [value for _, _, value in found["mask"]],
        [value for _, _, value in (*found["map"], *found["unsure"])],
        fills + [0.0] * len(found["unsure"]),
        [key for _, key, _ in found["unsure"]],
        together,
    )


def is_sample(image: Any, mask: Any) -> bool:
    """More than an image, or an image and its mask?"""
    return image is None or isinstance(image, (Mapping, tuple, list)) or isinstance(mask, (Mapping, tuple, list))


def _pair(image: Any, mask: Any) -> Parts:
    """Unchecked: a first member may make tensors of them."""
    if mask is None:
        return Parts([image], [], [], [], [], lambda images, masks, maps: images[0])
    return Parts([image], [mask], [], [], [], lambda images, masks, maps: (images[0], masks[0]))


def _items(value: Any, alone: str) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    return [] if value is None else [(alone, value)]


def _replaced(old: Any, new: dict[Any, Any]) -> Any:
    if isinstance(old, Mapping):
        return {**old, **new}
    if hasattr(old, "_replace"):
        return old._replace(**new)
    if isinstance(old, (tuple, list)):
        return type(old)(new.get(place, each) for place, each in enumerate(old))
    return next(iter(new.values())) if new else old


def _first_image(name: str, entries: list[tuple[int, Any, Any]], told: dict[Any, str]) -> Tensor | None:
    """The image that the others are measured by; None if there are only masks."""
    tensors = [(key, value) for slot, key, value in entries if slot == 0 and isinstance(value, Tensor)]
    candidates = [value for key, value in tensors if told.get(key) == "image"]
    candidates += [value for key, value in tensors if key == "image" and key not in told]
    free = [value for key, value in tensors if key not in told and value.ndim >= 3]
    candidates += [value for value in free if value.is_floating_point()]
    if not candidates and len(free) > 1:
        raise TypeError(
            f"{name}: it must be clear which tensors of the sample are images, got several of integers, "
            f'{[key for key, _ in tensors]}. Say it: images=("before", "after"), masks=("gt",).'
        )
    image: Tensor | None = next(iter(candidates or free), None)
    if image is not None:
        check_pair(name, image)
    elif not any(isinstance(value, Tensor) for _, _, value in entries):
        fix = "Begin with ToTensor(), or convert arrays with segkit.io.to_tensor(image) and torch.from_numpy(mask)."
        got = ", ".join(type(value).__name__ for _, _, value in entries) or "None"
        raise TypeError(f"{name}: `image` must be a torch.Tensor, or a sample with one, got {got}. {fix}")
    return image


def _kind(
    name: str, slot: int, key: Any, value: Any, first: Tensor | None, told: str | None, *, bare: bool
) -> str | None:
    """What a tensor is: image, mask, map, or unsure; None for what stays as it is."""
    if isinstance(value, np.ndarray) and value.ndim >= 2:
        raise TypeError(
            f"{name}: {key!r} must be a tensor, got an array. Convert it with segkit.io.to_tensor or torch.from_numpy."
        )
    if not isinstance(value, Tensor) or (value.ndim < 2 and told is None):
        return None
    if value is first:
        return "image"
    if bare or first is None:
        if value.is_floating_point():
            raise TypeError(
                f"{name}: `mask` must hold integer class numbers, got {value.dtype}. Convert an index mask with "
                'mask.to(torch.uint8); a map of numbers belongs in a sample: t({"image": image, "heat": heat}).'
            )
        if first is not None:
            check_pair(name, first, value)
        return "mask"
    before = first.shape[:-3]
    if value.shape[-2:] != first.shape[-2:] or value.shape[: len(before)] != before or value.ndim < len(before) + 2:
        raise ValueError(
            f"{name}: {key!r} must have the height and width of the image {list(first.shape)}, got "
            f"{list(value.shape)}. "
            "Leave out of the sample what does not lie on its pixels."
        )
    axes = value.ndim - len(before)
    if told == "mask" and value.is_floating_point():
        raise TypeError(f"{name}: {key!r} must hold integers to be a mask, got {value.dtype}. Convert it.")
    if told:
        return told
    if value.is_floating_point():
        if key == "mask":
            raise TypeError(
                f"{name}: 'mask' must hold integer class numbers, got {value.dtype}. Convert it with "
                'mask.to(torch.uint8), or say that it is a map of numbers: maps=("mask",).'
            )
        if axes == 2 or slot == 1:
            return "map"
        return "image" if axes == 3 and value.shape[-3] == first.shape[-3] else "unsure"
    if axes == 2 or slot == 1 or first.is_floating_point() or str(value.dtype) == "torch.bool":
        return "mask"
    raise TypeError(
        f"{name}: it must be clear what {key!r} is, got {value.dtype} {list(value.shape)} beside an image of integers: "
        f"an image, or a stack of masks. Say it: images=({key!r},) or masks=({key!r},)."
    )
