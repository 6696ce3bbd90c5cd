"""What may enter a transform: images, masks, sizes and numbers, refused in one sentence when they do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# torch has hardly an operator for these (no flip, no indexing on some devices), so they would fail halfway.
_BARE = tuple(getattr(torch, name) for name in ("uint16", "uint32", "uint64"))
MODES = ("reflect", "replicate")
_NUMBER = (int, float, np.integer, np.floating)


def check_pair(name: str, image: Any, mask: Any = None) -> None:
    """Raise unless `image` is a tensor [..., C, H, W] and `mask` None, or integers [..., H, W] or [..., N, H, W]."""
    _check_tensor(name, "image", image)
    if image.ndim < 3:
        raise ValueError(
            f"{name}: `image` must have the shape [..., C, H, W], got {_shape(image)}. "
            "Give a grey image its channel axis with image.unsqueeze(-3)."
        )
    if 0 in image.shape[-2:]:
        raise ValueError(f"{name}: `image` must have at least one pixel, got {_shape(image)}. Leave empty images out.")
    if image.is_complex():
        raise TypeError(
            f"{name}: `image` must hold real numbers, got {image.dtype}. Stack its real and imaginary parts."
        )
    if mask is None:
        return
    _check_tensor(name, "mask", mask)
    if mask.is_floating_point() or mask.is_complex():
        raise TypeError(
            f"{name}: `mask` must hold integer class numbers, got {mask.dtype}. "
            "Convert an index mask with mask.to(torch.uint8), or probabilities with .argmax(-3). A map of numbers "
            'moves with its image in a sample: transform({"image": image, "map": mask}, maps=("map",)).'
        )
    expected = image.shape[:-3] + image.shape[-2:]
    prefix, stack = image.shape[:-3], mask.ndim == image.ndim and mask.shape[-3] != 1
    if mask.shape == expected or (stack and mask.shape == (*prefix, mask.shape[-3], *image.shape[-2:])):
        return
    if mask.ndim == image.ndim and mask.shape[-3] == 1:
        fix = "It has a channel axis of length 1: pass mask.squeeze(-3)."
    elif mask.ndim == image.ndim and mask.shape[-1] == 1:
        fix = "Its channel axis stands last: pass mask.squeeze(-1)."
    elif mask.shape == image.shape[:-1]:
        fix = "The image's channel axis stands last: pass image.movedim(-1, -3)."
    elif mask.ndim == image.ndim:
        fix = "It has a channel axis: turn one-hot or colours into class numbers first (segkit.labels)."
    elif mask.shape[-2:] != image.shape[-2:]:
        fix = "Image and mask must have the same height and width: check that they belong together."
    else:
        fix = "A batch of images takes a batch of masks."
    raise ValueError(
        f"{name}: `mask` must have the shape {list(expected)} of `image` {_shape(image)} without the channel axis, "
        f"got {_shape(mask)}. {fix}"
    )


def check_generator(name: str, generator: Any) -> None:
    """Raise unless chance comes from torch."""
    if generator is not None and not isinstance(generator, torch.Generator):
        seed = generator if _is_int(generator) else 0
        raise TypeError(
            f"{name}: `generator` must be a torch.Generator or None, got {type(generator).__name__}. "
            f"Pass torch.Generator().manual_seed({seed})."
        )


def check_image_fill(name: str, image: Tensor, image_fill: Any) -> None:
    """Raise if the image's dtype cannot hold what is written outside of it."""
    if isinstance(image_fill, str):
        as_fill(name, image_fill)
    if image.is_floating_point() or isinstance(image_fill, str):
        return
    low, high = (0, 1) if image.dtype == torch.bool else (torch.iinfo(image.dtype).min, torch.iinfo(image.dtype).max)
    if not (low <= image_fill <= high and image_fill == int(image_fill)):
        raise ValueError(
            f"{name}: `image` must have a dtype that can hold image_fill={image_fill:g}, got {image.dtype}. "
            "Put ToTensor() before it, or give another image_fill."
        )


def check_fill(name: str, mask: Tensor | None, mask_fill: int) -> None:
    """Raise if the mask's dtype cannot hold what is written outside of it."""
    if mask is None:
        return
    low, high = (0, 1) if mask.dtype == torch.bool else (torch.iinfo(mask.dtype).min, torch.iinfo(mask.dtype).max)
    if not low <= mask_fill <= high:
        raise ValueError(
            f"{name}: `mask` must have a dtype that can hold mask_fill={mask_fill}, got {mask.dtype}. "
            "Convert it with mask.to(torch.uint8), or give another mask_fill."
        )


def as_size(name: str, size: Any, argument: str = "size") -> tuple[int, int]:
    """(height, width) from an int (a square) or a pair of ints, each at least 1."""
    size = tuple(size) if isinstance(size, np.ndarray) and size.ndim else size
    pair = (size, size) if _is_int(size) else size
    if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 and all(map(_is_int, pair)):
        height, width = int(pair[0]), int(pair[1])
        if height >= 1 and width >= 1:
            return height, width
    raise ValueError(f"{name}: `{argument}` must be an int or (height, width), each at least 1, got {size!r}.")


def as_number(name: str, argument: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite float in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, _NUMBER):
        raise TypeError(f"{name}: `{argument}` must be a number, got {value!r}.")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name}: `{argument}` must be a finite number in [{low:g}, {high:g}], got {value!r}.")
    return float(value)


def as_fill(name: str, value: Any) -> float | str:
    """What an image holds beyond its edge: a number, or how it goes on there."""
    if isinstance(value, str) and value not in MODES:
        raise ValueError(f"{name}: `image_fill` must be a number or one of {MODES}, got {value!r}.")
    return value if isinstance(value, str) else as_number(name, "image_fill", value)


def as_whole(name: str, argument: str, value: Any, low: float = -math.inf, high: float = math.inf) -> int:
    """An int in [low, high]."""
    number = as_number(name, argument, value, low, high)
    if number != int(number):
        raise ValueError(f"{name}: `{argument}` must be a whole number, got {value!r}.")
    return int(number)


def as_range(
    name: str, argument: str, value: Any, low: float = -math.inf, high: float = math.inf, around: float | None = None
) -> tuple[float, float]:
    """(low, high) from a pair in order; with `around`, one number x stands for (around - x, around + x)."""
    if around is not None and isinstance(value, _NUMBER) and not isinstance(value, bool):
        reach = as_number(name, argument, value, 0)
        value = (around - reach, around + reach)
    if not (isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2):
        raise ValueError(f"{name}: `{argument}` must be a pair (low, high), got {value!r}.")
    pair = as_number(name, argument, value[0], low, high), as_number(name, argument, value[1], low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{name}: `{argument}` must be (low, high) with low <= high, got {value!r}.")
    return pair


def _check_tensor(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        fix = "Begin with ToTensor(), or convert arrays with segkit.io.to_tensor(image) and torch.from_numpy(mask)."
        if isinstance(value, dict):
            fix = "Targets such as DistanceMaps must come last: they turn the mask into a dict."
        raise TypeError(f"{name}: `{argument}` must be a torch.Tensor, got {type(value).__name__}. {fix}")
    if value.dtype in _BARE:
        raise TypeError(
            f"{name}: `{argument}` must have a dtype that torch can compute with, got {value.dtype}. "
            f"Pass {argument}.to(torch.int32), which holds the same values."
        )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
