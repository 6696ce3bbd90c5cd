"""Losses that are a sum over pixels: cross-entropy, its binary form, focal, and the hardest pixels only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX

from ._check import Mode, Reduction, Weights, choice, flat_inputs
from ._op import pixel_sums
from ._reduce import sum_over_ranks, weighted_mean
from ._spec import Spec


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Minus the log probability of each pixel's class, averaged over the pixels that count: -log p_y.

    Args:
        logits: [B, C, *spatial] raw scores, floating point; 1 to 3 spatial axes. In mode ``"binary"`` [B, *spatial] or
            [B, 1, *spatial].
        target: class indices [B, *spatial] of any integer dtype, or whatever `labels.as_index_target` takes; for
            ``"binary"`` 0 and 1; for ``"multilabel"`` [B, C, *spatial] of 0 and 1. Floats of the logits' shape are soft
            targets, a share in [0, 1] for each class.
        mode: ``"multiclass"``: softmax over C. ``"binary"`` and ``"multilabel"``: a sigmoid for each channel.
        ignore_index: label of pixels that count nowhere. In soft targets pixels are left out by a pixel weight of 0.
        class_weights: C numbers, for ``"binary"`` the weights of label 0 and label 1. The mean divides by the weights.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        label_smoothing: share in [0, 1] of the label that is spread over all C classes (multiclass).
        reduction: ``"mean"`` divides by the sum of weights, ``"sum"`` does not, ``"none"`` gives the map of losses.
        process_group: ranks of `torch.distributed` that share the mean: the loss is that of the whole batch.

    Returns:
        A scalar, float32 (float64 for float64 logits); for ``"none"`` a map in the shape of the target's pixels, 0
        where ignored. 0 with zero gradients if no pixel counts.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.
        TypeError: a dtype that cannot be meant.

    Example:
        >>> logits = torch.tensor([[[0.0, 9.0], [0.0, 5.0]]])  # one image, 2 classes, 2 pixels
        >>> cross_entropy(logits, torch.tensor([[1, 255]]))  # log 2: the second pixel is ignored
        tensor(0.6931)

    Source: as `torch.nn.functional.cross_entropy`, but any integer labels, float32 sums, and 0 for an empty mean.
    """
    function = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{function}: `label_smoothing` must be in [0, 1], got {label_smoothing}.")
    if label_smoothing and mode != "multiclass":
        raise ValueError(
            f"{function}: `label_smoothing` must be 0 in mode {mode!r}, got {label_smoothing}. Pass a soft target."
        )
    return _pixel_loss(
        function, logits, target, mode, ignore_index, class_weights, pixel_weights, None, reduction, process_group,
        smoothing=label_smoothing,
    )  # fmt: skip


def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "binary",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    pos_weight: float | Weights | None = None,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Cross-entropy of yes-or-no channels, averaged over the elements that count: -log p or -log(1 - p).

    Args:
        logits: [B, *spatial] or [B, 1, *spatial]; for ``"multilabel"`` [B, C, *spatial]. Raw scores, sigmoid is here.
        target: 0 and 1 (and `ignore_index`), integers or bool, in the same shape; floats are soft targets in [0, 1].
        mode: ``"binary"`` or ``"multilabel"``.
        ignore_index: label of elements that count nowhere.
        class_weights: as for `cross_entropy`; the mean divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        pos_weight: one number, or C of them: weight of the ones; the mean does not divide by it.
        reduction: as for `cross_entropy`; ``"none"`` gives the target's shape (without a channel axis of length 1).
        process_group: as for `cross_entropy`.

    Returns:
        A scalar or a map, as for `cross_entropy`.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.
        TypeError: a dtype that cannot be meant.

    Example:
        >>> binary_cross_entropy(torch.tensor([[0.0, 3.0]]), torch.tensor([[1, 255]]))  # log 2
        tensor(0.6931)

    Source: as `torch.nn.functional.binary_cross_entropy_with_logits`, but integer targets and ignored elements.
    """
    function = "binary_cross_entropy"
    choice(function, "mode", mode, ("binary", "multilabel"))
    yes_or_no = None
    if pos_weight is not None:
        yes = torch.as_tensor(pos_weight, dtype=torch.float32).reshape(-1)
        yes_or_no = torch.stack([torch.ones_like(yes), yes])
    return _pixel_loss(
        function, logits, target, mode, ignore_index, class_weights, pixel_weights, yes_or_no, reduction, process_group
    )


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Cross-entropy that looks away from what is already right: (1 - p_y)**gamma * -log p_y.

    Args:
        logits: as for `cross_entropy`.
        target: as for `cross_entropy`.
        mode: as for `cross_entropy`.
        ignore_index: label of pixels that count nowhere.
        class_weights: as for `cross_entropy`; the mean divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        gamma: at least 0; 0 is cross-entropy.
        alpha: balance of classes that the mean does not divide by. ``"multiclass"``: C numbers. Sigmoid modes: one
            number in [0, 1], the weight of the ones; zeros get 1 - alpha.
        reduction: as for `cross_entropy`.
        process_group: as for `cross_entropy`.

    Returns:
        A scalar or a map, as for `cross_entropy`.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> logits = torch.tensor([[[0.0], [0.0]]])  # p_y = 1/2
        >>> focal(logits, torch.tensor([[1]]), gamma=2.0)  # log(2) / 4
        tensor(0.1733)

    Source: Lin et al. 2017; the mean is over pixels that count, not over positives.
    """
    function = "focal"
    if gamma < 0:
        raise ValueError(f"{function}: `gamma` must be at least 0, got {gamma}.")
    return _pixel_loss(
        function, logits, target, mode, ignore_index, class_weights, pixel_weights,
        focal_alpha(function, alpha, mode, logits), reduction, process_group, gamma=gamma,
    )  # fmt: skip


