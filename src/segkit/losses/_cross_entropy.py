"""Losses that are a sum over pixels: cross-entropy, its binary form, and focal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Ignored, Mode, Reduction, Upsample, Weights, choice, flatten, table_of
from segkit.losses._engine.one_pass import Pixelwise, evaluate
from segkit.losses._engine.tracing import readable
from segkit.losses._engine.wanted import Flat
from segkit.losses._module import Loss

__all__ = ["BinaryCrossEntropyLoss", "CrossEntropyLoss", "FocalLoss"]
__all__ += ["binary_cross_entropy", "cross_entropy", "focal"]


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    label_smoothing: float = 0.0,
    pos_weight: float | Weights | None = None,
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
        ignore_index: label of pixels that count nowhere; several, or None for none. In soft targets pixels are left
            out by a pixel weight of 0.
        class_weights: C numbers, for ``"binary"`` the weights of label 0 and label 1. The mean divides by the weights.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored. For ``"multilabel"`` also [B, C, *spatial].
        labelled: [B, C], bool: which classes were looked for in each image. The others are ignored (sigmoid modes), or
            are one class with the background, class 0 (softmax; coarse logits are then interpolated all at once).
        upsample: ``"bilinear"`` if the logits [B, C, *coarse] are coarser than the target: they are interpolated block
            by block (align_corners=False, any number of axes), and never exist in full size.
        label_smoothing: share in [0, 1] of the label that is spread over all C classes. Sigmoid modes: share in
            [0, 1/2] that goes to the other answer.
        pos_weight: sigmoid modes: weight of the ones, one number or C; the mean does not divide by it.
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
    smoothing = check_smoothing(function, label_smoothing, mode)
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    table = pos_weights(flat, pos_weight)
    return pixel_loss(flat, reduction, process_group, smoothing=smoothing, alpha=table)


class CrossEntropyLoss(Loss):
    """`functional.cross_entropy` as a module; see there for the options.

    Example:
        >>> loss = CrossEntropyLoss(class_weights=[1.0, 2.0])
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
        tensor(0.6931)
    """

    _function = staticmethod(cross_entropy)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        label_smoothing: float = 0.0,
        pos_weight: float | Weights | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "binary",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    label_smoothing: float = 0.0,
    pos_weight: float | Weights | None = None,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Cross-entropy of yes-or-no channels, averaged over the elements that count: -log p or -log(1 - p).

    Args:
        logits: [B, *spatial] or [B, 1, *spatial]; for ``"multilabel"`` [B, C, *spatial]. Raw scores, sigmoid is here.
        target: 0 and 1 (and `ignore_index`), integers or bool, in the same shape; floats are soft targets in [0, 1].
        mode: ``"binary"`` or ``"multilabel"``.
        pos_weight: one number, or C of them: weight of the ones; the mean does not divide by it.

    All else is as for `cross_entropy`; ``"none"`` gives the target's shape without a channel axis of length 1.

    Example:
        >>> binary_cross_entropy(torch.tensor([[0.0, 3.0]]), torch.tensor([[1, 255]]))  # log 2
        tensor(0.6931)

    Source: as `torch.nn.functional.binary_cross_entropy_with_logits`, but integer targets and ignored elements.
    """
    function = "binary_cross_entropy"
    choice(function, "mode", mode, ("binary", "multilabel"))
    smoothing = check_smoothing(function, label_smoothing, mode)
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    table = pos_weights(flat, pos_weight)
    return pixel_loss(flat, reduction, process_group, smoothing=smoothing, alpha=table)


