"""Losses of overlap: Dice and its relatives. Each is its formula on the sums of `_region`, and a docstring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Mode, Reduction, Upsample, Weights, flatten
from segkit.losses._engine.reduce import Absent
from segkit.losses._formulas import dice_formula, generalized_dice_formula, jaccard_formula, tversky_formula
from segkit.losses._region import Entries, Scope, region_formula


def dice(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
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
    """One minus the soft Dice overlap: 1 - (2 I + smooth) / (P + T + smooth).

    Args:
        logits: as for `region_loss`.
        target: as for `region_loss`.
        mode: as for `region_loss`.
        ignore_index: label of pixels that count nowhere, not below the fraction either.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        upsample: as for `cross_entropy`.
        scope: as for `region_loss`.
        classes: as for `region_loss`.
        absent: as for `region_loss`.
        smooth: pixels added above and below.
        eps: smallest value below the fraction, and under the logarithm.
        power: 2 squares p below the fraction, as in V-Net.
        log: minus the logarithm of the overlap instead of one minus it.
        reduction: as for `region_loss`.
        process_group: as for `region_loss`.

    Returns:
        A scalar or [B, C] in [0, 1] (without ``log``), as for `region_loss`.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> dice(logits, torch.tensor([[0, 0]])).round(decimals=3)  # class 0: 1 - 2/3; class 1 is not there
        tensor(0.3330)

    Source: Milletari et al. 2016 (V-Net) with ``power=2``; absent classes are left out of the mean.
    """
    flat = flatten("dice", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    return region_formula("dice", dice_formula(smooth, eps, log), flat, ignore_index, entries, power)


def jaccard(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Sequence[int] | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    log: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """One minus the soft intersection over union: 1 - (I + smooth) / (P + T - I + smooth).

    Args:
        logits: as for `region_loss`.
        target: as for `region_loss`.
        mode: as for `region_loss`.
        ignore_index: label of pixels that count nowhere, not below the fraction either.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        upsample: as for `cross_entropy`.
        scope: as for `region_loss`.
        classes: as for `region_loss`.
        absent: as for `region_loss`.
        smooth: pixels added above and below.
        eps: smallest value below the fraction, and under the logarithm.
        log: minus the logarithm of the overlap instead of one minus it.
        reduction: as for `region_loss`.
        process_group: as for `region_loss`.

    Returns:
        A scalar or [B, C] in [0, 1] (without ``log``), as for `region_loss`.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> jaccard(logits, torch.tensor([[0, 0]])).round(decimals=3)  # class 0: 1 - 1/2; class 1 is not there
        tensor(0.5000)

    Source: Rahman and Wang 2016; absent classes are left out of the mean.
    """
    flat = flatten("jaccard", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    return region_formula("jaccard", jaccard_formula(smooth, eps, log), flat, ignore_index, entries)


def tversky(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Sequence[int] | None = None,
    absent: Absent = "skip",
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    smooth: float = 0.0,
    eps: float = 1e-7,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Dice with a price of its own for false positives and false negatives: 1 - I / (I + alpha FP + beta FN).

    Args:
        logits: as for `region_loss`.
        target: as for `region_loss`.
        mode: as for `region_loss`.
        ignore_index: label of pixels that count nowhere, not below the fraction either.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        upsample: as for `cross_entropy`.
        scope: as for `region_loss`.
        classes: as for `region_loss`.
        absent: as for `region_loss`.
        alpha: price of false positives, P - I. 0.5 and 0.5 is Dice.
        beta: price of false negatives, T - I. 1 and 1 is Jaccard.
        gamma: exponent of the whole, the focal Tversky loss; 1 for none.
        smooth: pixels added above and below.
        eps: smallest value below the fraction.
        reduction: as for `region_loss`.
        process_group: as for `region_loss`.

    Returns:
        A scalar or [B, C] in [0, 1], as for `region_loss`.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> tversky(logits, torch.tensor([[0, 0]]), alpha=0.3, beta=0.7).round(decimals=3)  # 1 - 1 / (1 + 0.7)
        tensor(0.4120)

    Source: Salehi et al. 2017; Abraham and Khan 2019 for gamma, there written 1 / gamma.
    """
    flat = flatten("tversky", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    return region_formula("tversky", tversky_formula(alpha, beta, gamma, smooth, eps), flat, ignore_index, entries)


def generalized_dice(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Sequence[int] | None = None,
    absent: Absent = "skip",
    smooth: float = 0.0,
    eps: float = 1e-7,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Dice of all classes at once, each weighted by one over its squared size: one number for each image.

    Args:
        logits: as for `region_loss`.
        target: as for `region_loss`.
        mode: as for `region_loss`.
        ignore_index: label of pixels that count nowhere, not below the fraction either.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        upsample: as for `cross_entropy`.
        scope: as for `region_loss`.
        classes: as for `region_loss`.
        absent: as for `region_loss`.
        smooth: pixels added above and below.
        eps: smallest value below the fraction.
        reduction: as for `region_loss`.
        process_group: as for `region_loss`.

    Returns:
        A scalar; for ``"none"`` [B, 1], one number for each image.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> generalized_dice(logits, torch.tensor([[0, 1]])).round(decimals=3)  # all right
        tensor(0.)

    Source: Sudre et al. 2017; classes that are not there have weight 0 instead of infinity.
    """
    flat = flatten("generalized_dice", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    return region_formula("generalized_dice", generalized_dice_formula(smooth, eps), flat, ignore_index, entries)
