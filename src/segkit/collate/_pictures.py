"""Which tensors of a sample are its picture: the image, and all that has the image's height and width."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.collate._samples import Batch

_IMAGE_WORDS = ("image", "img", "picture")
_MASK_WORDS = ("mask", "label", "target", "segmentation")


def pictures(samples: Batch, *, axes: int = 3) -> tuple[dict[str, list[Tensor]], list[tuple[int, int]]]:
    """The tensors that belong to the picture, by name, and the (height, width) of each sample's picture.

    Args:
        samples: the batch.
        axes: an image has so many axes at least: 3 for [C, H, W], 4 for a stack of crops [K, C, h, w].

    Raises:
        ValueError: no sample holds such an image.
    """
    found = samples.tensors()
    image = _image_among(found, axes)
    if image is None:
        got = {name: list(tensors[0].shape) for name, tensors in found.items()} or "no tensor at all"
        fix = (
            "Use stack_collate, or put FiveCrop, TenCrop or GridCrop into the transform."
            if axes == 4
            else "Use stack_collate."
        )
        layout = "[K, C, h, w]" if axes == 4 else "[C, H, W] or [H, W]"
        raise ValueError(
            f"{samples.function}: a sample must hold an image {layout}, got {got} in {samples.describe(0)}. {fix}"
        )
    lead = 1 if axes == 4 else 0  # crops of one picture also share their number
    belonging = {
        name: tensors
        for name, tensors in found.items()
        if all(
            t.ndim >= 2 + lead and t.shape[-2:] == i.shape[-2:] and t.shape[:lead] == i.shape[:lead]
            for t, i in zip(tensors, image, strict=True)
        )
    }
    return belonging, [(i.shape[-2], i.shape[-1]) for i in image]


def is_mask(name: str, tensor: Tensor) -> bool:
    """Does the margin of this tensor get the mask's fill?"""
    word = name.lower()
    if any(each in word for each in _MASK_WORDS):
        return not tensor.is_floating_point()
    if any(each in word for each in _IMAGE_WORDS):
        return False
    return tensor.ndim == 2 and not tensor.is_floating_point()


def check_fill(function: str, name: str, tensor: Tensor, fill: float) -> None:
    """Raise if the dtype cannot hold the fill."""
    if tensor.is_floating_point() or tensor.is_complex():
        return
    low, high = (0, 1) if tensor.dtype == torch.bool else (torch.iinfo(tensor.dtype).min, torch.iinfo(tensor.dtype).max)
    if not (low <= fill <= high and fill == int(fill)):
        raise ValueError(
            f"{function}: {name!r} must have a dtype that can hold its fill {fill:g}, got {tensor.dtype}. "
            "Convert it with .to(torch.uint8), or give another fill."
        )


def _image_among(found: dict[str, list[Tensor]], axes: int) -> list[Tensor] | None:
    enough = {name: tensors for name, tensors in found.items() if min(t.ndim for t in tensors) >= axes}
    for name, tensors in enough.items():
        if any(word in name.lower() for word in _IMAGE_WORDS):
            return tensors
    if enough:
        return next(iter(enough.values()))
    flat = [tensors for tensors in found.values() if min(t.ndim for t in tensors) == 2]
    return flat[0] if flat and axes == 3 else None
