"""Samples of different sizes, padded to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.collate._batch import padded, valid_mask
from segkit.collate._pictures import Names, Pictures, check_fill
from segkit.collate._samples import Batch, as_lists
from segkit.collate._stack import stack_or_explain


def pad_collate(
    batch: Sequence[Any],
    *,
    multiple_of: int = 1,
    image_fill: float = 0,
    mask_fill: int = IGNORE_INDEX,
    return_valid: bool = False,
    masks: Names = (),
    images: Names = (),
    lists: Names = (),
) -> Any:
    """Samples of different sizes, padded below and to the right to the largest height and width among them.

    The image of a sample is its tensor named "image", or else its first of floats with three axes or more. Every
    tensor that has the image's height and width is padded with it: masks with `mask_fill`, others with `image_fill`.
    Which is a mask is decided by dtype and shape: integers are, but for a second image of the image's dtype and
    channels; floats of several channels are not. Floats of one channel beside an image may be either: a name that is
    plain decides (label, gt, weights, depth), any other is refused until `masks` or `images` says it. Tensors of any
    other size are stacked as they are.

    Args:
        batch: the samples.
        multiple_of: height and width of the batch are rounded up to a multiple of this, as networks that halve the
            image n times need it (2**n).
        image_fill: value of the margin in images.
        mask_fill: value of the margin in masks.
        return_valid: also give a bool tensor [B, H, W], True on images and False on margins: under the key "valid" of
            a dict, as last item of a tuple or list, else as (batch, valid).
        masks: names of tensors that are masks, whatever their dtype: ``("gt",)``; "a.b" inside a nested sample; of
            tuples, positions.
        images: names of tensors that are images or maps of numbers.
        lists: names of tensors that stay a list of B, since each sample has its own number of them: boxes ``[n, 4]``,
            instance masks ``[n, H, W]``. Those with the image's size are padded each.

    Returns:
        The structure of one sample, with tensors [B, ..., H, W].

    Raises:
        ValueError: something else than height and width differs, or a tensor may be a mask or an image.

    Example:
        >>> import torch
        >>> images = [torch.ones(1, 2, 2), torch.ones(1, 1, 3)]
        >>> padded, valid = pad_collate(images, return_valid=True)
        >>> padded[1].tolist()
        [[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]]
        >>> valid[0].tolist()
        [[True, True, False], [True, True, False]]
    """
    if isinstance(multiple_of, bool) or not hasattr(multiple_of, "__index__") or multiple_of < 1:
        raise ValueError(f"pad_collate: `multiple_of` must be an int of at least 1, got {multiple_of!r}.")
    samples = Batch("pad_collate", batch)
    pictures = Pictures(samples, masks=masks, images=images)
    named, sizes = pictures.named, pictures.sizes
    height, width = (-(-max(lengths) // multiple_of) * multiple_of for lengths in zip(*sizes, strict=True))

    def pad(name: str, tensors: list[Tensor]) -> Tensor:
        if name not in named:
            return stack_or_explain(samples, name, tensors)
        if len({tensor.shape[:-2] for tensor in tensors}) > 1:
            raise ValueError(
                f"pad_collate: {name!r} must differ in height and width only, got {samples.shapes(tensors)}. "
                "Use list_collate, or bring them to the same channels in the data set."
            )
        fill = mask_fill if pictures.is_mask(name) else image_fill
        check_fill("pad_collate", name, tensors[0], fill)
        return padded(tensors, (height, width), fill)

    combined = samples.combine(as_lists(samples, lists, pad, lambda n, t: pad(n, [t])[0] if n in named else t))
    if not return_valid:
        return combined
    return _with_valid(combined, valid_mask(sizes, (height, width), next(iter(named.values()))[0]))


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
