"""Losses of overlap: Dice and its relatives. Each is its formula on the sums of an image and class."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import (
    Classes,
    Ignored,
    Mode,
    Reduction,
    Upsample,
    Weights,
    at_least_0,
    flatten,
    indices_of,
)
from segkit.losses._engine.reduce import Absent, Entries, Scope
from segkit.losses._formulas import dice_formula, generalized_dice_formula, jaccard_formula, tversky_formula
from segkit.losses._module import Loss
from segkit.losses._region import Intersection, of_regions, region_formula

__all__ = ["DiceLoss", "GeneralizedDiceLoss", "JaccardLoss", "TverskyLoss"]
__all__ += ["dice", "jaccard", "tversky", "generalized_dice"]


def dice(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    power: Literal[1, 2] = 1,
    intersection: Intersection = "product",
    log: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """One minus the soft Dice overlap: 1 - (2 I + smooth) / (P + T + smooth).

    Args:
        smooth: pixels added above and below.
        eps: smallest value below the fraction, and under the logarithm.
        power: 2 squares p and the truth below the fraction, as in V-Net.
        log: minus the logarithm of the overlap instead of one minus it.

    All else is as for `region_loss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> dice(logits, torch.tensor([[0, 0]])).round(decimals=3)  # class 0: 1 - 2/3; class 1 is not there
        tensor(0.3330)

    Source: Milletari et al. 2016 (V-Net) with ``power=2``; absent classes are left out of the mean.
    """
    at_least_0("dice", smooth=smooth, eps=eps)
    flat = flatten("dice", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    formula, entries = dice_formula(smooth, eps, log), Entries(scope, classes, absent)
    return region_formula(formula, flat, entries, reduction, process_group, power, intersection)


class DiceLoss(Loss):
    """`functional.dice` as a module; see there for the options.

    Example:
        >>> import torch
        >>> DiceLoss(scope="batch")(torch.zeros(2, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8))  # 1 - 2/3
        tensor(0.3333)
    """

    _function = staticmethod(dice)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        intersection: Intersection = "product",
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def jaccard(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    power: Literal[1, 2] = 1,
    intersection: Intersection = "product",
    log: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """One minus the soft intersection over union: 1 - (I + smooth) / (P + T - I + smooth).

    Args:
        smooth: pixels added above and below.
        eps: smallest value below the fraction, and under the logarithm.
        log: minus the logarithm of the overlap instead of one minus it.

    All else is as for `region_loss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> jaccard(logits, torch.tensor([[0, 0]])).round(decimals=3)  # class 0: 1 - 1/2; class 1 is not there
        tensor(0.5000)

    Source: Rahman and Wang 2016; absent classes are left out of the mean.
    """
    at_least_0("jaccard", smooth=smooth, eps=eps)
    flat = flatten("jaccard", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    formula, entries = jaccard_formula(smooth, eps, log), Entries(scope, classes, absent)
    return region_formula(formula, flat, entries, reduction, process_group, power, intersection)


class JaccardLoss(Loss):
    """`functional.jaccard` as a module; see there for the options.

    Example:
        >>> import torch
        >>> JaccardLoss()(torch.zeros(2, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8))  # 1 - 1/2
        tensor(0.5000)
    """

    _function = staticmethod(jaccard)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        intersection: Intersection = "product",
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    smooth: float = 0.0,
    eps: float = 1e-7,
    power: Literal[1, 2] = 1,
    intersection: Intersection = "product",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Dice with separate prices for false positives and false negatives: 1 - I / (I + alpha FP + beta FN).

    Args:
        alpha: price of false positives, P - I. 0.5 and 0.5 is Dice.
        beta: price of false negatives, T - I. 1 and 1 is Jaccard.
        gamma: exponent of the whole, the focal Tversky loss; 1 for none.
        smooth: pixels added above and below.
        eps: smallest value below the fraction.

    All else is as for `region_loss`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> tversky(logits, torch.tensor([[0, 0]]), alpha=0.3, beta=0.7).round(decimals=3)  # 1 - 1 / (1 + 0.7)
        tensor(0.4120)

    Source: Salehi et al. 2017; Abraham and Khan 2019 for gamma, there written 1 / gamma.
    """
    at_least_0("tversky", alpha=alpha, beta=beta, gamma=gamma, smooth=smooth, eps=eps)
    flat = flatten("tversky", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    formula, entries = tversky_formula(alpha, beta, gamma, smooth, eps), Entries(scope, classes, absent)
    return region_formula(formula, flat, entries, reduction, process_group, power, intersection)


class TverskyLoss(Loss):
    """`functional.tversky` as a module; see there for the options.

    Example:
        >>> import torch
        >>> TverskyLoss(alpha=0.0, beta=1.0)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
        tensor(0.5000)
    """

    _function = staticmethod(tversky)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        intersection: Intersection = "product",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Dice of all classes at once, each weighted by one over its squared size: one number for each image.

    Args:
        smooth: pixels added above and below.
        eps: smallest value below the fraction.

    All else is as for `region_loss`; ``reduction="none"`` gives [B, 1], one number for each image.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> generalized_dice(logits, torch.tensor([[0, 1]])).round(decimals=3)  # all right
        tensor(0.)

    Source: Sudre et al. 2017; classes that are not there have weight 0 instead of infinity.
    """
    at_least_0("generalized_dice", smooth=smooth, eps=eps)
    flat = flatten(
        "generalized_dice", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled
    )
    table = of_regions(flat)
    if table is not None and classes is not None:
        table = table[list(indices_of("generalized_dice", classes, flat.inputs.logits.shape[1]))]
    formula = generalized_dice_formula(smooth, eps, table)
    return region_formula(formula, flat, Entries(scope, classes, absent), reduction, process_group)


class GeneralizedDiceLoss(Loss):
    """`functional.generalized_dice` as a module; see there for the options.

    Example:
        >>> import torch
        >>> GeneralizedDiceLoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(0.5000)
    """

    _function = staticmethod(generalized_dice)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
