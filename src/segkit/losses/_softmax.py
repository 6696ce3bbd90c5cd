"""One block of pixels with one class each: softmax, its sums, and the gradient from the upstream gradients.

With p = softmax(x) along the classes, y the class of a pixel and w its weight, the pass sums

    terms = w f(-log p_y)    intersection_c = w p_c [y = c]    prediction_c = w p_c^power    truth_c = w [y = c]

and with a = d loss / d p the gradient is p (a - <p, a>) for the sums and f'(p - [y = c]) for the terms.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._focal import ALMOST_ZERO
from ._spec import Spec


class Labels(NamedTuple):
    """The labels of a block: ``y`` int64, 0 where ignored; ``valid`` and ``weight`` are None if all count 1."""

    y: Tensor
    valid: Tensor | None
    weight: Tensor | None


def read_labels(target: Tensor, pixel_weights: Tensor | None, classes: int, spec: Spec, dtype: torch.dtype) -> Labels:
    """[b, n] labels as they are stored → labels that can index; checks their range where that costs no wait."""
    index = target.long()
    valid = index != spec.ignore_index
    if pixel_weights is not None:
        valid &= pixel_weights != 0
    on_cpu = index.device.type == "cpu"
    if pixel_weights is None and on_cpu and bool(valid.all()):
        labels = Labels(index, None, None)
    else:
        weight = valid.to(dtype) if pixel_weights is None else torch.where(valid, pixel_weights, 0).to(dtype)
        labels = Labels(torch.where(valid, index, 0), valid, weight)
    if on_cpu and index.numel():
        low, high = (int(x) for x in torch.aminmax(labels.y))
        if low < 0 or high >= classes:
            raise ValueError(
                f"{spec.function}: `target` must hold labels in [0, {classes}) or {spec.ignore_index} (ignored), got "
                f"{low if low < 0 else high}. labels.validate_target(target, {classes}) finds where; "
                "pass ignore_index=... if that label is to be left out."
            )
    return labels


def probabilities(x: Tensor, labels: Labels, out: Tensor) -> Tensor:
    """Softmax of ``x`` [b, C, n] into ``out``; an ignored pixel becomes 1/C, whatever its logits, NaN included."""
    if labels.valid is not None:
        x = torch.where(labels.valid[:, None], x, 0)
    return torch.softmax(x.to(out.dtype), 1, out=out)


def answers(p: Tensor, x: Tensor, labels: Labels, log: bool) -> tuple[Tensor, Tensor]:
    """The probability of each pixel's class, 1 where ignored, and -log of it (if ``log``), both [b, n]."""
    p_y = p.gather(1, labels.y[:, None])[:, 0]
    if labels.valid is not None:
        p_y = torch.where(labels.valid, p_y, 1)
    if not log:
        return p_y, p_y
    if p_y.device.type == "cpu" and (p_y.numel() == 0 or float(p_y.min()) > ALMOST_ZERO):
        return p_y, p_y.log().neg_()
    # exp(-104) is 0 in float32: far-off answers need the logarithm of the softmax, at the price of a second exp.
    if labels.valid is not None:
        x = torch.where(labels.valid[:, None], x, 0)
    nll = torch.log_softmax(x.to(p.dtype), 1).gather(1, labels.y[:, None])[:, 0].neg_()
    return p_y, nll if labels.valid is None else torch.where(labels.valid, nll, 0)


def term_weight(labels: Labels, *per_class: Tensor | None) -> Tensor | None:
    """Pixel weight times the weights of the pixel's class, [b, n]; None if all are 1."""
    weight = labels.weight
    for table in per_class:
        if table is not None:
            of_class = table.to(torch.float32 if weight is None else weight.dtype)[labels.y]
            weight = of_class if weight is None else weight * of_class
    return weight


def gradient_(
    p: Tensor, labels: Labels, slope: Tensor, by_inter: Tensor | None, by_pred: Tensor | None, spec: Spec
) -> Tensor:
    """Turn ``p`` [b, C, n] into the gradient by the logits, in place.

    Args:
        p: the probabilities.
        labels: of the block.
        slope: d loss / d (-log p_y) of each pixel, weights included, [b, n].
        by_inter: d loss / d intersection, [b, C], or None without region sums.
        by_pred: d loss / d prediction, [b, C].
        spec: settings of the pass.
    """
    y = labels.y[:, None]  # [b, 1, n]
    p_y = p.gather(1, y)[:, 0]
    # The gradient is p * scale everywhere, plus at_class at the pixel's class.
    scale, at_class = slope, -slope
    if by_inter is not None and by_pred is not None:
        # a_c = d loss / d p_c has a part from the prediction, for each class, and one from the intersection, at y only.
        a = by_pred[:, :, None] if spec.power == 1 else 2 * by_pred[:, :, None] * p
        own = p_y * by_inter.gather(1, labels.y)
        mean = (p * a).sum(1) + own  # <p, a>
        if labels.weight is not None:
            own, mean, a = own * labels.weight, mean * labels.weight, a * labels.weight[:, None]
        scale, at_class = scale - mean, at_class + own
    if labels.valid is not None:
        scale, at_class = torch.where(labels.valid, scale, 0), torch.where(labels.valid, at_class, 0)
    p.mul_(scale[:, None] if by_pred is None else scale[:, None] + a)
    return p.scatter_(1, y, p.gather(1, y).add_(at_class[:, None]))
