"""Dice with a loss of pixels, in one pass: the two compounds that most people start with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Upsample, Weights, at_least_0, choice, flatten
from segkit.losses._cross_entropy import check_smoothing, focal_alpha
from segkit.losses._engine.one_pass import Pixelwise, Weighted, total
from segkit.losses._engine.reduce import Absent, Entries, Scope
from segkit.losses._formulas import dice_formula
from segkit.losses._module import Loss, changeable
from segkit.losses._region import region_part

__all__ = ["DiceCELoss", "DiceFocalLoss", "dice_ce", "dice_focal"]


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    dice_weight: float = 1.0,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    scope: Scope = "image",
    classes: Classes | None = None,
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
        dice_weight: factor of `dice`.
        ce_weight: factor of `cross_entropy`.
        label_smoothing: of `cross_entropy`.
        reduction: ``"mean"`` or ``"sum"``, of both parts.

    All else is as for `dice`; weights of classes and pixels are for both parts.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # p = 1/2 everywhere
        >>> dice_ce(logits, torch.tensor([[0, 1]]))  # 1/2 + log 2
        tensor(1.1931)

    Source: as nnU-Net and MONAI's DiceCELoss; the docs say at which settings the numbers are equal.
    """
    at_least_0("dice_ce", dice_weight=dice_weight, ce_weight=ce_weight, smooth=smooth, eps=eps)
    flat = flatten("dice_ce", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    choice("dice_ce", "reduction", reduction, ("mean", "sum"))
    pixels = Pixelwise(0.0, check_smoothing("dice_ce", label_smoothing, mode), flat.inputs.class_weights)
    overlap = region_part(dice_formula(smooth, eps, log), flat, Entries(scope, classes, absent), power)
    return total(flat, [Weighted(dice_weight, overlap), Weighted(ce_weight, pixels)], reduction, process_group)


class DiceCELoss(Loss):
    """`functional.dice_ce` as a module; see there for the options. Both weights may be changed between calls.

    Example:
        >>> import torch
        >>> DiceCELoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log 2
        tensor(1.1931)
    """

    _function = staticmethod(dice_ce)
    dice_weight, ce_weight = changeable("dice_weight"), changeable("ce_weight")

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        label_smoothing: float = 0.0,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def dice_focal(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    dice_weight: float = 1.0,
    focal_weight: float = 1.0,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
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
        dice_weight: factor of `dice`.
        focal_weight: factor of `focal`.
        gamma: of `focal`.
        alpha: of `focal`.
        reduction: ``"mean"`` or ``"sum"``, of both parts.

    All else is as for `dice`; weights of classes and pixels are for both parts.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # p = 1/2 everywhere
        >>> dice_focal(logits, torch.tensor([[0, 1]]))  # 1/2 + log(2) / 4
        tensor(0.6733)

    Source: as MONAI's DiceFocalLoss, whose focal part is a sigmoid by default; the docs compare them.
    """
    at_least_0("dice_focal", dice_weight=dice_weight, focal_weight=focal_weight, smooth=smooth, eps=eps)
    flat = flatten("dice_focal", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    choice("dice_focal", "reduction", reduction, ("mean", "sum"))
    table = focal_alpha("dice_focal", flat, gamma, alpha)
    pixels = Pixelwise(float(gamma), 0.0, flat.inputs.class_weights, table)
    overlap = region_part(dice_formula(smooth, eps, log), flat, Entries(scope, classes, absent), power)
    return total(flat, [Weighted(dice_weight, overlap), Weighted(focal_weight, pixels)], reduction, process_group)


class DiceFocalLoss(Loss):
    """`functional.dice_focal` as a module; see there for the options. Both weights may be changed between calls.

    Example:
        >>> import torch
        >>> DiceFocalLoss(gamma=2.0)(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 4
        tensor(0.6733)
    """

    _function = staticmethod(dice_focal)
    dice_weight, focal_weight = changeable("dice_weight"), changeable("focal_weight")

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
