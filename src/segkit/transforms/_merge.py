"""From crops to a batch for the network, and from its logits back to one map of the whole picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.transforms._crops import CropBox
from segkit.transforms._inputs import as_size
from segkit.transforms._resampling.geometry import Size


def stack_crops(x: Tensor) -> Tensor:
    """All crops of a batch as one batch: images [B, K, C, h, w] -> [B*K, C, h, w], masks [B, K, h, w] -> [B*K, h, w].

    The crops of one image stay together: row b * K + k. No copy where the memory allows it.

    Args:
        x: images with five axes of any dtype, or masks with four axes and an integer dtype.

    Raises:
        ValueError: the K axis is missing.

    Example:
        >>> stack_crops(torch.zeros(2, 5, 3, 8, 8)).shape
        torch.Size([10, 3, 8, 8])
        >>> stack_crops(torch.zeros(2, 5, 8, 8, dtype=torch.uint8)).shape
        torch.Size([10, 8, 8])
    """
    images = x.ndim == 5
    masks = x.ndim == 4 and not x.is_floating_point()
    if not (images or masks):
        raise ValueError(
            "stack_crops: `x` must be images [B, K, C, h, w] or integer masks [B, K, h, w], got "
            f"{x.dtype} {list(x.shape)}. Make the K axis with FiveCrop, TenCrop or GridCrop in the data set, "
            "or with x.unsqueeze(1) for one crop an image."
        )
    return x.flatten(0, 1)


def unstack_crops(x: Tensor, k: int) -> Tensor:
    """The inverse of `stack_crops`: [B*K, ...] -> [B, K, ...].

    Args:
        x: anything whose first axis counts crops: images, masks, logits, losses.
        k: crops of one image.

    Raises:
        ValueError: the first axis is no multiple of k.

    Example:
        >>> unstack_crops(torch.zeros(10, 4, 8, 8), 5).shape
        torch.Size([2, 5, 4, 8, 8])
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"unstack_crops: `k` must be an int of at least 1, got {k!r}.")
    if x.ndim == 0 or x.shape[0] % k:
        raise ValueError(
            f"unstack_crops: `x` must have a first axis that is a multiple of k={k}, got {list(x.shape)}. "
            "Pass what the network returned for all crops of the batch."
        )
    return x.reshape(-1, k, *x.shape[1:]) if len(x) else x.new_empty((0, k, *x.shape[1:]))


def merge_crops(logits: Tensor, geometry: Sequence[CropBox], size: int | Size, *, blend: str = "gaussian") -> Tensor:
    """One map for the whole picture from the maps of its crops, averaged where they overlap.

    The average is a running one, so that equal values stay exactly what they are; the only memory needed beside the
    result is that of one crop.

    Args:
        logits: [B*K, C, h, w] or [B, K, C, h, w], floating point: one map a crop, at the crop's own size.
        geometry: the K boxes, from the transform that made the crops: `FiveCrop(size).geometry((H, W))`.
        size: (H, W) of the whole picture.
        blend: "gaussian" trusts the centre of a crop more than its edge (standard deviation: an eighth of the side),
            "mean" trusts all alike.

    Returns:
        [B, C, H, W] in the dtype of `logits`; float16 and bfloat16 are averaged in, and returned as, float32.

    Raises:
        ValueError: shapes do not fit the boxes, or the boxes leave a part of the picture uncovered.

    Example:
        >>> from segkit.transforms import FiveCrop
        >>> crop = FiveCrop(48)
        >>> image = torch.rand(2, 3, 64, 80)
        >>> crops = stack_crops(crop(image))  # [10, 3, 48, 48]: what the network sees
        >>> torch.equal(merge_crops(crops, crop.geometry((64, 80)), (64, 80)), image)
        True

    Source: Isensee et al. 2021 (nnU-Net) for the Gaussian; theirs sums and divides at the end.
    """
    height, width = as_size("merge_crops", size)
    boxes = [CropBox(*box) for box in geometry]
    logits = _check_logits(logits, boxes)
    if blend not in ("gaussian", "mean"):
        raise ValueError(f'merge_crops: `blend` must be "gaussian" or "mean", got {blend!r}.')
    dtype = torch.float32 if logits.dtype in (torch.float16, torch.bfloat16) else logits.dtype
    merged = logits.new_zeros((logits.shape[0], logits.shape[2], height, width), dtype=dtype)
    weight = torch.zeros((height, width), dtype=dtype, device=logits.device)
    for k, box in enumerate(boxes):
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        held = weight[rows, columns]
        if held.shape != (box.height, box.width) or box.top < 0 or box.left < 0:
            raise ValueError(
                f"merge_crops: `geometry` at {k} must lie inside `size` {(height, width)}, got {box}. "
                "Ask the crop transform for the geometry of this very size."
            )
        added = _window(box.height, box.width, blend, held)
        held += added
        share = added / held  # of this crop in the average so far; exactly 1 where it is the first
        for image in range(len(logits)):
            crop = logits[image, k].flip(-1) if box.mirrored else logits[image, k]
            _average_in(merged[image, :, rows, columns], crop.to(dtype), share)
    uncovered = int((weight == 0).sum())
    if uncovered:
        raise ValueError(
            f"merge_crops: `geometry` must cover the picture of {height} x {width}, got {len(boxes)} crops that leave "
            f"{uncovered} pixels out. Use larger crops, or GridCrop, which covers every size."
        )
    return merged


def _average_in(held: Tensor, crop: Tensor, share: Tensor) -> None:
    """Take a share of the crop into the average; exactly the crop where it comes first or is equal, even infinite."""
    mixed = torch.lerp(held, crop, share)
    held.copy_(torch.where((share == 1) | (held == crop), crop, mixed))


def _window(height: int, width: int, blend: str, like: Tensor) -> Tensor:
    """The weight of each pixel of a crop, positive everywhere."""
    if blend == "mean":
        return torch.ones_like(like)
    sides = []
    for length in (height, width):
        place = torch.arange(length, dtype=torch.float64, device=like.device) - (length - 1) / 2
        # The floor keeps corners away from zero, where a quotient of two weights would lose its digits.
        sides.append(torch.exp(-0.5 * (place / (length / 8)) ** 2).clamp_(min=1e-3))
    return torch.outer(*sides).to(like.dtype)


def _check_logits(logits: Tensor, boxes: list[CropBox]) -> Tensor:
    """[B, K, C, h, w]."""
    k = len(boxes)
    if k == 0:
        raise ValueError("merge_crops: `geometry` must hold at least one box, got none.")
    if not logits.is_floating_point():
        raise TypeError(
            f"merge_crops: `logits` must be floating point, got {logits.dtype}. "
            "Merge logits, and take .argmax(1) after."
        )
    shape = list(logits.shape)
    if logits.ndim == 4 and shape[0] % k == 0:
        logits = unstack_crops(logits, k)
    if logits.ndim != 5 or logits.shape[1] != k:
        raise ValueError(
            f"merge_crops: `logits` must have the shape [B*{k}, C, h, w] or [B, {k}, C, h, w] for {k} boxes, "
            f"got {shape}. Pass all crops of each image, in order."
        )
    for place, box in enumerate(boxes):
        if (box.height, box.width) != tuple(logits.shape[-2:]):
            raise ValueError(
                f"merge_crops: `logits` must be as large as their crops ({box.height}, {box.width}) (box {place}), got "
                f"{list(logits.shape[-2:])}. Upsample the network's output to its input's size first."
            )
    return logits
