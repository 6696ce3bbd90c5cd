"""Losses of regions: each is a line of algebra on four sums, per image and class.

With p the probability of a class, y the truth and sums over the pixels that count:

    intersection = sum of p y        prediction = sum of p        truth = sum of y        pixels = number of them
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Upsample, Weights, choice, flatten, indices_of
from segkit.losses._engine.one_pass import Formula, Regionwise, evaluate
from segkit.losses._engine.reduce import Absent, Entries, Scope
from segkit.losses._engine.wanted import Flat

__all__ = ["region_loss"]

Intersection = Literal["product", "minimum"]


def region_loss(
    formula: Formula,
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
    power: Literal[1, 2] = 1,
    intersection: Intersection = "product",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Any loss that is a formula on the sums of an image and class: bring your own formula.

    Args:
        formula: takes sums with ``.intersection``, ``.prediction``, ``.truth`` ([B, C] each; [1, C] for scope
            ``"batch"``) and ``.pixels`` ([B, 1] or [B, C]); returns the loss of each image and class, [B, C], or of
            each image, [B, 1].
        logits: [B, C, *spatial] raw scores; in mode ``"binary"`` [B, *spatial] or [B, 1, *spatial].
        target: as for `cross_entropy`.
        mode: ``"multiclass"``: softmax over C. ``"binary"`` and ``"multilabel"``: a sigmoid for each channel.
        ignore_index: label of pixels that count nowhere; several, or None for none.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        labelled: [B, C], bool: which classes were looked for in each image. The others are ignored (sigmoid modes), or
            are one class with the background, class 0 (softmax).
        upsample: as for `cross_entropy`.
        scope: a loss for each ``"image"``, or one for the sums of the whole ``"batch"``.
        classes: which classes count, chosen after the softmax; None for all.
        absent: a class that is not in the truth (of the image or the batch) is left out (``"skip"``), has loss 0
            (``"zero"``) or 1 (``"one"``), or that of the formula (``"include"``: with ``smooth`` above 0 false
            positives cost something, as in MONAI and nnU-Net). Without any pixel that counts it is always left out.
        power: 1 or 2: ``prediction`` sums p or p squared, and ``truth`` likewise.
        intersection: of a soft target: ``"product"`` sums p t, ``"minimum"`` the smaller of p and t, which makes the
            loss smallest at p = t (the L1 form of Wang et al. 2023; with hard labels they are the same).
        reduction: ``"mean"`` over images and classes that count, ``"sum"``, or ``"none"``: [B, C], NaN where left out.
        process_group: ranks of `torch.distributed` that share the sums: the loss is that of the whole batch.

    Returns:
        A scalar or [B, C] ([1, C] for scope ``"batch"``), float32 or wider.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> missed = lambda s: 1 - s.intersection / s.truth  # one minus recall
        >>> region_loss(missed, logits, torch.tensor([[0, 0]]), reduction="none")
        tensor([[0.5000,    nan]])
    """
    flat = flatten("region_loss", logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    return region_formula(formula, flat, Entries(scope, classes, absent), reduction, process_group, power, intersection)


def region_formula(
    formula: Formula,
    flat: Flat,
    entries: Entries,
    reduction: Reduction,
    group: Any,
    power: int = 1,
    intersection: str = "product",
) -> Tensor:
    """One pass over the pixels, the formula, and the reduction."""
    return evaluate(flat, region_part(formula, flat, entries, power, intersection, reduction), reduction, group)


def region_part(
    formula: Formula,
    flat: Flat,
    entries: Entries,
    power: int = 1,
    intersection: str = "product",
    reduction: Reduction = "mean",
) -> Regionwise:
    """What a loss of regions asks of a pass."""
    choice(flat.function, "power", power, (1, 2))
    choice(flat.function, "intersection", intersection, ("product", "minimum"))
    smaller = intersection == "minimum" and flat.inputs.target.is_floating_point()
    return Regionwise(formula, checked(flat, entries, reduction), power, smaller)


def checked(flat: Flat, entries: Entries, reduction: Reduction) -> Entries:
    """The entries with the class weights of a problem, if they can be."""
    function, number = flat.function, flat.inputs.logits.shape[1]
    choice(function, "scope", entries.scope, ("image", "batch"))
    choice(function, "absent", entries.absent, ("skip", "zero", "one", "include"))
    choice(function, "reduction", reduction, ("mean", "sum", "none"))
    classes = None if entries.classes is None else indices_of(function, entries.classes, number)
    return Entries(entries.scope, classes, entries.absent, of_regions(flat), entries.every)


def of_regions(flat: Flat) -> Tensor | None:
    """The class weights [C] that a mean over classes divides by: for sigmoid those of a yes."""
    weights = flat.inputs.class_weights
    return weights if weights is None or weights.ndim == 1 else weights[1].expand(flat.inputs.logits.shape[1])
