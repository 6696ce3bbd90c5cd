"""Dice of each object by itself, so that a small one counts as much as a large one, with cross-entropy in one pass."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Ignored, Upsample, Weights, at_least_0, choice, flatten, plain
from segkit.losses._engine.objects import Goal, objects_at_once, overlap
from segkit.losses._engine.operator import with_gradient
from segkit.losses._engine.reduce import nonzero, resolved, sum_over_ranks
from segkit.losses._engine.route import all_count, plainly_here
from segkit.losses._engine.streamed.blocks import sum_dtype, wide_dtype
from segkit.losses._engine.streamed.by_class import add_by_class
from segkit.losses._engine.streamed.labels import not_ignored
from segkit.losses._engine.tracing import in_plain_sight, may_be_looked_at, transformed
from segkit.losses._engine.two_classes import two_classes
from segkit.losses._engine.walk import warn_of_probabilities
from segkit.losses._engine.wanted import Flat, Inputs, Spec
from segkit.losses._module import Loss, changeable

__all__ = ["ComponentDiceCELoss", "component_dice_ce"]

MOST = 2**15  # numbers of an image, of which 0 stands for none
AT_A_TIME = 2**16  # pixels that stay in the cache


def component_dice_ce(
    logits: Tensor,
    target: Tensor,
    regions: Tensor,
    *,
    mode: Literal["multiclass", "binary"] = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    smooth: float = 0.0,
    eps: float = 1e-7,
    reduction: Literal["mean", "sum"] = "mean",
    process_group: Any = None,
) -> Tensor:
    """Dice of each object in the region that is nearest to it, averaged over objects, plus `cross_entropy`.

    Args:
        target: class indices [B, *spatial], or 0 and 1 in mode ``"binary"``; soft targets are refused.
        regions: [B, *spatial], which object is nearest to each pixel: from `transforms.ComponentRegions`.
        mode: ``"multiclass"`` or ``"binary"``.
        class_weights: of the cross-entropy.
        dice_weight: factor of the mean of Dice over the objects of an image, and over the images that have any.
        ce_weight: factor of the cross-entropy.
        smooth: pixels added above and below the fraction of each object.
        eps: smallest value below the fraction.
        reduction: ``"mean"``, or ``"sum"`` of images and of pixels.

    All else is as for `cross_entropy`.

    Returns:
        A scalar, float32 or wider.

    Example:
        >>> target = torch.tensor([[1, 1, 1, 0, 0, 1]])  # a large object and a small one
        >>> regions = torch.tensor([[1, 1, 1, 1, 2, 2]]) * 65536 + 1
        >>> logits = torch.tensor([[[-9.0, -9.0, -9.0, 9.0, 9.0, 9.0]]])  # the small one is not found
        >>> logits = torch.cat([logits, -logits], 1)
        >>> component_dice_ce(logits, target, regions, ce_weight=0.0).round(decimals=3)
        tensor(0.5000)

    Source: CC-DiceCE (Bouteille et al. 2025). How we differ: their code takes the mean of cross-entropy in each region,
    too, and averages it over regions, so that a pixel of a small region counts more; here it is that of the whole
    batch, and each pixel counts alike. An image without objects has Dice loss 1 there, and none here. Theirs is for
    two classes; here each object is asked for its own class.
    """
    function = "component_dice_ce"
    choice(function, "mode", mode, ("multiclass", "binary"))
    choice(function, "reduction", reduction, ("mean", "sum"))
    at_least_0(function, dice_weight=dice_weight, ce_weight=ce_weight, smooth=smooth, eps=eps)
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    if flat.inputs.target.is_floating_point():
        raise TypeError(
            f"{function}: `target` must hold class indices, got {flat.inputs.target.dtype}. Soft targets have no "
            "objects."
        )
    inputs = _as_softmax(flat)
    spec = Spec(function, False, flat.ignore_index)
    warn_of_probabilities(flat.inputs.logits, Spec(function, mode == "binary", flat.ignore_index))
    regions = _numbers(flat, plain(function, "regions", regions), inputs.logits.shape[1])
    group, x = resolved(process_group), inputs.logits
    if group is None and not flat.size and x.dtype == wide_dtype(x) and plainly_here(x) and not transformed():
        goal = Goal(dice_weight, ce_weight, smooth, eps, reduction == "mean", _most(regions))
        if x.requires_grad and torch.is_grad_enabled():
            return with_gradient(x, inputs, lambda inputs: objects_at_once(inputs, spec, regions, goal, True))
        return objects_at_once(inputs._replace(logits=x.detach()), spec, regions, goal, False)[0]
    other = (regions & 65535).clamp_max(x.shape[1] - 1)
    own, at_other = two_classes(inputs, other, spec, flat.size)
    weight = None
    if not (may_be_looked_at(inputs.target) and all_count(inputs, spec, x.shape[1])):
        weight = not_ignored(inputs.target, flat.ignore_index).to(own.dtype)
        if inputs.pixel_weights is not None:
            weight = weight * inputs.pixel_weights
    overlap, images = _overlap(at_other, regions, inputs.target == other, weight, smooth, eps)
    counted = weight
    if inputs.class_weights is not None:
        known = inputs.target.long() if weight is None else torch.where(weight != 0, inputs.target, 0).long()
        counted = inputs.class_weights[known] if weight is None else weight * inputs.class_weights[known]
    terms, divisor = (own, own.new_full((), own.numel())) if counted is None else (own * counted, counted.sum())
    sums = sum_over_ranks([overlap.sum(), terms.sum(), images.sum(), divisor], group)
    of_objects, of_pixels = sums[:2] if reduction == "sum" else (sums[0] / nonzero(sums[2]), sums[1] / nonzero(sums[3]))
    return dice_weight * of_objects + ce_weight * of_pixels


def _as_softmax(flat: Flat) -> Inputs:
    """The problem as one choice among classes: a yes or no is a softmax over 0 and the logit."""
    logits, target, weights, table, _ = flat.inputs
    if flat.mode == "binary":
        logits, target = torch.cat([torch.zeros_like(logits), logits], 1), target[:, 0]
        table = None if table is None else table[:, 0]
    return Inputs(logits, target, weights, table)


def _numbers(flat: Flat, regions: Tensor, classes: int) -> Tensor:
    """The number of the nearest object of each pixel, and in the lower half its class, int32 [B, N]."""
    if regions.dtype not in (torch.int32, torch.int64) or regions.numel() != flat.inputs.target.numel():
        raise ValueError(
            f"{flat.function}: `regions` must be int32 {list(flat.shape)}, from transforms.ComponentRegions, got "
            f"{regions.dtype} {list(regions.shape)}."
        )
    regions = regions.reshape(flat.inputs.target.shape[0], flat.inputs.target.shape[-1]).int()
    if not may_be_looked_at(regions):
        return regions
    highest = max(
        (int((some & 65535).max()) for some in torch.split(regions.reshape(-1), AT_A_TIME) if len(some)), default=0
    )
    if highest >= classes:
        raise ValueError(
            f"{flat.function}: `regions` must be of classes in [0, {classes}), got {highest}. They come from "
            "transforms.ComponentRegions(ignore_index=...), from the mask that is the target."
        )
    return regions


def _most(regions: Tensor) -> int:
    """How many numbers of objects an image may have, with that of none."""
    if not may_be_looked_at(regions):
        return MOST
    return (int(regions.max()) >> 16) + 1 if regions.numel() else 1


def _overlap(
    p: Tensor, regions: Tensor, hit: Tensor, weight: Tensor | None, smooth: float, eps: float
) -> tuple[Tensor, Tensor]:
    """The mean of one minus Dice over the objects of each image, [B], 0 without any; and which images have some."""
    batch, most = len(p), _most(regions)
    # One sum for what lies in the object, one for what is beside it in its region.
    first = torch.arange(0, 2 * most * batch, 2 * most, device=p.device, dtype=torch.int32)[:, None]
    place = torch.add(first, regions >> 16, alpha=2).add_(hit).reshape(-1)
    shape = (batch, most, 2)
    sums = _sums_at(place, p if weight is None else p * weight, math.prod(shape)).view(shape)
    pixels = _sums_at(place, torch.ones_like(p) if weight is None else weight, math.prod(shape)).view(shape)
    each, objects = overlap(sums, pixels[:, :, 1], smooth, eps)
    return (each.sum(1) / nonzero(objects)).to(p.dtype), (objects > 0).to(p.dtype)


def _sums_at(place: Tensor, values: Tensor, number: int) -> Tensor:
    """The sums [number] of the values by their place, float64 where there is one: one is added after another."""
    if in_plain_sight(values) and not transformed():
        found: Tensor = _SumsAt.apply(values, place, number)  # type: ignore[no-untyped-call]
        return found
    zeros = torch.zeros(number, dtype=sum_dtype(values.device), device=values.device)
    return zeros.index_add(0, place, values.reshape(-1).to(zeros.dtype))


class _SumsAt(torch.autograd.Function):
    """The same without a float64 copy of all values, forward and backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, place: Tensor, number: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.shape, ctx.dtype = values.shape, values.dtype
        return add_by_class(place, values, (number, 1)).view(number)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (place,) = ctx.saved_tensors
        return grads[0].to(ctx.dtype).index_select(0, place).view(ctx.shape), None, None


