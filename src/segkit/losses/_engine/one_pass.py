"""Losses that share one pass over the pixels: what each asks of it, and their weighted sum."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.operator import one_number, pixel_sums
from segkit.losses._engine.reduce import Entries, divisor, reduce_entries, sum_over_ranks, weighted_mean
from segkit.losses._engine.route import choose
from segkit.losses._engine.streamed.at_once import Goal, Region
from segkit.losses._engine.wanted import Flat, Inputs, Spec, Sums

Formula = Callable[[Sums], Tensor]


class Sloped:
    """A formula that knows its derivatives, so that no graph is needed."""

    def __call__(self, s: Sums) -> Tensor:
        """The loss of each image and class, [B, C]."""
        raise NotImplementedError

    def slopes(self, s: Sums, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss times ``share``, and its derivatives by intersection and by prediction, [B, C] each."""
        raise NotImplementedError


class Pixelwise(NamedTuple):
    """A loss that is a sum over pixels: focal cross-entropy; with gamma 0 it is cross-entropy."""

    gamma: float = 0.0
    smoothing: float = 0.0
    class_weights: Tensor | None = None
    alpha: Tensor | None = None


class Regionwise(NamedTuple):
    """A loss that is a formula on the sums of images and classes."""

    formula: Formula
    entries: Entries
    power: int = 1
    smaller: bool = False


Part = Pixelwise | Regionwise


def evaluate(flat: Flat, part: Part, reduction: str, group: Any) -> Tensor:
    """What a loss of one part returns."""
    if flat.asked is not None:
        return total(flat, [(1.0, part)], reduction, group)
    if reduction != "none":
        return _one_pass(flat, [(1.0, part)], reduction, group)
    spec, inputs = _spec([(1.0, part)], flat, "map")
    sums, terms, _ = pixel_sums(inputs, spec, flat.size)
    if isinstance(part, Regionwise):
        assert sums is not None
        return reduce_region(part, sums, reduction, group)
    assert terms is not None
    return terms.reshape(flat.shape)


def total(flat: Flat, parts: Sequence[tuple[float, Part]], reduction: str, group: Any) -> Tensor:
    """The weighted sum of losses that are one number each, from as few passes as it takes."""
    if flat.asked is not None:  # a compound makes the pass
        flat.asked.extend(parts)
        return flat.source
    return functools.reduce(torch.add, [_one_pass(flat, some, reduction, group) for some in passes(parts)])


def passes(parts: Sequence[tuple[float, Part]]) -> list[list[tuple[float, Part]]]:
    """Which parts share a pass: in each is one loss of pixels, and one kind of sums for all losses of regions."""
    found: list[list[tuple[float, Part]]] = []
    for weight, part in parts:
        for some in found:
            if not any(_differ(part, other) for _, other in some):
                some.append((weight, part))
                break
        else:
            found.append([(weight, part)])
    return found


def _differ(one: Part, other: Part) -> bool:
    if isinstance(one, Regionwise) and isinstance(other, Regionwise):
        return (one.power, one.smaller) != (other.power, other.smaller)
    return isinstance(one, Pixelwise) and isinstance(other, Pixelwise)


def _spec(parts: Sequence[tuple[float, Part]], flat: Flat, how: str) -> tuple[Spec, Inputs]:
    """What the pass for these parts is asked, and given."""
    logits, target, weights = flat.inputs[0], flat.inputs[1], flat.inputs[2]
    pixelwise = next((part for _, part in parts if isinstance(part, Pixelwise)), None)
    regions = [part for _, part in parts if isinstance(part, Regionwise)]
    power, smaller = (regions[0].power, regions[0].smaller) if regions else (1, False)
    common = (flat.function, flat.mode != "multiclass", flat.ignore_index)
    if pixelwise is None:
        return Spec(*common, power=power, region=True, smaller=smaller), Inputs(logits, target, weights)
    spec = Spec(*common, pixelwise.gamma, pixelwise.smoothing, power, how, len(regions) > 0, smaller)
    return spec, Inputs(logits, target, weights, pixelwise.class_weights, pixelwise.alpha)


