"""Dice of centre lines: soft skeletons of prediction and truth, each looked for in the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool1d, max_pool2d, max_pool3d

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Weights, flatten
from segkit.losses._engine.one_pass import Regionwise, reduce_region
from segkit.losses._engine.reduce import Absent, Entries, Scope, resolved
from segkit.losses._engine.streamed import soft
from segkit.losses._engine.streamed.blocks import Block, Logits
from segkit.losses._engine.walk import warn_of_probabilities
from segkit.losses._engine.wanted import Spec, Sums
from segkit.losses._module import Loss
from segkit.losses._region import checked

__all__ = ["CLDiceLoss", "cl_dice"]


def cl_dice(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    iterations: int = 3,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    smooth: float = 1.0,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """One minus the harmonic mean of how much of each skeleton lies in the other's region.

    Args:
        ignore_index: label of pixels that count nowhere; a skeleton ends there as it does at the image's edge.
        iterations: thinning steps: at least half the width of the widest structure, in pixels.
        classes: which classes count; usually all but the background.
        smooth: pixels added above and below each fraction.

    All else is as for `region_loss`.

    Example:
        >>> target = torch.zeros(1, 5, 5, dtype=torch.uint8)
        >>> target[:, 2] = 1
        >>> logits = torch.stack([1.0 - target, target.float()], 1) * 50
        >>> cl_dice(logits, target, classes=[1]).round(decimals=3)  # the line is found
        tensor(0.)

    Source: Shit et al. 2021 (clDice). This is the one loss that is not a sum over pixels: thinning needs the whole map
    of probabilities several times, so memory is about 4 + 4 x iterations times the logits. See `skeleton_recall`.
    """
    function = "cl_dice"
    if iterations < 1:
        raise ValueError(f"{function}: `iterations` must be at least 1, got {iterations}.")
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, None, labelled)
    if flat.size or not 1 <= len(flat.shape) - (2 if mode == "multilabel" else 1) <= 3:
        raise ValueError(
            f"{function}: `logits` must have 1 to 3 spatial axes, as fine as the target, got "
            f"{list(flat.source.shape)}. Interpolate coarse logits first: thinning needs the whole map."
        )
    warn_of_probabilities(flat.inputs.logits, Spec(function, mode != "multiclass", flat.ignore_index))
    x, spec = Logits(flat.inputs.logits), Spec(function, mode != "multiclass", flat.ignore_index)
    truth = soft.read_truth(flat.inputs, Block(slice(None), slice(None), True), spec, x)
    clean = soft.clean(flat.inputs.logits, truth, x.dtype)
    p = soft.probabilities(clean, spec).to(x.dtype)
    spatial = flat.shape[2:] if mode == "multilabel" else flat.shape[1:]

    def as_image(t: Tensor) -> Tensor:
        return t.expand(-1, p.shape[1], -1).reshape(*p.shape[:2], *spatial)

    valid = None if truth.valid is None else as_image(truth.valid)
    weight = p.new_ones((1, 1, 1)) if truth.weight is None else truth.weight
    of_p = soft_skeleton(as_image(p), valid, iterations).reshape(p.shape)
    of_truth = soft_skeleton(as_image(truth.share), valid, iterations).reshape(p.shape)

    def total(t: Tensor) -> Tensor:
        return (t * weight).sum(2, dtype=torch.promote_types(t.dtype, torch.float32))

    # Four sums an image and class, so that batch and ranks add up before the fractions are taken.
    found = torch.stack([total(of_p * truth.share), total(of_truth * p)], 2)  # [B, C, 2]
    length = torch.stack([total(of_p), total(of_truth)], 2)
    there = total(truth.share)
    pixels = weight.expand(p.shape[0], p.shape[1] if spec.sigmoid else 1, p.shape[2]).sum(2)
    entries = checked(flat, Entries(scope, classes, absent), reduction)

    def harmonic(s: Sums) -> Tensor:
        precision, sensitivity = ((s.intersection + smooth) / (s.prediction + smooth).clamp_min(1e-7)).unbind(2)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity).clamp_min(1e-7)

    sums, group = Sums(found, length, there, pixels), resolved(process_group)
    return reduce_region(Regionwise(harmonic, entries), sums, reduction, group)


class CLDiceLoss(Loss):
    """`functional.cl_dice` as a module; see there for the options.

    Example:
        >>> target = torch.zeros(1, 5, 5, dtype=torch.uint8)
        >>> target[:, 2] = 1
        >>> logits = torch.stack([1.0 - target, target.float()], 1) * 50
        >>> CLDiceLoss(classes=[1])(logits, target).round(decimals=3)
        tensor(0.)
    """

    _function = staticmethod(cl_dice)

    def call(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None, options: dict[str, Any]) -> Tensor:
        """The function, with the options of one call; coarse logits are interpolated first."""
        options = dict(options)
        if options.pop("upsample", None) and logits.shape[2:] != target.shape[2 - logits.ndim :]:
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[logits.ndim - 2]
            logits = interpolate(logits, list(target.shape[2 - logits.ndim :]), mode=mode, align_corners=False)
        return super().call(logits, target, pixel_weights, options)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        iterations: int = 3,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        smooth: float = 1.0,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def soft_skeleton(x: Tensor, valid: Tensor | None, iterations: int) -> Tensor:
    """What opening removes, at each of several erosions: [B, C, *spatial] in [0, 1], as x."""
    if x.numel() == 0:
        return x
    skeleton = torch.relu(x - _dilate(_erode(x, valid), valid))
    for _ in range(iterations):
        x = _erode(x, valid)
        rest = torch.relu(x - _dilate(_erode(x, valid), valid))
        skeleton = skeleton + torch.relu(rest - skeleton * rest)
    return skeleton


def _erode(x: Tensor, valid: Tensor | None) -> Tensor:
    """Smallest value among a pixel and its neighbours along each axis; ignored ones, as those outside, do not count."""
    high = x if valid is None else torch.where(valid, x, 1)
    axes = x.ndim - 2
    pool = (max_pool1d, max_pool2d, max_pool3d)[axes - 1]
    least = high
    for axis in range(axes):
        window = [3 if a == axis else 1 for a in range(axes)]
        least = torch.minimum(least, -pool(-high, window, stride=1, padding=[w // 2 for w in window]))
    return least if valid is None else torch.where(valid, least, 0)


def _dilate(x: Tensor, valid: Tensor | None) -> Tensor:
    """Largest value in the 3 x 3 (x 3) neighbourhood; x is 0 where ignored."""
    pool = (max_pool1d, max_pool2d, max_pool3d)[x.ndim - 3]
    most = pool(x, 3, stride=1, padding=1)
    return most if valid is None else torch.where(valid, most, 0)
