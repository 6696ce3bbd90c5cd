"""Samples of different sizes, resized to one."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.collate._batch import empty_batch
from segkit.collate._pictures import Names, Pictures
from segkit.collate._samples import Batch, as_lists
from segkit.collate._stack import stack_or_explain


def resize_collate(
    batch: Sequence[Any],
    *,
    size: int | tuple[int, int],
    masks: Names = (),
    images: Names = (),
    lists: Names = (),
) -> Any:
    """Samples of different sizes, all resized to one: images bilinear with antialiasing, masks nearest.

    Every tensor that has the height and width of its sample's image is resized with it; `pad_collate` says which
    tensor is the image and which are masks. An image that has the size already is copied as it is.

    Args:
        batch: the samples.
        size: (height, width) of the batch in pixels; an int is a square.
        masks: names of tensors that are masks, as in `pad_collate`.
        images: names of tensors that are images or maps of numbers, as in `pad_collate`.
        lists: names of tensors that stay a list of B, as in `pad_collate`. Those with the image's size are resized
            each; boxes stay as they are, in pixels of the image before.

    Returns:
        The structure of one sample, with tensors [B, ..., height, width] in their own dtypes.

    Raises:
        ValueError: something else than height and width differs, or a tensor may be a mask or an image.

    Example:
        >>> batch = resize_collate([(torch.ones(3, 4, 6), torch.tensor([[1, 2]] * 4).repeat_interleave(3, 1))], size=2)
        >>> batch[0].shape, batch[1].tolist()
        (torch.Size([1, 3, 2, 2]), [[[1, 2], [1, 2]]])
    """
    height, width = _as_size(size)
    samples = Batch("resize_collate", batch)
    pictures = Pictures(samples, masks=masks, images=images)
    named = pictures.named

    def resize(name: str, tensors: list[Tensor]) -> Tensor:
        if name not in named:
            return stack_or_explain(samples, name, tensors)
        if len({tensor.shape[:-2] for tensor in tensors}) > 1:
            raise ValueError(
                f"resize_collate: {name!r} must differ in height and width only, got {samples.shapes(tensors)}. "
                "Use list_collate, or bring them to the same channels in the data set."
            )
        nearest = pictures.is_mask(name) or tensors[0].dtype == torch.bool
        resized = _nearest if nearest else _bilinear
        result = empty_batch((len(tensors), *tensors[0].shape[:-2], height, width), tensors[0])
        for i, tensor in enumerate(tensors):
            result[i] = tensor if tensor.shape[-2:] == (height, width) else resized(tensor, height, width)
        return result

    return samples.combine(as_lists(samples, lists, resize, lambda n, t: resize(n, [t])[0] if n in named else t))


def _nearest(mask: Tensor, height: int, width: int) -> Tensor:
    """The pixel under the centre of each new one, in integers: floor((i + 1/2) * length / new length)."""
    rows, columns = (
        torch.div((2 * torch.arange(new, device=mask.device) + 1) * old, 2 * new, rounding_mode="floor")
        for new, old in ((height, mask.shape[-2]), (width, mask.shape[-1]))
    )
    return mask.index_select(-2, rows).index_select(-1, columns)


def _bilinear(image: Tensor, height: int, width: int) -> Tensor:
    exact = image.is_floating_point() or image.dtype == torch.uint8
    planes = (image if exact else image.to(torch.float64)).reshape(1, -1, *image.shape[-2:])
    resized = F.interpolate(planes, (height, width), mode="bilinear", antialias=True).reshape(
        *image.shape[:-2], height, width
    )
    return resized if exact else resized.round_().to(image.dtype)


def _as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    pair: Any = (size, size) if hasattr(size, "__index__") else size
    numbers = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(_is_side, pair))
    if not numbers:
        raise ValueError(f"resize_collate: `size` must be an int or (height, width), each at least 1, got {size!r}.")
    return operator.index(pair[0]), operator.index(pair[1])


def _is_side(side: Any) -> bool:
    return hasattr(side, "__index__") and not isinstance(side, bool) and operator.index(side) >= 1
