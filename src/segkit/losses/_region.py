"""Losses of regions: each is a line of algebra on four sums, per image and class.

With p the probability of a class, y the truth and sums over the pixels that count:

    intersection = sum of p y        prediction = sum of p        truth = sum of y        pixels = number of them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from segkit import IGNORE_INDEX

from ._check import Flat, Mode, Reduction, Upsample, Weights, choice, flatten
from ._op import pixel_sums
from ._reduce import Absent, reduce_entries, sum_over_ranks
from ._spec import Inputs, Spec, Sums

Scope = Literal["image", "batch"]
Formula = Callable[[Sums], Tensor]


@dataclass(frozen=True)
class Entries:
    """Which images and classes a region loss counts, and how they come together."""

    scope: Scope = "image"
    classes: Sequence[int] | None = None
    absent: Absent = "skip"
    reduction: Reduction = "mean"
    group: Any = None
    every: bool = False  # whether a class counts even if it is not there

    def check(self, function: str) -> None:
        """Refuse unknown choices."""
        choice(function, "scope", self.scope, ("image", "batch"))
        choice(function, "absent", self.absent, ("skip", "zero", "one"))
        choice(function, "reduction", self.reduction, ("mean", "sum", "none"))


def region_loss(
    formula: Formula,
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
    power: Literal[1, 2] = 1,
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
        ignore_index: label of pixels that count nowhere.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0; 0 is the same as ignored.
        upsample: as for `cross_entropy`.
        scope: a loss for each ``"image"``, or one for the sums of the whole ``"batch"``.
        classes: which classes count, chosen after the softmax; None for all.
        absent: a class that is not in the truth (of the image or the batch) is left out (``"skip"``), or has loss 0
            (``"zero"``) or 1 (``"one"``). Without any pixel that counts it is left out in each case.
        power: 1 or 2: ``prediction`` sums p or p squared.
        reduction: ``"mean"`` over images and classes that count, ``"sum"``, or ``"none"``: [B, C], 0 where left out.
        process_group: ranks of `torch.distributed` that share the sums: the loss is that of the whole batch.

    Returns:
        A scalar or [B, C] ([1, C] for scope ``"batch"``), float32 or wider.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.

    Example:
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])  # one image, 2 classes, 2 pixels
        >>> missed = lambda s: 1 - s.intersection / s.truth  # one minus recall
        >>> region_loss(missed, logits, torch.tensor([[0, 0]]), reduction="none")
        tensor([[0.5000, 0.0000]])
    """
    function = "region_loss"
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    entries = Entries(scope, classes, absent, reduction, process_group)
    return region_formula(function, formula, flat, ignore_index, entries, power)


def region_formula(
    function: str, formula: Formula, flat: Flat, ignore_index: int, entries: Entries, power: int = 1
) -> Tensor:
    """One pass over the pixels, the formula, and the reduction."""
    entries.check(function)
    choice(function, "power", power, (1, 2))
    spec = Spec(function, flat.sigmoid, ignore_index, power=power, region=True)
    return reduce_region(function, formula, pixel_sums(flat.inputs, spec, flat.size), flat.inputs, entries)


def reduce_region(function: str, formula: Formula, sums: Sums, inputs: Inputs, entries: Entries) -> Tensor:
    """Apply a formula to the sums of a pass, and bring images and classes together."""
    sums = chosen_sums(function, sums, entries)
    weights = inputs.class_weights
    if weights is not None:
        weights = weights if weights.ndim == 1 else weights[1]
        weights = weights.expand(inputs.logits.shape[1])
        weights = weights if entries.classes is None else weights[list(entries.classes)]
    loss, truth, pixels = formula(sums), sums.truth, sums.pixels
    if loss.shape[1] == 1 < truth.shape[1]:  # one number for all classes of an image
        truth, pixels, weights = truth.sum(1, keepdim=True), pixels.amax(1, keepdim=True), None
    counts = truth > 0 if entries.absent == "skip" and not entries.every else (pixels > 0).expand_as(truth)
    if entries.absent != "skip":
        loss = torch.where(truth > 0, loss, float(entries.absent == "one"))
    group = entries.group if entries.scope == "image" else None
    return reduce_entries(loss, counts, weights, reduction=entries.reduction, group=group)


def chosen_sums(function: str, sums: Sums, entries: Entries) -> Sums:
    """The sums of the chosen classes, over the batch and over ranks if the scope says so."""
    if entries.scope == "image" and entries.classes is None:
        return sums
    parts = [sums.intersection, sums.prediction, sums.truth, sums.pixels]
    if entries.scope == "batch":
        parts = sum_over_ranks([part.sum(0, keepdim=True) for part in parts], entries.group)
    if entries.classes is not None:
        number = sums.truth.shape[1]
        wrong = [c for c in entries.classes if not 0 <= c < number]
        if wrong or not entries.classes:
            got = f"{wrong[0]}" if wrong else "none"
            raise ValueError(f"{function}: `classes` must name classes in [0, {number}), got {got}.")
        index = torch.tensor(list(entries.classes), device=sums.truth.device)
        parts = [part if part.shape[1] != number else part.index_select(1, index) for part in parts]
    return Sums(sums.terms, sums.weight, *parts)
