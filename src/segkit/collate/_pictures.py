"""Which tensors of a sample are its picture: the image, and all that has the image's height and width."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from segkit.collate._samples import Batch

Names = Collection[str | int]  # of the places of tensors: keys, fields, or positions of a tuple

_IMAGE_WORDS = ("image", "img", "picture", "photo", "pixel_values")
# What a key that is in doubt may say. Nothing is decided by it that dtype and shape decide.
_MASK_WORDS = ("mask", "label", "target", "seg", "annotation", "gt", "truth")
_MAP_WORDS = ("weight", "distance", "depth", "height", "heat", "prob", "boundar", "elevation", "flow")


class Pictures:
    """What belongs to the image of each sample, and what of it is a mask.

    Args:
        samples: the batch.
        axes: an image has so many axes at least: 3 for [C, H, W], 4 for a stack of crops [K, C, h, w].
        masks: names of tensors that are masks.
        images: names of tensors that are images or maps of numbers.

    Raises:
        ValueError: no sample holds an image, or a name is not there.
    """

    def __init__(self, samples: Batch, *, axes: int = 3, masks: Names = (), images: Names = ()) -> None:
        self._samples, self._function = samples, samples.function
        found = samples.tensors()
        self._masks, self._images = (
            self._places(argument, names, found) for argument, names in (("masks", masks), ("images", images))
        )
        candidates = {name: tensors for name, tensors in found.items() if name not in self._masks}
        self.image = _image_among(candidates, axes)
        if self.image is None:
            got = {name: list(tensors[0].shape) for name, tensors in found.items()} or "no tensor at all"
            fix = (
                "Use stack_collate, or put FiveCrop, TenCrop or GridCrop into the transform."
                if axes == 4
                else "Use stack_collate."
            )
            layout = "[K, C, h, w]" if axes == 4 else "[C, H, W] or [H, W]"
            raise ValueError(
                f"{self._function}: a sample must hold an image {layout}, got {got} in {samples.describe(0)}. {fix}"
            )
        image = found[self.image]
        lead = 1 if axes == 4 else 0  # crops of one picture also share their number
        self.named = {
            name: tensors
            for name, tensors in found.items()
            if all(
                t.ndim >= 2 + lead and t.shape[-2:] == i.shape[-2:] and t.shape[:lead] == i.shape[:lead]
                for t, i in zip(tensors, image, strict=True)
            )
        }
        self.sizes = [(i.shape[-2], i.shape[-1]) for i in image]

    def is_mask(self, name: str) -> bool:
        """Does this tensor hold labels: nearest when it is resized, and the mask's fill in its margin?

        By dtype and shape beside the image: integers that are no second image are labels, floats of several channels
        are none. Floats of one channel may be either, as may integers of the image's own dtype and channels: there the
        name decides if it is plain, and else the user has to.

        Raises:
            ValueError: it may be either.
        """
        assert self.image is not None
        if name in self._masks:
            return True
        if name == self.image or name in self._images:
            return False
        tensor, image = self.named[name][0], self.named[self.image][0]
        word = name.lower()
        says_mask = any(each in word for each in _MASK_WORDS)
        says_image = not says_mask and any(each in word for each in (*_IMAGE_WORDS, *_MAP_WORDS))
        if not (tensor.is_floating_point() or tensor.is_complex()):
            another = tensor.ndim == image.ndim and tensor.dtype == image.dtype and tensor.shape[0] == image.shape[0]
            if tensor.ndim == 2 or not another:
                return not says_image or tensor.dtype == torch.bool
        elif tensor.ndim > 3 or (tensor.ndim == 3 and tensor.shape[0] > 1):
            return False
        if says_mask or says_image:
            return says_mask
        called = f"images=({name!r},)" if not name.startswith("[") else f"images=({name.strip('[]')},)"
        raise ValueError(
            f"{self._function}: {name!r} must be known as a mask or as an image, got {tensor.dtype} "
            f"{list(tensor.shape)} beside an image of {image.dtype} {list(image.shape)}. Say {called} for numbers, "
            f"{called.replace('images', 'masks')} for labels."
        )

    def _places(self, argument: str, names: Names, found: dict[str, list[Tensor]]) -> set[str]:
        if isinstance(names, str):
            raise TypeError(f"{self._function}: `{argument}` must be several names, got {names!r}. Write ({names!r},).")
        places = {f"[{name}]" if isinstance(name, int) else name for name in names}
        if missing := sorted(places - found.keys()):
            raise ValueError(
                f"{self._function}: `{argument}` must name tensors of a sample, got {missing}; there are {list(found)}."
            )
        return places


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


def _image_among(found: dict[str, list[Tensor]], axes: int) -> str | None:
    """The image's name: one that says so, else the first of floats, else the first."""
    enough = {name: tensors for name, tensors in found.items() if min(t.ndim for t in tensors) >= axes}
    for name in enough:
        word = name.lower()
        if any(each in word for each in _IMAGE_WORDS) and not any(each in word for each in _MASK_WORDS):
            return name
    for name, tensors in enough.items():
        if tensors[0].is_floating_point() and not any(each in name.lower() for each in _MASK_WORDS):
            return name
    if enough:
        return next(iter(enough))
    flat = [name for name, tensors in found.items() if min(t.ndim for t in tensors) == 2]
    return flat[0] if flat and axes == 3 else None
