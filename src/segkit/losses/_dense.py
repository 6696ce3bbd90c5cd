"""One block of pixels with one number for each class: soft targets under softmax, and yes-or-no channels under sigmoid.

The formulas are those of `_softmax`, with t_c in place of [y = c]. For sigmoid each channel is a pixel of its own, with
two answers: yes with probability p and no with 1 - p.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ._focal import focal_slope, focal_term
from ._spec import Spec


class Truth(NamedTuple):
    """``share`` [b, C, n], 0 where ignored; ``valid`` and ``weight`` ([b, 1 or C, n]) are None if all count 1."""

    share: Tensor
    valid: Tensor | None
    weight: Tensor | None


def read_truth(target: Tensor, pixel_weights: Tensor | None, classes: int, spec: Spec, dtype: torch.dtype) -> Truth:
    """[b, C, n] numbers, or [b, n] labels that become one-hot here, in one block only."""
    if target.ndim == 2:
        from ._softmax import read_labels

        labels = read_labels(target, pixel_weights, classes, spec, dtype)
        share = torch.zeros(target.shape[0], classes, target.shape[1], dtype=dtype, device=target.device)
        share.scatter_(1, labels.y[:, None], 1)
        valid = None if labels.valid is None else labels.valid[:, None]
        weight = None if labels.weight is None else labels.weight[:, None]
        return Truth(share if valid is None else torch.where(valid, share, 0), valid, weight)
    valid, weight = None, None
    if not target.is_floating_point():
        valid = target.long() != spec.ignore_index
        share = torch.where(valid, target, 0)
        if target.device.type == "cpu" and share.numel() and (int(share.max()) > 1 or int(share.min()) < 0):
            raise ValueError(
                f"{spec.function}: `target` must hold 0, 1 or {spec.ignore_index} (ignored), got {int(share.max())}. "
                "If it holds class indices, use mode='multiclass'; 255 for foreground becomes 1 with (target > 0)."
            )
        weight = valid.to(dtype)
    else:
        share = target
    if pixel_weights is not None:
        counts = (pixel_weights != 0)[:, None]
        valid = counts if valid is None else valid & counts
        weight = torch.where(valid, pixel_weights[:, None], 0).to(dtype)
        share = torch.where(valid, share, 0)
    return Truth(share.to(dtype), valid, weight)


def clean(x: Tensor, truth: Truth, dtype: torch.dtype) -> Tensor:
    """The logits of a block in ``dtype``; 0 where ignored, so that NaN there goes nowhere (the weight is 0 as well)."""
    return (x if truth.valid is None else torch.where(truth.valid, x, 0)).to(dtype)


def terms(x: Tensor, truth: Truth, factors: Tensor, spec: Spec) -> Tensor:
    """Loss of each pixel and class [b, C, n], without pixel weights.

    Args:
        x: clean logits.
        truth: of the block.
        factors: [2, C] for sigmoid (of a no, of a yes), [C] for softmax.
        spec: settings of the pass.
    """
    if spec.sigmoid:
        p, loss_yes, loss_no = x.sigmoid(), softplus(-x), softplus(x)
        yes = truth.share * factors[1][:, None] * focal_term(p, loss_yes, spec.gamma)
        return yes + (1 - truth.share) * factors[0][:, None] * focal_term((-x).sigmoid(), loss_no, spec.gamma)
    nll = torch.log_softmax(x, 1).neg_()
    share = smooth(truth.share, spec) * factors[:, None]
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
    """Gradient by the logits, [b, C, n]; the upstream gradients are [b, 1 or C, 1 or n], pixel weights not in them."""
    p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
    grad = torch.zeros_like(p)
    if by_inter is not None and by_pred is not None:
        a = truth.share * by_inter + (by_pred if spec.power == 1 else 2 * by_pred * p)  # d loss / d p
        grad += p * (1 - p) * a if spec.sigmoid else p * (a - (p * a).sum(1, keepdim=True))
    if by_terms is not None and spec.sigmoid:
        q = (-x).sigmoid()  # 1 - p, with all its digits
        yes = -truth.share * factors[1][:, None] * q * focal_slope(p, spec.gamma)
        no = (1 - truth.share) * factors[0][:, None] * p * focal_slope(q, spec.gamma)
        grad += (yes + no) * by_terms
    elif by_terms is not None:
        u = smooth(truth.share, spec) * factors[:, None] * focal_slope(p, spec.gamma)  # d loss / d (-log p_c)
        grad += (p * u.sum(1, keepdim=True) - u) * by_terms
    if truth.weight is not None:
        grad = grad * truth.weight
    return grad


def smooth(share: Tensor, spec: Spec) -> Tensor:
    """Spread a part of the truth evenly over all classes."""
    return share if spec.smoothing == 0 else share * (1 - spec.smoothing) + spec.smoothing / share.shape[1]
