"""Losses of regions: each is a line of algebra on four sums, per image and class.

With p the probability of a class, y the truth and sums over the pixels that count:

    intersection = sum of p y        prediction = sum of p        truth = sum of y        pixels = number of them
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Flat, Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._engine.operator import in_plain_sight, one_number, pixel_sums
from segkit.losses._engine.reduce import Absent, nonzero, reduce_entries, sum_over_ranks, weighted_mean
from segkit.losses._engine.streamed.at_once import Goal, Region
from segkit.losses._engine.wanted import Inputs, Spec, Sums
from segkit.losses._formulas import Formula, Overlap

Scope = Literal["image", "batch"]


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
    if entries.reduction != "none":
        return one_pass(function, flat, ignore_index, entries, [(1.0, formula)], None, power=power)
    choice(function, "power", power, (1, 2))
    spec = Spec(function, flat.sigmoid, ignore_index, power=power, region=True)
    return reduce_region(function, formula, pixel_sums(flat.inputs, spec, flat.size), flat.inputs, entries)


def one_pass(
    function: str,
    flat: Flat,
    ignore_index: int,
    entries: Entries,
    regions: Sequence[tuple[float, Formula]],
    terms_weight: float | None,
    *,
    power: int = 1,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    alpha: Tensor | None = None,
) -> Tensor:
    """Weighted sum of region formulas, and of focal cross-entropy (if it has a weight), from one pass."""
    choice(function, "reduction", entries.reduction, ("mean", "sum"))
    entries.check(function)
    choice(function, "power", power, (1, 2))
    group = entries.group
    how = "none" if terms_weight is None else "sum" if group is not None else entries.reduction
    spec = Spec(function, flat.sigmoid, ignore_index, gamma, smoothing, power, terms=how, region=len(regions) > 0)
    inputs = flat.inputs.with_alpha(alpha)
    if group is None and in_plain_sight(inputs.logits):
        known = [(weight, formula) for weight, formula in regions if isinstance(formula, Overlap)]
        region = Overlaps(function, known, entries, inputs.class_weights) if known else None
        goal = Goal(terms_weight or 0.0, region, entries.scope == "image")
        loss = one_number(flat.source, inputs, spec, flat.size, goal) if len(known) == len(regions) else None
        if loss is not None:
            return loss
    sums = pixel_sums(inputs, spec, flat.size)
    total: list[Tensor] = []
    for weight, formula in regions:
        part = reduce_region(function, formula, sums, inputs, entries)
        total.append(part if weight == 1 else weight * part)
    if terms_weight is not None:
        terms = sums.terms
        if group is not None and entries.reduction == "mean":
            terms = weighted_mean(sums.terms, sums.weight, group)
        elif group is not None:
            terms = sum_over_ranks([sums.terms], group)[0]
        total.append(terms if terms_weight == 1 else terms_weight * terms)
    return functools.reduce(torch.add, total)


@dataclass(frozen=True)
class Overlaps:
    """A weighted sum of overlaps, reduced as ``entries`` say: becomes a `Region` when the truth is known."""

    function: str
    parts: Sequence[tuple[float, Overlap]]
    entries: Entries
    class_weights: Tensor | None

    def __call__(self, truth: Tensor) -> Region:
        """How the loss of some images depends on their intersections and predictions, for a truth [B, C]."""
        entries = self.entries
        if entries.scope == "batch":
            truth = truth.sum(0, keepdim=True)
        there, table = truth > 0, self.table(truth)
        share = (there if entries.absent == "skip" else there.any(1, keepdim=True).expand_as(there)).to(truth.dtype)
        share = share if table is None else share * table
        if entries.reduction == "mean":
            share = share / (share.sum().clamp_min(1) if table is None else nonzero(share.sum()))

        def region(rows: slice, intersection: Tensor, prediction: Tensor) -> tuple[float, Tensor, Tensor]:
            images = intersection.shape[0]
            if entries.scope == "batch":
                intersection, prediction = intersection.sum(0, keepdim=True), prediction.sum(0, keepdim=True)
                rows = slice(0, 1)
            mine = [t if t.shape[0] == intersection.shape[0] else t[rows] for t in (truth, share, there)]
            sums = Sums(truth, truth, intersection, prediction, mine[0], truth)
            losses, by_inters, by_preds = zip(*(self.part(sums, *part, *mine[1:]) for part in self.parts), strict=True)
            by_inter, by_pred = functools.reduce(torch.add, by_inters), functools.reduce(torch.add, by_preds)
            if len(by_inter) != images:
                by_inter, by_pred = by_inter.expand(images, -1), by_pred.expand(images, -1)
            return sum(losses), by_inter, by_pred

        return region

    def part(
        self, sums: Sums, weight: float, overlap: Overlap, share: Tensor, there: Tensor
    ) -> tuple[float, Tensor, Tensor]:
        """One overlap's loss and slopes."""
        share = share if weight == 1 else share * weight
        if self.entries.absent == "skip":
            loss, *slopes = overlap.slopes(sums, share)
            return float(loss.sum()), slopes[0], slopes[1]
        loss, *slopes = overlap.slopes(sums, torch.where(there, share, 0))
        loss = loss if self.entries.absent == "zero" else loss + torch.where(there, 0, share)
        return float(loss.sum()), slopes[0], slopes[1]

    def table(self, truth: Tensor) -> Tensor | None:
        """The weight of each class, 0 for one that is not chosen; None if all are 1."""
        classes = self.entries.classes
        if classes is None:
            return self.class_weights
        number = truth.shape[1]
        check_classes(self.function, classes, number)
        weights = truth.new_ones(number) if self.class_weights is None else self.class_weights
        index = torch.tensor(list(classes))
        return torch.zeros_like(weights).index_add_(0, index, weights[index])


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
    counts = counted(truth, pixels, entries)
    if entries.absent != "skip":
        loss = torch.where(truth > 0, loss, float(entries.absent == "one"))
    group = entries.group if entries.scope == "image" else None
    return reduce_entries(loss, counts, weights, reduction=entries.reduction, group=group)


def counted(truth: Tensor, pixels: Tensor, entries: Entries) -> Tensor:
    """Whether an image and class counts, from its truth [B, C] and its pixels [B, 1 or C]."""
    return truth > 0 if entries.absent == "skip" and not entries.every else (pixels > 0).expand_as(truth)


def chosen_sums(function: str, sums: Sums, entries: Entries) -> Sums:
    """The sums of the chosen classes, over the batch and over ranks if the scope says so."""
    if entries.scope == "image" and entries.classes is None:
        return sums
    parts = [sums.intersection, sums.prediction, sums.truth, sums.pixels]
    if entries.scope == "batch":
        parts = sum_over_ranks([part.sum(0, keepdim=True) for part in parts], entries.group)
    if entries.classes is not None:
        number = sums.truth.shape[1]
        check_classes(function, entries.classes, number)
        index = torch.tensor(list(entries.classes), device=sums.truth.device)
        parts = [part if part.shape[1] != number else part.index_select(1, index) for part in parts]
    return Sums(sums.terms, sums.weight, *parts)


def check_classes(function: str, classes: Sequence[int], number: int) -> None:
    """Refuse what names no class."""
    wrong = [c for c in classes if not 0 <= c < number]
    if wrong or not classes:
        got = f"{wrong[0]}" if wrong else "none"
        raise ValueError(f"{function}: `classes` must name classes in [0, {number}), got {got}.")
