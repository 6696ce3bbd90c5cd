"""Losses that share one pass over the pixels: what each asks of it, and their weighted sum."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.operator import one_number, pixel_sums
from segkit.losses._engine.reduce import (
    Entries,
    divisor,
    nonzero,
    reduce_entries,
    resolved,
    sum_over_ranks,
    weighted_mean,
)
from segkit.losses._engine.route import Route, choose
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


class Weighted(NamedTuple):
    """A part and its weight; ``note`` takes what the part is alone, without its gradient."""

    weight: float
    part: Part
    note: list[Tensor] | None = None


def evaluate(flat: Flat, part: Part, reduction: str, group: Any) -> Tensor:
    """What a loss of one part returns."""
    if flat.asked is not None:
        return total(flat, [Weighted(1.0, part)], reduction, group)
    group = resolved(group)
    if reduction != "none":
        return _one_pass(flat, [Weighted(1.0, part)], reduction, group)
    spec, inputs = _spec([Weighted(1.0, part)], flat, "map")
    sums, terms, _ = pixel_sums(inputs, spec, flat.size)
    if isinstance(part, Regionwise):
        assert sums is not None
        return reduce_region(part, sums, reduction, group)
    assert terms is not None
    return terms.reshape(flat.shape)


def total(
    flat: Flat, parts: Sequence[Weighted], reduction: str, group: Any, samples: list[Tensor] | None = None
) -> Tensor:
    """The weighted sum of losses that are one number each, from as few passes as it takes.

    ``samples`` takes the mean of the terms of each image, [B], for each loss of pixels.
    """
    if flat.asked is not None:  # a compound makes the pass
        flat.asked.extend(parts)
        return flat.source
    group = resolved(group)
    return functools.reduce(torch.add, [_one_pass(flat, some, reduction, group, samples) for some in passes(parts)])


def passes(parts: Sequence[Weighted]) -> list[list[Weighted]]:
    """Which parts share a pass: in each is one loss of pixels, and one kind of sums for all losses of regions."""
    found: list[list[Weighted]] = []
    for part in parts:
        for some in found:
            if not any(_differ(part.part, other.part) for other in some):
                some.append(part)
                break
        else:
            found.append([part])
    return found


def _differ(one: Part, other: Part) -> bool:
    if isinstance(one, Regionwise) and isinstance(other, Regionwise):
        return (one.power, one.smaller) != (other.power, other.smaller)
    return isinstance(one, Pixelwise) and isinstance(other, Pixelwise)


def _spec(parts: Sequence[Weighted], flat: Flat, how: str) -> tuple[Spec, Inputs]:
    """What the pass for these parts is asked, and given."""
    logits, target, weights = flat.inputs[0], flat.inputs[1], flat.inputs[2]
    # Lists, since the compiler of torch 2.6 knows no `next` with a default.
    regions = [some.part for some in parts if isinstance(some.part, Regionwise)]
    pixels = [some.part for some in parts if isinstance(some.part, Pixelwise)]
    power, smaller = (regions[0].power, regions[0].smaller) if regions else (1, False)
    common = (flat.function, flat.mode != "multiclass", flat.ignore_index)
    if not pixels:
        return Spec(*common, power=power, region=True, smaller=smaller), Inputs(logits, target, weights)
    first = pixels[0]
    spec = Spec(*common, first.gamma, first.smoothing, power, how, len(regions) > 0, smaller)
    return spec, Inputs(logits, target, weights, first.class_weights, first.alpha)


def _one_pass(
    flat: Flat, parts: Sequence[Weighted], reduction: str, group: Any, samples: list[Tensor] | None = None
) -> Tensor:
    spec, inputs = _spec(parts, flat, "image")
    wanted = [part for _, part, _ in parts if isinstance(part, Regionwise)]
    known = group is None and all(hasattr(part.formula, "slopes") for part in wanted)
    by_image = all(part.entries.scope == "image" for part in wanted)
    route = choose(inputs, spec, flat.size, known, by_image)
    if route.call == "at_once":
        return _at_once(flat, spec, inputs, parts, reduction, samples, route)
    sums, terms, weight = pixel_sums(inputs, spec, flat.size, route)
    losses = []
    for factor, part, note in parts:
        if isinstance(part, Regionwise):
            assert sums is not None
            loss = reduce_region(part, sums, reduction, group)
        else:
            assert terms is not None
            assert weight is not None
            loss = (
                weighted_mean(terms, weight, group) if reduction == "mean" else sum_over_ranks([terms.sum()], group)[0]
            )
            if samples is not None:
                samples.append(terms.detach() / weight)
        if note is not None:
            note.append(loss.detach())
        losses.append(loss if factor == 1 else factor * loss)
    return functools.reduce(torch.add, losses)


def _at_once(
    flat: Flat,
    spec: Spec,
    inputs: Inputs,
    parts: Sequence[Weighted],
    reduction: str,
    samples: list[Tensor] | None,
    route: Route,
) -> Tensor:
    """The loss with its gradient made along, and with what is to be noted of it."""
    x, regions = inputs.logits, [some for some in parts if isinstance(some.part, Regionwise)]
    pixels = next((some for some in parts if isinstance(some.part, Pixelwise)), None)
    noted = samples is not None or any(some.note is not None for some in parts)
    per_image = x.new_zeros((len(x), 2), dtype=torch.float64) if noted and pixels is not None else None
    values = [0.0] * len(regions)
    region = functools.partial(_regions, regions, reduction, values) if regions else None
    goal = Goal(0.0 if pixels is None else pixels.weight, reduction == "mean", region, per_image)
    loss = one_number(flat.source, inputs, spec, flat.size, goal, route)
    for some, value in zip(regions, values, strict=True):
        if some.note is not None:
            some.note.append(torch.full((), value, dtype=loss.dtype, device=loss.device))
    if per_image is not None and pixels is not None:
        terms, weight = per_image.clone().unbind(1)
        if pixels.note is not None:
            alone = terms.sum() / nonzero(weight.sum()) if reduction == "mean" else terms.sum()
            pixels.note.append(alone.to(loss.dtype))
        if samples is not None:
            samples.append((terms / weight).to(loss.dtype))
    return loss


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


def _regions(parts: Sequence[Weighted], reduction: str, values: list[float], truth: Tensor) -> Region:
    """How losses depend on the intersections and predictions of some images, for a truth [B, C] of hard labels.

    ``values`` takes what each is alone.
    """
    all_pixels = truth.sum(1, keepdim=True)
    known: list[tuple[Tensor, ...]] = []
    for number, (_, part, _) in enumerate(parts):
        assert isinstance(part, Regionwise)
        own_truth, pixels = part.entries.gather((truth, all_pixels))
        weights = part.entries.weights(own_truth, pixels)
        share = weights.to(truth.dtype)
        known.append((own_truth, pixels, share / float(divisor(weights)) if reduction == "mean" else share))
        values[number] = 0.0

    def region(rows: slice, intersection: Tensor, prediction: Tensor) -> tuple[float, Tensor, Tensor]:
        loss, slopes = 0.0, []
        for number, ((factor, part, _), of_batch) in enumerate(zip(parts, known, strict=True)):
            assert isinstance(part, Regionwise)
            assert isinstance(part.formula, Sloped)
            inter, pred = part.entries.gather((intersection, prediction))
            own_truth, pixels, share = (t if len(t) == len(inter) else t[rows] for t in of_batch)
            sums, absent = Sums(inter, pred, own_truth, pixels), part.entries.absent
            there = own_truth > 0 if absent in ("zero", "one") else None
            each, *by = part.formula.slopes(sums, share if there is None else torch.where(there, share, 0))
            value = float((each if absent != "one" else torch.where(own_truth > 0, each, share)).sum())
            values[number] += value
            loss += factor * value
            slopes.append([part.entries.spread(b if factor == 1 else b * factor, *intersection.shape) for b in by])
        by_inter, by_pred = (functools.reduce(torch.add, by) for by in zip(*slopes, strict=True))
        return loss, by_inter, by_pred

    return region
