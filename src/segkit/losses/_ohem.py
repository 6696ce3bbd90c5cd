"""Online hard example mining: the loss of the hardest pixels, and of no other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.mining import hard_mask

from ._blocks import readable
from ._check import Flat, Mode, Reduction, Upsample, Weights, choice, flatten
from ._labels import all_count, not_ignored
from ._op import in_plain_sight, pixel_sums
from ._reduce import sum_over_ranks, weighted_mean
from ._spec import Spec


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
    losses = pixel_sums(inputs, spec, flat.size).terms  # [B, 1, N]
    labels = None if inputs.target.is_floating_point() else inputs.target.flatten(1)
    plain = labels is None or (
        in_plain_sight(labels) and readable(labels) and all_count(inputs, spec, inputs.logits.shape[1])
    )
    valid = None if plain or labels is None else not_ignored(labels, ignore_index)
    if inputs.pixel_weights is not None:
        there = inputs.pixel_weights != 0
        valid = there if valid is None else valid & there
    kept = hard_mask(
        losses.detach().flatten(1),
        keep_ratio=keep_ratio,
        min_kept=min_kept,
        threshold=threshold,
        scope=scope,
        valid=valid,
    )
    # In place, and not of a view, whose gradient would be copied.
    losses, number = losses.masked_fill_(~kept[:, None], 0).flatten(1), count(kept)
    if reduction == "none":
        return losses.view(flat.shape), number
    if reduction == "sum":
        return sum_over_ranks([losses.sum()], process_group)[0], number
    if inputs.pixel_weights is None and (inputs.class_weights is None or labels is None):
        return weighted_mean(losses, number.to(losses.dtype), process_group), number
    weight = kept if inputs.pixel_weights is None else inputs.pixel_weights.masked_fill(~kept, 0)
    if inputs.class_weights is not None and labels is not None:
        table = inputs.class_weights if inputs.class_weights.ndim == 1 else inputs.class_weights[:, 0]
        weight = weight * table[labels.long().masked_fill(~kept, 0)]
    return weighted_mean(losses, weight.to(losses.dtype), process_group), number


def count(kept: Tensor) -> Tensor:
    """How many are kept; where it costs no wait without the copy that a sum of bools makes, of 8 bytes each."""
    return torch.count_nonzero(kept) if readable(kept) and in_plain_sight(kept) else kept.sum()
