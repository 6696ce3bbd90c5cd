"""Sums of losses that share the one pass over the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._cross_entropy import check_smoothing, focal_alpha
from segkit.losses._engine.reduce import Absent
from segkit.losses._formulas import Formula, dice_formula, generalized_dice_formula, jaccard_formula, tversky_formula
from segkit.losses._region import Entries, Scope, one_pass


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
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
        upsample: as for `cross_entropy`.
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
    flat = flatten("dice_ce", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    parts = [(dice_weight, dice_formula(smooth, eps, log))]
    return one_pass(
        "dice_ce",
        flat,
        ignore_index,
        entries,
        parts,
        ce_weight,
        power=power,
        smoothing=check_smoothing("dice_ce", label_smoothing, mode),
    )


def dice_focal(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
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
        upsample: as for `cross_entropy`.
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
    flat = flatten("dice_focal", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    table = focal_alpha("dice_focal", flat, gamma, alpha)
    parts = [(dice_weight, dice_formula(smooth, eps, log))]
    return one_pass(
        "dice_focal", flat, ignore_index, entries, parts, focal_weight, power=power, gamma=float(gamma), alpha=table
    )


FORMULAS: dict[str, tuple[Callable[..., Formula], dict[str, Any]]] = {
    "dice": (dice_formula, {"smooth": 0.0, "eps": 1e-7, "log": False}),
    "jaccard": (jaccard_formula, {"smooth": 0.0, "eps": 1e-7, "log": False}),
    "tversky": (tversky_formula, {"alpha": 0.5, "beta": 0.5, "gamma": 1.0, "smooth": 0.0, "eps": 1e-7}),
    "generalized_dice": (generalized_dice_formula, {"smooth": 0.0, "eps": 1e-7}),
}
TERMS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"label_smoothing": 0.0},
    "focal": {"gamma": 2.0, "alpha": None},
}


def combine(
    parts: Mapping[str, float],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Sequence[int] | None = None,
    absent: Absent = "skip",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Callable[..., Tensor]:
    """A weighted sum of losses as one function, from one pass over the pixels.

    Args:
        parts: name -> weight. ``"dice"``, ``"jaccard"``, ``"tversky"``, ``"generalized_dice"``, ``"cross_entropy"`` and
            ``"focal"`` (the last two: one of them shares the pass, the other takes one more).
        options: name -> options of that part, for example ``{"tversky": {"alpha": 0.3, "beta": 0.7}}``.
        mode: as for `cross_entropy`, for all parts; so are the options below.
        ignore_index: label of pixels that count nowhere.
        class_weights: C numbers.
        upsample: as for `cross_entropy`.
        scope: of the region losses.
        classes: of the region losses.
        absent: of the region losses.
        reduction: ``"mean"`` or ``"sum"``, of each part.
        process_group: ranks that share the sums and means.

    Returns:
        A function of ``(logits, target, *, pixel_weights=None)`` that gives a scalar.

    Raises:
        ValueError: an unknown part or option.

    Example:
        >>> import torch
        >>> loss = combine({"dice": 1.0, "cross_entropy": 0.5})
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 2
        tensor(0.8466)
    """
    function = "combine"
    options = {} if options is None else options
    known = [*FORMULAS, *TERMS]
    if not parts:
        raise ValueError(f"{function}: `parts` must name at least one loss, got none. Known are {', '.join(known)}.")
    for name in [*parts, *options]:
        choice(function, "parts", name, tuple(known))
    chosen: dict[str, dict[str, Any]] = {}
    for name in parts:
        defaults = FORMULAS[name][1] if name in FORMULAS else TERMS[name]
        for option in options.get(name, {}):
            choice(function, f"options[{name!r}]", option, tuple(defaults))
        chosen[name] = {**defaults, **options.get(name, {})}
    regions = [(float(parts[name]), FORMULAS[name][0](**chosen[name])) for name in parts if name in FORMULAS]
    terms = [name for name in parts if name in TERMS]
    entries = Entries(scope, classes, absent, reduction, process_group)
    entries.check(function)

    def loss(logits: Tensor, target: Tensor, *, pixel_weights: Tensor | None = None) -> Tensor:
        flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
        total: Tensor | None = None
        for number, name in enumerate(terms or [None]):
            how: dict[str, Any] = {}
            if name == "focal":
                how["gamma"] = float(chosen[name]["gamma"])
                how["alpha"] = focal_alpha(function, flat, how["gamma"], chosen[name]["alpha"])
            elif name is not None:
                how["smoothing"] = check_smoothing(function, chosen[name]["label_smoothing"], mode)
            weight = None if name is None else float(parts[name])
            part = one_pass(function, flat, ignore_index, entries, regions if number == 0 else [], weight, **how)
            total = part if total is None else total + part
        assert total is not None
        return total

    return loss
