"""Sums of losses that share the one pass over the pixels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from segkit import IGNORE_INDEX
from segkit.losses import _centre_lines, _cross_entropy, _hardest, _lovasz, _overlap
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._cross_entropy import check_smoothing, focal_alpha
from segkit.losses._engine.one_pass import Formula, Part, Pixelwise, total
from segkit.losses._engine.reduce import Absent, Entries, Scope
from segkit.losses._engine.wanted import asking
from segkit.losses._formulas import dice_formula
from segkit.losses._module import Loss
from segkit.losses._region import region_loss, region_part

__all__ = ["CompoundLoss", "DiceCELoss", "DiceFocalLoss", "combine", "dice_ce", "dice_focal"]


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
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
    flat = flatten("dice_ce", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    choice("dice_ce", "reduction", reduction, ("mean", "sum"))
    pixels = Pixelwise(0.0, check_smoothing("dice_ce", label_smoothing, mode), flat.inputs.class_weights)
    overlap = region_part(dice_formula(smooth, eps, log), flat, Entries(scope, classes, absent), power)
    return total(flat, [(dice_weight, overlap), (ce_weight, pixels)], reduction, process_group)


class DiceCELoss(Loss):
    """`functional.dice_ce` as a module; see there for the options.

    Example:
        >>> import torch
        >>> DiceCELoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log 2
        tensor(1.1931)
    """

    _function = staticmethod(dice_ce)

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
    flat = flatten("dice_focal", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    choice("dice_focal", "reduction", reduction, ("mean", "sum"))
    table = focal_alpha("dice_focal", flat, gamma, alpha)
    pixels = Pixelwise(float(gamma), 0.0, flat.inputs.class_weights, table)
    overlap = region_part(dice_formula(smooth, eps, log), flat, Entries(scope, classes, absent), power)
    return total(flat, [(dice_weight, overlap), (focal_weight, pixels)], reduction, process_group)


class DiceFocalLoss(Loss):
    """`functional.dice_focal` as a module; see there for the options.

    Example:
        >>> import torch
        >>> DiceFocalLoss(gamma=2.0)(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 4
        tensor(0.6733)
    """

    _function = staticmethod(dice_focal)

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


FILES = (_overlap, _cross_entropy, _lovasz, _hardest, _centre_lines)
LOSSES: dict[str, Callable[..., Tensor]] = {
    name: getattr(file, name) for file in FILES for name in file.__all__ if name.islower()
}
OF_ALL = ("mode", "ignore_index", "upsample", "pixel_weights", "reduction", "process_group")  # not for one part alone
PartOrWeight: TypeAlias = "float | tuple[Formula | Callable[..., Tensor], float]"


def combine(
    parts: Mapping[str, PartOrWeight],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Callable[..., Tensor]:
    """A weighted sum of losses as one function, from one pass over the pixels.

    Args:
        parts: name -> weight, for the losses of `segkit.losses.functional` by their names; or name -> (yours, weight),
            with a formula as for `region_loss`, or any loss that is called with logits and target. Formulas of regions
            and one of ``"cross_entropy"``, ``"binary_cross_entropy"`` and ``"focal"`` share the pass; another of these
            three takes one more, and so do ``"lovasz"``, ``"ohem_cross_entropy"`` and ``"cl_dice"``.
        options: name -> options of that part, for example ``{"tversky": {"alpha": 0.3, "beta": 0.7}}``; they come
            before those below. A formula has the options of `region_loss`.
        mode: as for `cross_entropy`, for all parts; so are the options below.
        class_weights: C numbers.
        scope: of the region losses.
        classes: of the region losses.
        absent: of the region losses.
        reduction: ``"mean"`` or ``"sum"``, of each part.

    All else is as for `cross_entropy`.

    Returns:
        A function of ``(logits, target, *, pixel_weights=None)`` that gives a scalar.

    Raises:
        ValueError: an unknown part or option.

    Example:
        >>> import torch
        >>> loss = combine({"dice": 1.0, "cross_entropy": 0.5})
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 2
        tensor(0.8466)
        >>> volume = lambda s: (s.prediction - s.truth).abs() / (s.prediction + s.truth)
        >>> loss = combine({"volume": (volume, 1.0), "cross_entropy": 0.5})  # still one pass
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 0 + log(2) / 2
        tensor(0.3466)
    """
    function = "combine"
    choice(function, "reduction", reduction, ("mean", "sum"))
    options = {} if options is None else options
    if not parts:
        raise ValueError(f"{function}: `parts` must name at least one loss, got none. Known are {', '.join(LOSSES)}.")
    for name in options:
        choice(function, "options", name, tuple(parts))
    of_all = {"mode": mode, "ignore_index": ignore_index, "reduction": reduction, "process_group": process_group}
    defaults = {"class_weights": class_weights, "scope": scope, "classes": classes, "absent": absent}
    members = [_member(name, given, options.get(name, {}), defaults, of_all) for name, given in parts.items()]

    def compound(logits: Tensor, target: Tensor, *, pixel_weights: Tensor | None = None) -> Tensor:
        flat = flatten(function, logits, target, mode, ignore_index, None, pixel_weights, upsample)
        asked: list[tuple[float, Part]] = []
        alone: list[Tensor] = []
        for weight, loss, shares in members:
            if not shares:
                alone.append(weight * loss(logits, target))
                continue
            wanted: list[tuple[float, Part]] = []
            value = loss(asking(flat, wanted), target)
            if wanted:
                asked += [(weight * factor, part) for factor, part in wanted]
            else:
                alone.append(weight * value)
        return functools.reduce(torch.add, [*([total(flat, asked, reduction, process_group)] if asked else []), *alone])

    return compound


def _member(
    name: str, given: PartOrWeight, options: Mapping[str, Any], defaults: dict[str, Any], of_all: dict[str, Any]
) -> tuple[float, Callable[..., Tensor], bool]:
    """Weight, loss, and whether it may ask for a share of the pass, instead of being called with the logits."""
    weight, loss = (given[1], given[0]) if isinstance(given, tuple) else (given, None)
    if loss is None:
        choice("combine", "parts", name, tuple(LOSSES))
        loss = LOSSES[name]
    elif _takes_sums(loss):
        loss = partial(region_loss, loss)
    elif isinstance(loss, Loss) and type(loss).call is Loss.call and loss.agrees(of_all):
        defaults, loss = loss.options(), type(loss)._function
    elif loss not in LOSSES.values():
        for option in options:
            choice("combine", f"options[{name!r}]", option, ())
        return float(weight), loss, False
    known = inspect.signature(loss).parameters
    own = [p for p, how in known.items() if how.kind is how.KEYWORD_ONLY and p not in OF_ALL]
    if not isinstance(given, tuple) or not isinstance(given[0], Loss):
        own.sort(key=list(defaults).__contains__)  # what is special comes first
        shared = defaults if "absent" in own else ("class_weights",)  # elsewhere scope and classes mean something else
        defaults = {key: defaults[key] for key in shared}
    for option in options:
        choice("combine", f"options[{name!r}]", option, tuple(own))
    given_to_all = {key: value for key, value in of_all.items() if key in known}
    return float(weight), partial(loss, **{**defaults, **options, **given_to_all}), True


def _takes_sums(loss: Callable[..., Tensor]) -> bool:
    """Whether this is a formula, of one argument, and no loss of logits and target."""
    if isinstance(loss, nn.Module):
        return False
    needed = [
        p for p in inspect.signature(loss).parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    ]
    return len(needed) == 1


class CompoundLoss(Loss):
    """`functional.combine` as a module; see there for the options.

    Example:
        >>> import torch
        >>> loss = CompoundLoss({"dice": 1.0, "cross_entropy": 0.5})
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 2
        tensor(0.8466)
    """

    def __init__(
        self,
        parts: Mapping[str, PartOrWeight],
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
        combine(**self._options)  # refuses now what it would refuse later

    def call(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None, options: dict[str, Any]) -> Tensor:
        """The compound function, with the options of one call."""
        return combine(class_weights=self.class_weights, **options)(logits, target, pixel_weights=pixel_weights)