def _one_pass(flat: Flat, parts: Sequence[tuple[float, Part]], reduction: str, group: Any) -> Tensor:
    spec, inputs = _spec(parts, flat, "image")
    sloped = [(w, p, p.formula) for w, p in parts if isinstance(p, Regionwise) and isinstance(p.formula, Sloped)]
    known = group is None and len(sloped) == sum(isinstance(p, Regionwise) for _, p in parts)
    by_image = all(part.entries.scope == "image" for _, part, _ in sloped)
    route = choose(inputs, spec, flat.size, known, by_image)
    if route.call == "at_once":
        factor = sum(weight for weight, part in parts if isinstance(part, Pixelwise))
        region = functools.partial(_regions, sloped, reduction) if sloped else None
        goal = Goal(factor, reduction == "mean", region)
        return one_number(flat.source, inputs, spec, flat.size, goal, route)
    sums, terms, weight = pixel_sums(inputs, spec, flat.size, route)
    losses = []
    for factor, part in parts:
        if isinstance(part, Regionwise):
            assert sums is not None
            loss = reduce_region(part, sums, reduction, group)
        else:
            assert terms is not None
            assert weight is not None
            loss = (
                weighted_mean(terms, weight, group) if reduction == "mean" else sum_over_ranks([terms.sum()], group)[0]
            )
        losses.append(loss if factor == 1 else factor * loss)
    return functools.reduce(torch.add, losses)


def reduce_region(part: Regionwise, sums: Sums, reduction: str, group: Any) -> Tensor:
    """Apply a formula to the sums of a pass, and bring images and classes together."""
    entries = part.entries
    inter, pred, truth, pixels = entries.gather(sums, group)
    loss = part.formula(Sums(inter, pred, truth, pixels))
    if loss.shape[1] == 1 < truth.shape[1]:  # one number for all classes of an image
        truth, pixels = truth.sum(1, keepdim=True), pixels.amax(1, keepdim=True)
        entries = Entries(entries.scope, None, entries.absent, None, entries.every)
    if entries.absent in ("zero", "one"):
        loss = torch.where(truth > 0, loss, float(entries.absent == "one"))
    return reduce_entries(loss, entries.weights(truth, pixels), reduction, group if entries.scope == "image" else None)


def _regions(parts: Sequence[tuple[float, Regionwise, Sloped]], reduction: str, truth: Tensor) -> Region:
    """How losses depend on the intersections and predictions of some images, for a truth [B, C] of hard labels."""
    all_pixels = truth.sum(1, keepdim=True)
    known = []
    for factor, part, _ in parts:
        own_truth, pixels = part.entries.gather((truth, all_pixels))
        weights = part.entries.weights(own_truth, pixels)
        factor = factor / float(divisor(weights)) if reduction == "mean" else factor
        known.append((own_truth, pixels, weights.to(truth.dtype).mul(factor)))

    def region(rows: slice, intersection: Tensor, prediction: Tensor) -> tuple[float, Tensor, Tensor]:
        loss, slopes = 0.0, []
        for (_, part, formula), of_batch in zip(parts, known, strict=True):
            inter, pred = part.entries.gather((intersection, prediction))
            own_truth, pixels, share = (t if len(t) == len(inter) else t[rows] for t in of_batch)
            sums, absent = Sums(inter, pred, own_truth, pixels), part.entries.absent
            there = own_truth > 0 if absent in ("zero", "one") else None
            each, *by = formula.slopes(sums, share if there is None else torch.where(there, share, 0))
            loss += float((each if absent != "one" else torch.where(own_truth > 0, each, share)).sum())
            slopes.append([part.entries.spread(b, *intersection.shape) for b in by])
        by_inter, by_pred = (functools.reduce(torch.add, by) for by in zip(*slopes, strict=True))
        return loss, by_inter, by_pred

    return region