class BinaryCrossEntropyLoss(Loss):
    """`functional.binary_cross_entropy` as a module; see there for the options.

    Example:
        >>> BinaryCrossEntropyLoss(pos_weight=2.0)(torch.zeros(1, 4), torch.tensor([[1, 1, 0, 255]]))  # 5/3 log 2
        tensor(1.1552)
    """

    _function = staticmethod(binary_cross_entropy)

    def __init__(
        self,
        *,
        mode: Mode = "binary",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        label_smoothing: float = 0.0,
        pos_weight: float | Weights | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def focal(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Cross-entropy that gives less weight to what is already right: (1 - p_y)**gamma * -log p_y.

    Args:
        gamma: at least 0; 0 is cross-entropy.
        alpha: balance of classes that the mean does not divide by. ``"multiclass"``: C numbers. Sigmoid modes: one
            number in [0, 1], the weight of the ones; zeros get 1 - alpha.

    All else is as for `cross_entropy`.

    Example:
        >>> logits = torch.tensor([[[0.0], [0.0]]])  # p_y = 1/2
        >>> focal(logits, torch.tensor([[1]]), gamma=2.0)  # log(2) / 4
        tensor(0.1733)

    Source: Lin et al. 2017; the mean is over pixels that count, not over positives.
    """
    function = "focal"
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    table = focal_alpha(function, flat, gamma, alpha)
    return pixel_loss(flat, reduction, process_group, gamma=float(gamma), alpha=table)


class FocalLoss(Loss):
    """`functional.focal` as a module; see there for the options.

    Example:
        >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))  # log(2) / 4
        tensor(0.1733)
    """

    _function = staticmethod(focal)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def pos_weights(flat: Flat, pos_weight: float | Weights | None) -> Tensor | None:
    """The weights of a no, which are 1, and of a yes, [2, 1 or C]."""
    if pos_weight is None:
        return None
    function, channels = flat.function, flat.inputs.logits.shape[1]
    if flat.mode == "multiclass":
        raise ValueError(f"{function}: `pos_weight` is for mode 'binary' and 'multilabel'. Pass class_weights=...")
    yes = table_of(function, "pos_weight", pos_weight, flat.inputs.logits).reshape(-1)
    if len(yes) not in (1, channels):
        raise ValueError(
            f"{function}: `pos_weight` must be one number, or one for each of the {channels} channels, got {len(yes)}."
        )
    return torch.stack([torch.ones_like(yes), yes])


def check_smoothing(function: str, label_smoothing: float, mode: Mode) -> float:
    """The share that is spread over all classes, or goes to the other answer, if it can be."""
    most = 1 if mode == "multiclass" else 0.5
    if not 0 <= label_smoothing <= most:
        raise ValueError(f"{function}: `label_smoothing` must be in [0, {most}], got {label_smoothing}.")
    return float(label_smoothing)


def focal_alpha(function: str, flat: Flat, gamma: float, alpha: float | Sequence[float] | None) -> Tensor | None:
    """Check gamma, and alpha as a table: [C] for softmax, [2, 1] (of a no, of a yes) for sigmoid."""
    if gamma < 0:
        raise ValueError(f"{function}: `gamma` must be at least 0, got {gamma}.")
    if alpha is None:
        return None
    classes, table = flat.inputs.logits.shape[1], table_of(function, "alpha", alpha, flat.inputs.logits)
    if flat.mode == "multiclass":
        if table.shape != (classes,):
            raise ValueError(
                f"{function}: `alpha` must hold one number for each of the {classes} classes in mode 'multiclass', got "
                f"shape {list(table.shape)}. One number alone is for mode 'binary' or 'multilabel'."
            )
        return table
    table = table.reshape(-1)
    if len(table) not in (1, classes) or (readable(table) and bool((table > 1).any())):
        raise ValueError(
            f"{function}: `alpha` must be one number in [0, 1] in the sigmoid modes, or one for each of the {classes} "
            f"channels, got {alpha!r}."
        )
    return torch.stack([1 - table, table])


def pixel_loss(
    flat: Flat,
    reduction: Reduction,
    process_group: Any,
    *,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    alpha: Tensor | None = None,
) -> Tensor:
    """The sum, the mean or the map of focal cross-entropy."""
    choice(flat.function, "reduction", reduction, ("mean", "sum", "none"))
    return evaluate(flat, Pixelwise(gamma, smoothing, flat.inputs.class_weights, alpha), reduction, process_group)
