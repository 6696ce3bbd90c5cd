"""The pass for pixels with one class each: softmax, sums, and the gradient from the gradients by those sums.

With p = softmax(x) along the classes, y the class of a pixel and w its weight, the pass sums

    terms = w f(-log p_y)    intersection_c = w p_c [y = c]    prediction_c = w p_c^power    truth_c = w [y = c]

and with a = d loss / d p the gradient by x is p (a - <p, a>) for the sums and f' (p - [y = c]) for the terms.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._blocks import Block, Logits, blocks, readable
from ._focal import ALMOST_ZERO, focal_slope, focal_term
from ._spec import Inputs, Spec, Totals


class Labels(NamedTuple):
    """Labels of a block [b, n]: ``y`` int64, 0 where ignored; ``valid`` and ``weight`` are None if all count 1."""

    y: Tensor
    valid: Tensor | None
    weight: Tensor | None


def forward(logits: Logits, inputs: Inputs, spec: Spec, buffer: Tensor | None, totals: Totals) -> None:
    """Add all blocks to ``totals``; the probabilities are left in ``buffer`` [B, C, N] if there is one."""
    clean = all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row):
        x = logits.read(block)
        labels = read_labels(inputs, block, spec, x.shape[1], logits.dtype, clean)
        if not clean:
            check_range(labels.y, x.shape[1], spec)
        p = probabilities(x, labels, logits.scratch(x) if buffer is None else block.cut(buffer))
        flat, place = place_of_class(p, labels.y)
        p_y = flat.index_select(0, place).view(labels.y.shape)
        if labels.valid is not None:
            p_y = torch.where(labels.valid, p_y, 1)
        if spec.terms != "none":
            term = focal_term(p_y, minus_log(p_y, x, labels, logits.dtype), spec.gamma)
            weight = term_weight(labels, inputs.class_weights, inputs.alpha)
            counted = weight if inputs.alpha is None else term_weight(labels, inputs.class_weights)
            totals.add_terms(block, term if weight is None else term * weight, counted)
        if spec.region:
            per_class = p if spec.power == 1 else p * p
            if labels.weight is not None:
                per_class, p_y = per_class * labels.weight[:, None], p_y * labels.weight
            block.rows(totals.prediction).add_(per_class.sum(2))
            add_by_class(block.rows(totals.intersection), labels.y, p_y)
            weight = p_y.new_ones(()).expand_as(p_y) if labels.weight is None else labels.weight
            add_by_class(block.rows(totals.truth), labels.y, weight)
            block.rows(totals.pixels).add_(weight.sum(1, keepdim=True))


def backward(
    logits: Logits,
    inputs: Inputs,
    spec: Spec,
    by_terms: Tensor,
    by_inter: Tensor,
    by_pred: Tensor,
    buffer: Tensor | None,
) -> None:
    """Write the gradient by the logits; if ``buffer`` holds the probabilities, over them."""
    clean = all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row):
        labels = read_labels(inputs, block, spec, logits.shape[1], logits.dtype, clean)
        if buffer is None:
            x = logits.read(block)
            p = probabilities(x, labels, logits.scratch(x))
        else:
            p = block.cut(buffer)
        upstream = block.cut(by_terms)[:, 0] if spec.terms == "map" else by_terms
        region = (block.rows(by_inter), block.rows(by_pred)) if spec.region else None
        gradient_(p, labels, inputs, spec, upstream, region)
        if buffer is None:
            logits.write(block, p)


def gradient_(
    p: Tensor, labels: Labels, inputs: Inputs, spec: Spec, by_terms: Tensor, region: tuple[Tensor, Tensor] | None
) -> None:
    """Turn the probabilities of a block, [b, C, n], into the gradient by its logits, in place."""
    flat, place = place_of_class(p, labels.y)
    p_y = flat.index_select(0, place).view(labels.y.shape)
    scale = p_y.new_zeros(())
    if spec.terms != "none":
        weight = term_weight(labels, inputs.class_weights, inputs.alpha)
        scale = by_terms * focal_slope(p_y, spec.gamma)  # d loss / d (-log p_y)
        scale = scale if weight is None else scale * weight
    # The gradient is p * scale everywhere, plus at_class at the pixel's class.
    at_class = -scale
    if region is None:
        p.mul_(scale if scale.ndim == 0 else scale[:, None])
        own = torch.addcmul(at_class, p_y, scale)
    else:
        # a_c = d loss / d p_c has a part from the prediction, for each class, and one from the intersection, at y only.
        by_inter, by_pred = region
        a = by_pred[:, :, None] if spec.power == 1 else 2 * by_pred[:, :, None] * p
        at_y = p_y * of_class(by_inter, labels.y)
        weighted = p * a
        mean = weighted.sum(1) + at_y  # <p, a>
        if labels.weight is not None:
            at_y, mean, a = at_y * labels.weight, mean * labels.weight, a * labels.weight[:, None]
        p.mul_(torch.add((scale - mean)[:, None], a, out=weighted))
        own = flat.index_select(0, place).view(p_y.shape) + (at_class + at_y)
    flat.scatter_(0, place, own.view(-1))


def all_count(inputs: Inputs, spec: Spec, classes: int) -> bool:
    """Whether each pixel counts, with weight 1, and has a label in range: one look, where looking costs no wait."""
    target = inputs.target
    if inputs.pixel_weights is not None or target.device.type != "cpu" or target.numel() == 0:
        return False
    low, high = (int(x) for x in torch.aminmax(target))
    return low >= 0 and high < classes and not low <= spec.ignore_index <= high


def read_labels(
    inputs: Inputs, block: Block, spec: Spec, classes: int, dtype: torch.dtype, clean: bool = False
) -> Labels:
    """The labels of a block, in a form that can index."""
    y = block.cut(inputs.target).long()
    if clean:
        return Labels(y, None, None)
    valid = y != spec.ignore_index
    weight = None if inputs.pixel_weights is None else block.cut(inputs.pixel_weights)
    if weight is not None:
        valid &= weight != 0
    return Labels(torch.where(valid, y, 0), valid, torch.where(valid, 1 if weight is None else weight, 0).to(dtype))


def check_range(y: Tensor, classes: int, spec: Spec) -> None:
    """Refuse labels that name no class."""
    if not readable(y):
        return
    low, high = (int(x) for x in torch.aminmax(y)) if y.numel() else (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(
            f"{spec.function}: `target` must hold labels in [0, {classes}) or {spec.ignore_index} (ignored), got "
            f"{low if low < 0 else high}. labels.validate_target(target, {classes}) says where; "
            "pass ignore_index=... if that label is to be left out."
        )


def probabilities(x: Tensor, labels: Labels, out: Tensor) -> Tensor:
    """Softmax of ``x`` [b, C, n] into ``out``; an ignored pixel becomes 1/C, whatever its logits, NaN included.

    This does not make it count: its weight is 0 in each sum and in the gradient.
    """
    return torch.softmax(without_ignored(x, labels).to(out.dtype), 1, out=out)


def without_ignored(x: Tensor, labels: Labels) -> Tensor:
    """The logits, 0 where ignored."""
    return x if labels.valid is None else torch.where(labels.valid[:, None], x, 0)


def minus_log(p_y: Tensor, x: Tensor, labels: Labels, dtype: torch.dtype) -> Tensor:
    """-log of the probability of each pixel's class, from the logits where the probability is too small to have one."""
    if p_y.device.type == "cpu" and (p_y.numel() == 0 or float(p_y.min()) > ALMOST_ZERO):
        return p_y.log().neg_()
    # exp(-104) is 0 in float32: far-off answers need the logarithm of the softmax, at the price of a second exp.
    logs = torch.log_softmax(without_ignored(x, labels).to(dtype), 1)
    nll = logs.gather(1, labels.y[:, None])[:, 0].neg_()
    return nll if labels.valid is None else torch.where(labels.valid, nll, 0)


