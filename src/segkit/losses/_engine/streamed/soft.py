"""One block of pixels with one number for each class: soft targets under softmax, and yes-or-no channels under sigmoid.

The formulas are those of `hard`, with t_c in place of [y = c]. For sigmoid each channel is a pixel of its own, with
two answers: yes with probability p and no with 1 - p.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from segkit.losses._engine.focal import focal_slope, focal_term
from segkit.losses._engine.streamed.blocks import Block, Logits, blocks, sum_dtype
from segkit.losses._engine.streamed.labels import check_range, ignored, read_labels
from segkit.losses._engine.streamed.surest import SURE, mend_, surest
from segkit.losses._engine.streamed.totals import Totals
from segkit.losses._engine.tracing import readable, transformed
from segkit.losses._engine.wanted import Inputs, Spec, Upstream


class Truth(NamedTuple):
    """``share`` [b, C, n], 0 where ignored; ``valid`` and ``weight`` ([b, 1 or C, n]) are None if all count 1."""

    share: Tensor
    valid: Tensor | None
    weight: Tensor | None


def forward(logits: Logits, inputs: Inputs, spec: Spec, totals: Totals) -> None:
    """Add all blocks to ``totals``."""
    for block in blocks(*logits.shape, logits.row):
        truth = read_truth(inputs, block, spec, logits)
        x = clean(logits.read(block), truth, logits.dtype)
        weight = x.new_ones(()) if truth.weight is None else truth.weight
        if spec.pixelwise != "none":
            term = pixel_losses(x, truth, factors(inputs, spec, x), spec) * weight
            channels = x.shape[1] if spec.sigmoid else 1
            counted = (weight * denominator(truth.share, inputs, spec)).expand(len(x), channels, -1)
            totals.add_terms(block, term if spec.sigmoid else term.sum(1, keepdim=True), counted)
        if spec.region:
            p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
            channels = x.shape[1] if spec.sigmoid else 1
            totals.add_region(
                block,
                ((torch.minimum(p, truth.share) if spec.smaller else p * truth.share) * weight).sum(2),
                ((p if spec.power == 1 else p * p) * weight).sum(2),
                ((truth.share if spec.power == 1 else truth.share**2) * weight).sum(2),
                weight.expand(len(x), channels, x.shape[2]).sum(2),
            )


def backward(logits: Logits, inputs: Inputs, spec: Spec, by: Upstream) -> None:
    """Write the gradient by the logits."""
    by_terms, *by_region = by
    for block in blocks(*logits.shape, logits.row):
        truth = read_truth(inputs, block, spec, logits)
        x = clean(logits.read(block), truth, logits.dtype)
        of_terms = None
        if by_terms is not None:
            of_terms = block.cut(by_terms) if spec.pixelwise == "map" else block.rows(by_terms)[:, None, None]
        inter, pred = (None if by is None else block.rows(by)[:, :, None] for by in by_region)
        logits.write(block, gradient(x, truth, factors(inputs, spec, x), of_terms, inter, pred, spec))


def read_truth(inputs: Inputs, block: Block, spec: Spec, logits: Logits, known: bool = False) -> Truth:
    """The truth of a block: numbers as they are, labels as one-hot (in this one block only).

    ``known``: labels that `all_count`.
    """
    if inputs.target.ndim == 2:
        classes = logits.shape[1]
        labels = read_labels(inputs, block, spec, classes, logits.dtype, known)
        if not known:
            check_range(labels.y, classes, spec)
        share = torch.zeros((len(labels.y), classes, labels.y.shape[1]), dtype=logits.dtype, device=logits.device)
        share.scatter_(1, labels.y.long()[:, None], 1)
        valid, weight = (None if t is None else t[:, None] for t in (labels.valid, labels.weight))
        return Truth(share if valid is None else torch.where(valid, share, 0), valid, weight)
    target = block.cut(inputs.target)
    pixel_weights = None if inputs.pixel_weights is None else block.cut(inputs.pixel_weights)
    if pixel_weights is not None and pixel_weights.ndim == 2:
        pixel_weights = pixel_weights[:, None]
    valid, weight, share = None, None, target
    if not target.is_floating_point():
        valid = target.long() != spec.ignore_index
        share = torch.where(valid, target, 0)
        check_yes_or_no(share, spec)
        weight = valid.to(logits.dtype)
    if pixel_weights is not None:
        counts = pixel_weights != 0
        valid = counts if valid is None else valid & counts
        weight = torch.where(valid, pixel_weights, 0).to(logits.dtype)
        share = torch.where(valid, share, 0)
    return Truth(share.to(logits.dtype), valid, weight)


def check_yes_or_no(share: Tensor, spec: Spec) -> None:
    """Refuse labels other than 0 and 1."""
    if not readable(share):
        return
    low, high = (int(x) for x in torch.aminmax(share)) if share.numel() else (0, 0)
    if low < 0 or high > 1:
        raise ValueError(
            f"{spec.function}: `target` must hold 0, 1{ignored(spec)}, got "
            f"{low if low < 0 else high}. If it holds class indices, use mode='multiclass'; "
            "255 for foreground becomes 1 with (target > 0)."
        )


def clean(x: Tensor, truth: Truth, dtype: torch.dtype) -> Tensor:
    """The logits of a block in ``dtype``; 0 where ignored, so that NaN there goes nowhere (the weight is 0 as well)."""
    return (x if truth.valid is None else torch.where(truth.valid, x, 0)).to(dtype)


def probabilities(x: Tensor, spec: Spec) -> Tensor:
    """The probabilities, in float64 where one is sure: so 1 - p has its digits, in the gradient by autograd too."""
    p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
    if readable(p) and p.numel() and not transformed():
        low, high = (float(v) for v in torch.aminmax(p.detach()))
        if high < 1 - SURE and (low > SURE or not spec.sigmoid):
            return p
    wide = x.to(sum_dtype(x.device))
    return wide.sigmoid() if spec.sigmoid else torch.softmax(wide, 1)


def pixel_losses(x: Tensor, truth: Truth, factors: Tensor, spec: Spec) -> Tensor:
    """Loss of each pixel and class [b, C, n], without pixel weights.

    Args:
        x: clean logits.
        truth: of the block.
        factors: [2, C] for sigmoid (of a no, of a yes), [C] for softmax.
        spec: settings of the pass.
    """
    if spec.sigmoid:
        p, loss_yes, loss_no = x.sigmoid(), softplus(-x), softplus(x)
        share = spread(truth.share, spec)
        yes = share * factors[1][:, None] * focal_term(p, loss_yes, spec.gamma)
        return yes + (1 - share) * factors[0][:, None] * focal_term((-x).sigmoid(), loss_no, spec.gamma)
    nll = torch.log_softmax(x, 1).neg_()
    share = spread(truth.share, spec) * factors[:, None]
    # A class that cannot be (logit -inf) and has no share of the truth costs nothing, rather than 0 * inf.
    return torch.where(share == 0, 0, share * focal_term(nll.neg().exp(), nll, spec.gamma))


def gradient(
    x: Tensor,
    truth: Truth,
    factors: Tensor,
    by_terms: Tensor | None,
    by_inter: Tensor | None,
    by_pred: Tensor | None,
    spec: Spec,
) -> Tensor:
    """Gradient by the logits, [b, C, n], from those by the terms, and by intersection and prediction, [b, C, 1]."""
    p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
    grad = torch.zeros_like(p)
    if by_inter is not None and by_pred is not None:
        # d loss / d p: of p t, or of the smaller of p and t
        of_inter = (p < truth.share).to(p.dtype) if spec.smaller else truth.share
        a = of_inter * by_inter + (by_pred if spec.power == 1 else 2 * by_pred * p)
        if spec.sigmoid:
            grad += p * (-x).sigmoid() * a  # 1 - p, with all its digits
        else:
            grad += p * (a - (p * a).sum(1, keepdim=True))
    if by_terms is not None and spec.sigmoid:
        q = (-x).sigmoid()  # 1 - p, with all its digits
        share = spread(truth.share, spec)
        yes = -share * factors[1][:, None] * q * focal_slope(p, spec.gamma)
        no = (1 - share) * factors[0][:, None] * p * focal_slope(q, spec.gamma)
        grad += (yes + no) * by_terms
    elif by_terms is not None:
        u = spread(truth.share, spec) * factors[:, None] * focal_slope(p, spec.gamma)  # d loss / d (-log p_c)
        grad += (p * u.sum(1, keepdim=True) - u) * by_terms
    if by_inter is not None and not spec.sigmoid:
        mend_(grad, surest(p))
    return grad if truth.weight is None else grad * truth.weight


def spread(share: Tensor, spec: Spec) -> Tensor:
    """Spread a part of the truth evenly over all classes; for sigmoid, give it to the other answer."""
    if spec.smoothing == 0:
        return share
    if spec.sigmoid:
        return share * (1 - 2 * spec.smoothing) + spec.smoothing
    return share * (1 - spec.smoothing) + spec.smoothing / share.shape[1]


def factors(inputs: Inputs, spec: Spec, x: Tensor) -> Tensor:
    """Class weight times alpha: [C], for sigmoid [2, C] (of a no, of a yes)."""
    table = x.new_ones((2, x.shape[1]) if spec.sigmoid else x.shape[1])
    for part in (inputs.class_weights, inputs.alpha):
        table = table if part is None else table * part
    return table


def denominator(share: Tensor, inputs: Inputs, spec: Spec) -> Tensor:
    """The class weight of each pixel (for sigmoid of each channel of it): a mean divides by the sum of these."""
    if inputs.class_weights is None:
        return share.new_ones((1, 1, share.shape[2]))
    table = inputs.class_weights
    if spec.sigmoid:
        return share * table[1][:, None] + (1 - share) * table[0][:, None]
    return (share * table[:, None]).sum(1, keepdim=True)