class ComponentDiceCELoss(Loss):
    """`functional.component_dice_ce` as a module; see there for the options. Both weights may be changed between calls.

    Example:
        >>> target, regions = torch.tensor([[1, 0, 0]]), torch.tensor([[65537, 65537, 65537]])
        >>> ComponentDiceCELoss(ce_weight=0.0)(torch.zeros(1, 2, 3), target, regions)  # 1 - 1 / (3/2 + 1)
        tensor(0.6000)
    """

    _function = staticmethod(component_dice_ce)
    _shares = False
    dice_weight, ce_weight = changeable("dice_weight"), changeable("ce_weight")

    def __init__(
        self,
        *,
        mode: Literal["multiclass", "binary"] = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        smooth: float = 0.0,
        eps: float = 1e-7,
        reduction: Literal["mean", "sum"] = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())

    def _one_pixel(self, logits: Tensor, target: Tensor) -> None:
        """The call of `_try_out`, without objects."""
        options = {**self._options, "process_group": None, "class_weights": self.class_weights}
        component_dice_ce(logits, target, target.reshape(1, -1).int(), **options)

    def forward(  # type: ignore[override]
        self,
        logits: Tensor,
        target: Tensor,
        regions: Tensor,
        *,
        pixel_weights: Tensor | None = None,
        upsample: Upsample | None = None,
    ) -> Tensor:
        """Loss of ``logits`` against ``target`` and its ``regions``; the rest is for this call."""
        options = {**self._options, "process_group": self._group(), "class_weights": self.class_weights}
        options |= {} if upsample is None else {"upsample": upsample}
        return component_dice_ce(logits, target, regions, pixel_weights=pixel_weights, **options)