def place_of_class(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The memory of a block as one axis, and where on it each pixel's class lies.

    On the CPU one flat index_select and scatter are five to eight times faster than gather and scatter along an axis.
    """
    (batch, _, pixels), strides = p.shape, p.stride()
    span = sum((n - 1) * s for n, s in zip(p.shape, strides, strict=True)) + 1 if p.numel() else 0
    place = torch.arange(pixels, device=p.device)[None]
    if strides[2] != 1:
        place = place * strides[2]
    if batch > 1:
        place = place + torch.arange(batch, device=p.device)[:, None] * strides[0]
    return p.as_strided((span,), (1,)), torch.add(place, y, alpha=strides[1]).view(-1)


def term_weight(labels: Labels, *per_class: Tensor | None) -> Tensor | None:
    """Pixel weight times the weights of the pixel's class, [b, n]; None if all are 1."""
    weight = labels.weight
    for table in per_class:
        if table is not None:
            factor = table.index_select(0, labels.y.view(-1)).view(labels.y.shape)
            weight = factor if weight is None else weight * factor
    return weight


def of_class(table: Tensor, y: Tensor) -> Tensor:
    """table[b, y[b, n]]."""
    return table.reshape(-1).index_select(0, flat_class(y, table.shape[1])).view(y.shape)


def add_by_class(total: Tensor, y: Tensor, values: Tensor) -> None:
    """total[b, y[b, n]] += values[b, n], in the dtype of the total."""
    total.view(-1).index_add_(0, flat_class(y, total.shape[1]), values.to(total.dtype).reshape(-1))


def flat_class(y: Tensor, classes: int) -> Tensor:
    if y.shape[0] > 1:
        y = y + torch.arange(y.shape[0], device=y.device)[:, None] * classes
    return y.reshape(-1)
