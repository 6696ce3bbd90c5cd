"""Online hard example mining: the loss of the hardest pixels, and of no other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Flat, Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._engine import route as _core
from segkit.losses._engine.operator import in_plain_sight, pixel_sums, with_gradient
from segkit.losses._engine.reduce import nonzero, sum_over_ranks, weighted_mean
from segkit.losses._engine.streamed.blocks import readable
from segkit.losses._engine.streamed.labels import all_count, not_ignored
from segkit.losses._engine.wanted import Inputs, Spec
from segkit.mining import hard_mask


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    keep_ratio: float | None = None,
    min_kept: int | None = None,
    threshold: float | None = None,
    scope: str = "batch",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Cross-entropy of the hardest pixels only; the others have no loss and no gradient.

    Args:
        logits: as for `cross_entropy`.
        target: as for `cross_entropy`.
        mode: ``"multiclass"`` or ``"binary"``.
        ignore_index: label of pixels that count nowhere, not in the quota either.
        class_weights: as for `cross_entropy`; the pixels are chosen by their weighted loss.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        upsample: as for `cross_entropy`.
        keep_ratio: share in (0, 1] of the pixels that count to keep; 0.25 if nothing else is given.
        min_kept: keep at least as many pixels.
        threshold: keep the pixels whose *loss* is above it (0.7 as a probability is -log 0.7 = 0.357).
        scope: choose in the whole ``"batch"``, or in each ``"image"``.
        reduction: ``"mean"`` over the pixels kept (weighted), ``"sum"``, or ``"none"``: the map, 0 where not kept.
        process_group: ranks that share the mean. Each chooses among its own pixels.

    Returns:
        A scalar or a map, as for `cross_entropy`.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> logits = torch.tensor([[[0.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]]])
        >>> ohem_cross_entropy(logits, torch.tensor([[1, 0, 0, 0]]), keep_ratio=0.25)  # the one hard pixel: log 2
        tensor(0.6931)

    Source: Shrivastava et al. 2016, on pixels. The selection is `mining.hard_mask`, without a sort.
    """
    function = "ohem_cross_entropy"
    choice(function, "mode", mode, ("multiclass", "binary"))
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    return hardest(function, flat, ignore_index, keep_ratio, min_kept, threshold, scope, reduction, process_group)[0]


def hardest(
    function: str,
    flat: Flat,
    ignore_index: int,
    keep_ratio: float | None,
    min_kept: int | None,
    threshold: float | None,
    scope: str,
    reduction: Reduction,
    process_group: Any,
) -> tuple[Tensor, Tensor]:
    """The loss of the hardest pixels, and how many these are (a tensor, so that nothing waits for it)."""
    choice(function, "reduction", reduction, ("mean", "sum", "none"))
    if keep_ratio is None and min_kept is None and threshold is None:
        keep_ratio = 0.25
    inputs = flat.inputs
    spec = Spec(function, flat.sigmoid, ignore_index, terms="map")
    pixel_weights, class_weights = inputs.pixel_weights, inputs.class_weights
    labels = None if inputs.target.is_floating_point() else inputs.target.flatten(1)
    seen = in_plain_sight(inputs.logits) and (labels is None or in_plain_sight(labels)) and readable(inputs.logits)
    plain = labels is None or (seen and all_count(inputs, spec, inputs.logits.shape[1]))
    valid = None if plain or labels is None else not_ignored(labels, ignore_index)
    if pixel_weights is not None:
        there = pixel_weights != 0
        valid = there if valid is None else valid & there

    def select(losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The losses [B, 1, N], 0 where they are left out, in place; where that is, and how many are kept."""
        kept = hard_mask(
            losses.detach().flatten(1),
            keep_ratio=keep_ratio,
            min_kept=min_kept,
            threshold=threshold,
            scope=scope,
            valid=valid,
        )
        number = count(kept)
        left_out = kept.logical_not_()
        # In place, and not of a view, whose gradient would be copied.
        return losses.masked_fill_(left_out[:, None], 0).flatten(1), left_out, number

    def divisor(left_out: Tensor, number: Tensor, dtype: torch.dtype) -> Tensor:
        """What a mean divides by: numbers that add up to it."""
        if pixel_weights is None and (class_weights is None or labels is None):
            return number.to(dtype)
        weight = ~left_out if pixel_weights is None else pixel_weights.masked_fill(left_out, 0)
        if class_weights is not None and labels is not None:
            table = class_weights if class_weights.ndim == 1 else class_weights[:, 0]
            weight = weight * table[labels.long().masked_fill(left_out, 0)]
        return weight.to(dtype)

    numbers: list[Tensor] = []

    def make(inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The loss and its gradient: the map of losses becomes that by the terms."""
        keep = _core.can_keep(inputs, spec, flat.size)
        sums, buffer = _core.forward(inputs, spec, flat.size, keep)
        losses, left_out, number = select(sums.terms)
        numbers.append(number)
        below = nonzero(divisor(left_out, number, losses.dtype).sum()) if reduction == "mean" else losses.new_ones(())
        loss, none = losses.sum() / below, sums.weight
        slope = losses.fill_(1).div_(below).masked_fill_(left_out, 0)[:, None]
        del left_out  # a byte a pixel
        return loss, _core.backward(inputs, spec, flat.size, none, slope, none, none, buffer if keep else None)

    at_once = seen and inputs.logits.requires_grad and torch.is_grad_enabled() and process_group is None
    if at_once and reduction != "none" and not torch._C._are_functorch_transforms_active():
        return with_gradient(flat.source, inputs, make), numbers[0]
    losses, left_out, number = select(pixel_sums(inputs, spec, flat.size).terms)
    if reduction == "none":
        return losses.view(flat.shape), number
    if reduction == "sum":
        return sum_over_ranks([losses.sum()], process_group)[0], number
    return weighted_mean(losses, divisor(left_out, number, losses.dtype), process_group), number


def count(kept: Tensor) -> Tensor:
    """How many are kept; where it costs no wait without the copy that a sum of bools makes, of 8 bytes each."""
    return torch.count_nonzero(kept) if readable(kept) and in_plain_sight(kept) else kept.sum()
