"""Transforms that change values and move nothing: into a tensor, and to zero mean and unit variance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit.transforms._base import Pair, Transform, given
from segkit.transforms._pixels import constant_channels, mean_and_std, normalize
from segkit.transforms._resampling.geometry import Size
from segkit.transforms._resampling.inputs import as_whole, check_pair


class ToTensor(Transform):
    """Arrays to tensors, integer images to float32 in [0, 1]; masks keep their integers.

    An image array is [H, W, C] or [H, W], a tensor [..., C, H, W]. Floating point images keep their values.

    Args:
        bits: the depth that maps to 1: values are divided by 2**bits - 1. None takes it from the dtype, which works for
            uint8 and uint16; wider integers say nothing about it and need the number (16 for uint16 held as int32).

    Raises:
        TypeError: the image is neither an array nor a tensor, or its dtype does not tell its depth.

    Example:
        >>> import numpy as np
        >>> image, mask = ToTensor()(np.full((2, 4, 3), 255, np.uint8), np.zeros((2, 4), np.uint8))
        >>> image.shape, image.max().item(), mask.dtype
        (torch.Size([3, 2, 4]), 1.0, torch.uint8)
    """

    draws = False
    apart = True

    def __init__(self, *, bits: int | None = None) -> None:
        self.bits = None if bits is None else as_whole("ToTensor", "bits", bits, 1, 32)

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
        """The image as float32 and the mask as the integers it holds."""
        if isinstance(image, (Mapping, tuple, list)):
            told: Any = {"images": images, "masks": masks, "maps": maps}
            return super().__call__(image, mask, generator=generator, size=size, focus_class=focus_class, **told)
        image = np.asarray(image) if hasattr(image, "__array_interface__") else image  # a picture of Pillow
        image, bits = _image_tensor(image), self.bits or _depth_of(image)
        if mask is not None and not isinstance(mask, Tensor):
            mask = np.asarray(mask)
            mask = mask[..., 0] if mask.ndim == 3 and mask.shape[-1] == 1 else mask
            mask = torch.from_numpy(np.array(mask.astype(np.int32) if mask.dtype in (np.uint16, np.uint32) else mask))
        check_pair("ToTensor", image, mask)
        self._asked(size, focus_class)
        if image.is_floating_point():
            return given(image.to(torch.float32), mask)
        if bits is None:
            raise TypeError(
                f"ToTensor: `bits` must be given for an image of {image.dtype}, whose depth the dtype does not tell, "
                "got None. Pass ToTensor(bits=16) for 16-bit values."
            )
        return given(image.to(torch.float32).div_(2**bits - 1), mask)


class Normalize(Transform):
    """Each channel minus its mean, divided by its standard deviation; the mask stays.

    Args:
        mean: one number for each channel, or a single one for all, in the image's units: [0, 1] after `to_tensor`.
        std: the same. 0, or what rounding leaves of it, belongs to a constant channel (an opaque alpha, an empty band),
            which is divided by 1; a warning names it.

    Raises:
        ValueError: the image has another number of channels, or a deviation is negative.
        TypeError: the image holds integers (put `ToTensor` before it).

    Example:
        >>> Normalize(mean=[0.5], std=[0.25])(torch.tensor([[[0.5, 1.0]]])).tolist()
        [[[0.0, 2.0]]]
    """

    draws = False
    apart = True
    pointwise = True  # each value by itself, so that a table of all values says what it does

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = mean_and_std("Normalize", mean, std)
        self._told = False  # that these are numbers of 0 to 255
        given_std = (std,) if isinstance(std, (int, float)) else tuple(std)
        constant = constant_channels(self.mean, given_std)
        if constant:
            warnings.warn(
                f"Normalize: channel {', '.join(map(str, constant))} of {len(given_std)} (from 0) is constant: "
                "its mean is subtracted and nothing divided. Leave it out with PairDataset(channels=...).",
                stacklevel=2,
            )

    @classmethod
    def from_statistics(cls, numbers: Any) -> Normalize:
        """The numbers of `stats.dataset_statistics` in the units that `PairDataset` yields, so that nobody divides.

        Args:
            numbers: statistics, or what `stats.recommend_normalization` returns: an object with `mean` and `std`, and
                with `scale`, the stored value that stands for 1, where they are in stored units.

        Example:
            >>> class Numbers:
            ...     mean, std, scale = [51.0], [25.5], 255
            >>> Normalize.from_statistics(Numbers())
            Normalize(mean=(0.2,), std=(0.1,))
        """
        scale = float(getattr(numbers, "scale", 1.0))
        return cls(*(tuple(float(each) / scale for each in values) for values in (numbers.mean, numbers.std)))

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        # A look at one pixel in 64, and only if the numbers are such, tells bytes' numbers on an image that is scaled.
        if max(map(abs, self.mean)) > 2 and image.is_floating_point() and image.numel():
            low, high = image[..., ::8, ::8].aminmax()
            if low >= 0 and high <= 1 and not self._told:
                self._told = True
                warnings.warn(
                    f"Normalize: `mean` and `std` must be in the image's units, got mean={self.mean} for values in "
                    "[0, 1]. Divide both by 255, or by what the image was divided by.",
                    stacklevel=3,
                )
        return normalize(image, mean=self.mean, std=self.std), mask


def _image_tensor(image: Tensor | np.ndarray) -> Tensor:
    if isinstance(image, Tensor):
        return image
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        got = f"an array of {image.ndim} axes" if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(
            f"ToTensor: `image` must be a tensor [..., C, H, W] or an array [H, W, C] or [H, W], got {got}. "
            "Read files with segkit.io.read_image, or pass np.asarray(picture)."
        )
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if image.dtype in (np.uint16, np.uint32):
        planes = planes.astype(np.int64 if image.dtype == np.uint32 else np.int32)
    return torch.from_numpy(np.array(planes, order="C"))


def _depth_of(image: Any) -> int | None:
    """Bits of the stored values, where the dtype tells them."""
    return {"uint8": 8, "uint16": 16, "bool": 1}.get(str(image.dtype).removeprefix("torch."))
