"""Many samples, one batch: stacked, padded, resized, or a list; written once, in a worker into shared memory.

Samples are dicts, tuples, NamedTuples or lists, nested as you like, of tensors, arrays, numbers and text. Tensors are
joined as the function says, numbers become a tensor, text a list. Hand any of these to a DataLoader as ``collate_fn``.

Example:
    >>> import torch
    >>> from segkit.collate import pad_collate
    >>> sample = lambda h, w: {
    ...     "image": torch.ones(3, h, w),
    ...     "mask": torch.ones(h, w, dtype=torch.uint8),
    ...     "path": "a.png",
    ... }
    >>> batch = pad_collate([sample(4, 6), sample(5, 3)], multiple_of=4)
    >>> batch["image"].shape, batch["mask"][1, -1].tolist(), batch["path"]
    (torch.Size([2, 3, 8, 8]), [255, 255, 255, 255, 255, 255, 255, 255], ['a.png', 'a.png'])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.collate._batch import joined, padded, stacked, valid_mask
from segkit.collate._pictures import check_fill, is_mask, pictures
from segkit.collate._samples import Batch

__all__ = ["crop_stack_collate", "pad_collate", "stack_collate"]


def stack_collate(batch: Sequence[Any]) -> Any:
    """Samples of one size along a new first axis, as `default_collate` does, with errors that say what to do.

    Args:
        batch: the samples. None stands for "not there" and must then be None in all of them.

    Returns:
        The structure of one sample: tensors and arrays [B, *shape], numbers [B], text as a list.

    Raises:
        ValueError: shapes, keys or lengths differ; the message names the key, each sample and the function to use.
        TypeError: a value is None in some samples only, dtypes differ, or a type is unknown.

    Example:
        >>> import torch
        >>> stack_collate([{"image": torch.zeros(3, 4, 4), "index": 7}, {"image": torch.zeros(3, 4, 4), "index": 9}])[
        ...     "index"
        ... ]
        tensor([7, 9])
    """
    samples = Batch("stack_collate", batch)
    return samples.combine(lambda name, tensors: _stack(samples, name, tensors))


def pad_collate(
    batch: Sequence[Any],
    *,
    multiple_of: int = 1,
    image_fill: float = 0,
    mask_fill: int = IGNORE_INDEX,
    return_valid: bool = False,
) -> Any:
    """Samples of different sizes, padded below and to the right to the largest height and width among them.

    The picture of a sample is its tensor named "image", or else its first with three axes or more. Every tensor that
    has the picture's height and width is padded with it: masks with `mask_fill`, others with `image_fill`. A tensor is
    a mask if it holds integers and its name says so (mask, label, target, segmentation) or it has two axes only.
    Tensors of any other size are stacked as they are.

    Args:
        batch: the samples.
        multiple_of: height and width of the batch are rounded up to a multiple of this, as networks that halve the
            picture n times need it (2**n).
        image_fill: value of the margin in images.
        mask_fill: value of the margin in masks.
        return_valid: also give a bool tensor [B, H, W], True on pictures and False on margins: under the key "valid" of
            a dict, as last item of a tuple or list, else as (batch, valid).

    Returns:
        The structure of one sample, with tensors [B, ..., H, W].

    Raises:
        ValueError: something else than height and width differs.

    Example:
        >>> import torch
        >>> images = [torch.ones(1, 2, 2), torch.ones(1, 1, 3)]
        >>> padded, valid = pad_collate(images, return_valid=True)
        >>> padded[1].tolist()
        [[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]]
        >>> valid[0].tolist()
        [[True, True, False], [True, True, False]]
    """
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise ValueError(f"pad_collate: `multiple_of` must be an int of at least 1, got {multiple_of!r}.")
    samples = Batch("pad_collate", batch)
    named, sizes = pictures(samples)
    height, width = (-(-max(lengths) // multiple_of) * multiple_of for lengths in zip(*sizes, strict=True))

    def pad(name: str, tensors: list[Tensor]) -> Tensor:
        if name not in named:
            return _stack(samples, name, tensors)
        if len({tensor.shape[:-2] for tensor in tensors}) > 1:
            raise ValueError(
                f"pad_collate: {name!r} must differ in height and width only, got {samples.shapes(tensors)}. "
                "Use list_collate, or bring them to the same channels in the data set."
            )
        fill = mask_fill if is_mask(name, tensors[0]) else image_fill
        check_fill("pad_collate", name, tensors[0], fill)
        return padded(tensors, (height, width), fill)

    combined = samples.combine(pad)
    if not return_valid:
        return combined
    return _with_valid(combined, valid_mask(sizes, (height, width), next(iter(named.values()))[0]))


def crop_stack_collate(batch: Sequence[Any]) -> Any:
    """Samples that are stacks of crops (`FiveCrop`, `TenCrop`, `GridCrop`), all crops as one batch for the network.

    Images [K, C, h, w] become [B*K, C, h, w] and masks [K, h, w] become [B*K, h, w]: what `stack_crops` makes of a
    stacked batch, in one copy. What is no stack of crops (an index, a path) is there once a sample, as ever.
    `unstack_crops(x, k)` and `merge_crops` lead back.

    Args:
        batch: the samples, all with the same K.

    Raises:
        ValueError: the samples hold no stack of crops, or not all as many crops of one size.

    Example:
        >>> import torch
        >>> sample = {"image": torch.zeros(5, 3, 8, 8), "mask": torch.zeros(5, 8, 8, dtype=torch.uint8), "index": 0}
        >>> batch = crop_stack_collate([sample, sample])
        >>> batch["image"].shape, batch["mask"].shape, batch["index"].shape
        (torch.Size([10, 3, 8, 8]), torch.Size([10, 8, 8]), torch.Size([2]))
    """
    samples = Batch("crop_stack_collate", batch)
    named, _ = pictures(samples, axes=4)

    def join(name: str, tensors: list[Tensor]) -> Tensor:
        if name not in named:
            return _stack(samples, name, tensors)
        if len({tensor.shape for tensor in tensors}) > 1:
            raise ValueError(
                f"crop_stack_collate: {name!r} must have as many crops of one size in every sample, got "
                f"{samples.shapes(tensors)}. Use list_collate, or batch_size=1."
            )
        return joined(tensors)

    return samples.combine(join)


def _stack(samples: Batch, name: str, tensors: list[Tensor]) -> Tensor:
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) > 1:
        only_size = len({shape[:-2] for shape in shapes}) == 1 and min(map(len, shapes)) >= 2
        others = [each for each in ("pad_collate", "resize_collate") if only_size and each != samples.function]
        fix = f"Use {', '.join([*others, 'list_collate'][:-1])} or list_collate." if others else "Use list_collate."
        raise ValueError(
            f"{samples.function}: {name or 'a sample'!r} must have one shape in all samples, got "
            f"{samples.shapes(tensors)}. {fix}"
        )
    return stacked(tensors)


def _with_valid(combined: Any, valid: Tensor) -> Any:
    if isinstance(combined, dict):
        if "valid" in combined:
            raise ValueError(
                "pad_collate: a sample must leave the key 'valid' free for return_valid, got one. Rename it."
            )
        return {**combined, "valid": valid}
    if type(combined) in (tuple, list):
        return type(combined)([*combined, valid])
    return combined, valid
