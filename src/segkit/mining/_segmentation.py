"""How hard each image is, from the outputs that training has anyway."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.mining._components import object_sizes

Ignored = int | tuple[int, ...] | None


def per_sample_loss(loss_map: Tensor, target: Tensor, *, ignore_index: Ignored = 255) -> Tensor:
    """The mean loss of each sample over its pixels that count: what `DifficultyLedger.update` takes.

    Args:
        loss_map: one loss per pixel, `[B, *spatial]`, any floating dtype: a loss with `reduction="none"`.
        target: class indices, `[B, *spatial]` or `[B, 1, *spatial]`, any integer dtype.
        ignore_index: label of the pixels that count nowhere, a tuple of such labels, or None. One that the dtype of
            `target` cannot hold, such as -1 in uint8, is nowhere.

    Returns:
        `[B]`, float32 or wider, without a gradient. NaN for a sample with no pixel that counts: there is no loss to
        tell, and a ledger keeps it out.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> loss_map = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
        >>> per_sample_loss(loss_map, torch.tensor([[0, 1], [2, 255]]))
        tensor([2., 5.])
    """
    if target.ndim == loss_map.ndim + 1 and target.shape[1] == 1:
        target = target[:, 0]
    if loss_map.shape != target.shape or loss_map.ndim < 2:
        raise ValueError(
            f"per_sample_loss: `target` must have the shape of `loss_map`, [B, *spatial], got {tuple(target.shape)} "
            f"for {tuple(loss_map.shape)}. Compute the loss with reduction='none'."
        )
    counted = counts(target, ignore_index).flatten(1)
    values = _wide(loss_map.detach()).flatten(1)
    return values.where(counted, 0).sum(1) / counted.sum(1)


class SegmentationDifficulty(NamedTuple):
    """How hard each sample is, class by class: four float tensors `[B, C]`, NaN where there is no such pixel.

    Example:
        >>> logits = torch.tensor([[[2.0, 2.0, -2.0], [-2.0, -2.0, 2.0]]])  # classes 0, 0, 1 predicted
        >>> found = segmentation_difficulty(logits, torch.tensor([[0, 1, 1]]))
        >>> found.boundary_error
        tensor([[0.0000, 0.5000]])
    """

    loss: Tensor
    """Mean cross-entropy over the pixels of the class."""
    hard_share: Tensor
    """Share of the class's pixels that are hard: the true class has a probability below `hard_below`."""
    boundary_error: Tensor
    """Share of wrong predictions among the class's pixels near another class."""
    small_object_error: Tensor
    """Share of wrong predictions among the pixels of the class's small objects."""


def segmentation_difficulty(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: Ignored = 255,
    hard_below: float = 0.5,
    band: int = 3,
    small: int = 32**2,
) -> SegmentationDifficulty:
    """Why each sample is hard, class by class: its loss, its hard pixels, its borders, its small objects.

    Args:
        logits: raw scores, any floating dtype, `[B, C, *spatial]` with one to three spatial axes. Softmax is taken
            here.
        target: class indices, any integer dtype, `[B, *spatial]`, each in [0, C) or `ignore_index`.
        ignore_index: label of the pixels that count nowhere, a tuple of such labels, or None; they make no boundary
            and belong to no object.
        hard_below: a pixel is hard if its true class has less than this probability, (0, 1].
        band: a pixel is at the boundary if another class is at most this many pixels away (along each axis).
        small: an object is small up to this many pixels. Objects hang together through sides.

    Returns:
        `SegmentationDifficulty`: `[B, C]` each, float32 or wider, without a gradient.

    Raises:
        ValueError: the shapes do not belong together, or an option is out of its range.

    Example:
        A small object is missed, a large one found:

        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[0, 1, 1] = 1
        >>> logits = torch.tensor([3.0, 0.0])[None, :, None, None].expand(1, 2, 8, 8)  # says 0 everywhere
        >>> segmentation_difficulty(logits, target, small=4).small_object_error
        tensor([[nan, 1.]])
    """
    spatial = target.ndim - 1
    if logits.ndim != target.ndim + 1 or logits.shape[:1] + logits.shape[2:] != target.shape or not 1 <= spatial <= 3:
        raise ValueError(
            "segmentation_difficulty: `target` must have the shape of `logits` without its class axis, with one to "
            f"three spatial axes, got {tuple(target.shape)} for {tuple(logits.shape)}."
        )
    if not 0 < hard_below <= 1:
        raise ValueError(f"segmentation_difficulty: `hard_below` must lie in (0, 1], got {hard_below}.")
    if band < 1 or small < 1:
        raise ValueError(f"segmentation_difficulty: `band` and `small` must be at least 1, got {band} and {small}.")
    logits, labels = logits.detach(), target.long()
    counted = counts(labels, ignore_index)
    safe = labels.where(counted, 0)
    loss = -_wide(logits).log_softmax(1).gather(1, safe[:, None])[:, 0]
    wrong = (logits.max(1).indices != labels).to(loss.dtype)  # five times as fast as argmax over this axis
    share = _PerClass(safe, logits.shape[1])
    return SegmentationDifficulty(
        loss=share.mean(loss, counted),
        hard_share=share.mean((loss > -math.log(hard_below)).to(loss.dtype), counted),
        boundary_error=share.mean(wrong, counted & near_another_class(labels, counted, logits.shape[1], band)),
        small_object_error=share.mean(wrong, counted & (object_sizes(labels, counted) <= small)),
    )


def counts(target: Tensor, ignore_index: Ignored) -> Tensor:
    """Which pixels are not ignored: bool, shape of `target`.

    Numbers are compared, not their last bits: torch takes -1, beside uint8, for 255.
    """
    if target.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch has few operators for these
        target = target.long()
    low, high = (0, 1) if target.dtype == torch.bool else (torch.iinfo(target.dtype).min, torch.iinfo(target.dtype).max)
    ids = () if ignore_index is None else ignore_index if isinstance(ignore_index, tuple) else (ignore_index,)
    counted = torch.ones_like(target, dtype=torch.bool)
    for label in ids:
        if low <= label <= high:
            counted &= target != label
    return counted


class _PerClass:
    """Means over the pixels of each class of each sample."""

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        self.shape = labels.shape[0], num_classes
        first = torch.arange(labels.shape[0], device=labels.device) * num_classes
        self.bins = (labels.flatten(1) + first[:, None]).flatten()

    def mean(self, values: Tensor, among: Tensor) -> Tensor:
        """`[B, C]`, NaN where no pixel is among them."""
        weight = among.flatten().to(values.dtype)
        sums = values.new_zeros(2, self.shape[0] * self.shape[1])
        sums[0].index_add_(0, self.bins, values.flatten().where(among.flatten(), 0))
        sums[1].index_add_(0, self.bins, weight)
        return (sums[0] / sums[1]).reshape(self.shape)


def near_another_class(labels: Tensor, counted: Tensor, num_classes: int, band: int) -> Tensor:
    """Whether a counted pixel of another class lies within `band` pixels along each axis: bool, shape of `labels`."""
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[labels.ndim - 2]
    window = [2 * band + 1] * (labels.ndim - 1)
    values = labels.float()[:, None]  # class numbers are exact in float32
    highest = pool(values.where(counted[:, None], -1.0), window, 1, band)[:, 0]
    lowest = -pool((-values).where(counted[:, None], -float(num_classes)), window, 1, band)[:, 0]
    return highest > lowest


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