def focal_alpha(function: str, alpha: float | Sequence[float] | None, mode: Mode, logits: Tensor) -> Tensor | None:
    """Alpha as a table: [C] for softmax, [2, 1] (of a no, of a yes) for sigmoid."""
    if alpha is None:
        return None
    if mode == "multiclass":
        table = torch.as_tensor(alpha, dtype=torch.float32)
        if table.shape != logits.shape[1:2]:
            raise ValueError(
                f"{function}: `alpha` must hold one number for each of the {logits.shape[1]} classes in mode "
                f"'multiclass', got shape {list(table.shape)}. One number alone is for mode 'binary' or 'multilabel'."
            )
        return table
    if not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise ValueError(f"{function}: `alpha` must be one number in [0, 1] in mode {mode!r}, got {alpha!r}.")
    return torch.tensor([[1 - float(alpha)], [float(alpha)]])


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
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
    loss, _ = select_hard(
        "ohem_cross_entropy", logits, target, mode, ignore_index, class_weights, pixel_weights, keep_ratio, min_kept,
        threshold, scope, reduction, process_group,
    )  # fmt: skip
    return loss


def select_hard(
    function: str,
    logits: Tensor,
    target: Tensor,
    mode: Mode,
    ignore_index: int,
    class_weights: Weights | None,
    pixel_weights: Tensor | None,
    keep_ratio: float | None,
    min_kept: int | None,
    threshold: float | None,
    scope: str,
    reduction: Reduction,
    process_group: Any,
) -> tuple[Tensor, Tensor]:
    """The loss of the hardest pixels, and how many these are (a tensor, so that nothing waits for it)."""
    from segkit.mining import hard_mask

    choice(function, "mode", mode, ("multiclass", "binary"))
    choice(function, "reduction", reduction, ("mean", "sum", "none"))
    if keep_ratio is None and min_kept is None and threshold is None:
        keep_ratio = 0.25
    inputs, shape = flat_inputs(
        function, logits, target, mode=mode, ignore_index=ignore_index, class_weights=class_weights,
        pixel_weights=pixel_weights,
    )  # fmt: skip
    spec = Spec(function, mode != "multiclass", ignore_index, terms="map")
    losses = pixel_sums(inputs, spec).terms[:, 0]  # [B, N]
    if inputs.target.is_floating_point():
        valid = torch.ones_like(losses, dtype=torch.bool)
    else:
        valid = (inputs.target.long() != ignore_index).view(losses.shape)
    if inputs.pixel_weights is not None:
        valid = valid & (inputs.pixel_weights != 0)
    kept = hard_mask(
        losses.detach(), keep_ratio=keep_ratio, min_kept=min_kept, threshold=threshold, scope=scope, valid=valid
    )
    losses = torch.where(kept, losses, 0)
    if reduction == "none":
        return losses.view(shape), kept.sum()
    if reduction == "sum":
        return sum_over_ranks([losses.sum()], process_group)[0], kept.sum()
    weight = kept.to(losses.dtype)
    if inputs.pixel_weights is not None:
        weight = weight * inputs.pixel_weights
    if inputs.class_weights is not None and not inputs.target.is_floating_point():
        index = torch.where(valid, inputs.target.long().view(losses.shape), 0)
        table = inputs.class_weights if inputs.class_weights.ndim == 1 else inputs.class_weights[:, 0]
        weight = weight * table[index]
    return weighted_mean(losses, torch.where(kept, weight, 0), process_group), kept.sum()


def _pixel_loss(
    function: str,
    logits: Tensor,
    target: Tensor,
    mode: Mode,
    ignore_index: int,
    class_weights: Weights | None,
    pixel_weights: Tensor | None,
    alpha: Tensor | None,
    reduction: Reduction,
    process_group: Any,
    *,
    gamma: float = 0.0,
    smoothing: float = 0.0,
) -> Tensor:
    choice(function, "reduction", reduction, ("mean", "sum", "none"))
    inputs, shape = flat_inputs(
        function, logits, target, mode=mode, ignore_index=ignore_index, class_weights=class_weights,
        pixel_weights=pixel_weights, alpha=alpha,
    )  # fmt: skip
    terms = "map" if reduction == "none" else reduction if process_group is None else "sum"
    spec = Spec(function, mode != "multiclass", ignore_index, gamma=float(gamma), smoothing=smoothing, terms=terms)
    sums = pixel_sums(inputs, spec)
    if reduction == "none":
        return sums.terms.reshape(shape)
    if reduction == "sum" or process_group is None:
        return sum_over_ranks([sums.terms], process_group)[0]
    return weighted_mean(sums.terms, sums.weight, process_group)
