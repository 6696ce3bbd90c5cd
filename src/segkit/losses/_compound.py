"""Sums of losses that share the one pass over the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX

from ._check import Mode, Reduction, Weights, choice, flat_inputs
from ._op import pixel_sums
from ._pixel import focal_alpha
from ._reduce import Absent, sum_over_ranks, weighted_mean
from ._region import Entries, Scope, dice_formula, reduce_region
from ._spec import Spec


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    scope: Scope = "image",
    classes: Sequence[int] | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    power: Literal[1, 2] = 1,
    log: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """`dice` plus `cross_entropy`, in one pass over the pixels.

    Args:
        logits: as for `cross_entropy`.
        target: as for `cross_entropy`.
        mode: as for `cross_entropy`.
        ignore_index: label of pixels that count nowhere.
        class_weights: C numbers, for both parts.
        pixel_weights: [B, *spatial], at least 0, for both parts.
        dice_weight: factor of `dice`.
        ce_weight: factor of `cross_entropy`.
        label_smoothing: of `cross_entropy`.
        scope: of `dice`.
        classes: of `dice`.
        absent: of `dice`.
        smooth: of `dice`.
        eps: of `dice`.
        power: of `dice`.
        log: of `dice`.
        reduction: ``"mean"`` or ``"sum"``, of both parts.
        process_group: ranks that share the sums and means.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # p = 1/2 everywhere
        >>> dice_ce(logits, torch.tensor([[0, 1]]))  # 1/2 + log 2
        tensor(1.1931)

    Source: as nnU-Net and MONAI's DiceCELoss; the docs say at which settings the numbers are equal.
    """
    return _dice_and_terms(
        "dice_ce", logits, target, mode, ignore_index, class_weights, pixel_weights, dice_weight, ce_weight,
        Entries(scope, classes, absent, reduction, process_group), smooth, eps, power, log, smoothing=label_smoothing,
    )  # fmt: skip


def dice_focal(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    dice_weight: float = 1.0,
    focal_weight: float = 1.0,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    scope: Scope = "image",
    classes: Sequence[int] | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    power: Literal[1, 2] = 1,
    log: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """`dice` plus `focal`, in one pass over the pixels.

    Args:
        logits: as for `cross_entropy`.
        target: as for `cross_entropy`.
        mode: as for `cross_entropy`.
        ignore_index: label of pixels that count nowhere.
        class_weights: C numbers, for both parts.
        pixel_weights: [B, *spatial], at least 0, for both parts.
        dice_weight: factor of `dice`.
        focal_weight: factor of `focal`.
        gamma: of `focal`.
        alpha: of `focal`.
        scope: of `dice`.
        classes: of `dice`.
        absent: of `dice`.
        smooth: of `dice`.
        eps: of `dice`.
        power: of `dice`.
        log: of `dice`.
        reduction: ``"mean"`` or ``"sum"``, of both parts.
        process_group: ranks that share the sums and means.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # p = 1/2 everywhere
        >>> dice_focal(logits, torch.tensor([[0, 1]]))  # 1/2 + log(2) / 4
        tensor(0.6733)

    Source: as MONAI's DiceFocalLoss, whose focal part is a sigmoid by default; the docs compare them.
    """
    function = "dice_focal"
    if gamma < 0:
        raise ValueError(f"{function}: `gamma` must be at least 0, got {gamma}.")
    return _dice_and_terms(
        function, logits, target, mode, ignore_index, class_weights, pixel_weights, dice_weight, focal_weight,
        Entries(scope, classes, absent, reduction, process_group), smooth, eps, power, log, gamma=float(gamma),
        alpha=focal_alpha(function, alpha, mode, logits),
    )  # fmt: skip


def _dice_and_terms(
    function: str,
    logits: Tensor,
    target: Tensor,
    mode: Mode,
    ignore_index: int,
    class_weights: Weights | None,
    pixel_weights: Tensor | None,
    dice_weight: float,
    terms_weight: float,
    entries: Entries,
    smooth: float,
    eps: float,
    power: int,
    log: bool,
    *,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    alpha: Tensor | None = None,
) -> Tensor:
    choice(function, "reduction", entries.reduction, ("mean", "sum"))
    entries.check(function)
    choice(function, "power", power, (1, 2))
    inputs, _ = flat_inputs(
        function, logits, target, mode=mode, ignore_index=ignore_index, class_weights=class_weights,
        pixel_weights=pixel_weights, alpha=alpha,
    )  # fmt: skip
    how = "sum" if entries.group is not None else entries.reduction
    spec = Spec(function, mode != "multiclass", ignore_index, gamma, smoothing, power, terms=how, region=True)
    sums = pixel_sums(inputs, spec)
    overlap = reduce_region(function, dice_formula(smooth, eps, log), sums, inputs, entries)
    terms = sums.terms
    if entries.group is not None and entries.reduction == "mean":
        terms = weighted_mean(sums.terms, sums.weight, entries.group)
    elif entries.group is not None:
        terms = sum_over_ranks([sums.terms], entries.group)[0]
    return dice_weight * overlap + terms_weight * terms
