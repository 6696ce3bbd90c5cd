"""The pass for pixels with one class each: softmax, sums, and the gradient from the gradients by those sums.

With p = softmax(x) along the classes, y the class of a pixel and w its weight, the pass sums

    terms = w f(-log p_y)    intersection_c = w p_c [y = c]    prediction_c = w p_c^power    truth_c = w [y = c]

and with a = d loss / d p the gradient by x is p (a - <p, a>) for the sums and f' (p - [y = c]) for the terms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.focal import ALMOST_ZERO, focal_slope, focal_term
from segkit.losses._engine.route import FEW, LONG, all_count, few
from segkit.losses._engine.streamed import surest
from segkit.losses._engine.streamed.blocks import Block, Logits, blocks
from segkit.losses._engine.streamed.by_class import (
    add_at_,
    add_by_class,
    add_by_class_,
    at_class,
    at_place,
    in_memory,
    of_all_classes,
    sums_by_class,
)
from segkit.losses._engine.streamed.labels import Labels, check_range, read_labels, term_weight, truth_by_class
from segkit.losses._engine.streamed.surest import sum_over_classes, sure_and_right, sure_and_wrong
from segkit.losses._engine.streamed.totals import Totals
from segkit.losses._engine.tracing import readable
from segkit.losses._engine.wanted import Inputs, Spec, Upstream


class Pixels(NamedTuple):
    """A block after the softmax: ``p`` [b, C, n], the ``place`` of each pixel's class in it, and ``p_y`` there, [b, n].

    ``class_index`` is what `of_all_classes` gives. It and ``place`` may be None, and are made when they are needed.
    ``own`` is p at each pixel's class and 0 elsewhere, where `Labels` have one-hot numbers. All p_y are in ``low`` to
    ``high``, NaN if one is; no p is above ``highest``. Where these are not known, they are 0 and 1.

    What an ignored pixel gets does not count: its weight is 0 in each sum and in the gradient. But it is a number, even
    where the logits are not.
    """

    labels: Labels
    class_index: Tensor | None
    p: Tensor
    place: Tensor | None
    p_y: Tensor
    own: Tensor | None = None
    low: float = 0
    high: float = 1
    highest: float = 1


class Slopes(NamedTuple):
    """Gradients of the loss by the sums of a block.

    ``by_nll``: by -log p_y, weighted, [b, n] or one number; ``by_inter`` and ``by_pred``: [b, C]. None is 0.
    """

    by_nll: Tensor | float | None
    by_inter: Tensor | None
    by_pred: Tensor | None


def forward(logits: Logits, inputs: Inputs, spec: Spec, buffer: Tensor | None, totals: Totals) -> None:
    """Add all blocks to ``totals``; and leave the probabilities in ``buffer`` [B, C, N], if there is one."""
    clean = all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row, lean=buffer is None):
        # A function for each block, so that nothing of one is alive in the next.
        _forward_block(block, logits, inputs, spec, buffer, totals, clean)


def _forward_block(
    block: Block, logits: Logits, inputs: Inputs, spec: Spec, buffer: Tensor | None, totals: Totals, clean: bool
) -> None:
    x = logits.read(block)
    labels = read_labels(inputs, block, spec, x.shape[1], logits.dtype, clean)
    if not clean:
        check_range(labels.y, x.shape[1], spec)
    index = of_all_classes(labels.y, x.shape[1]) if spec.region and not few(x.shape, x.device) else None
    pixels = probabilities(x, labels, index, logits.scratch(x) if buffer is None else block.cut(buffer))
    if spec.pixelwise != "none":
        weight = term_weight(labels, inputs.class_weights, inputs.alpha)
        counted = weight if inputs.alpha is None else term_weight(labels, inputs.class_weights)
        totals.add_terms(block, pixel_losses(pixels, minus_log(pixels, x), weight, spec.gamma), counted)
    if spec.region:
        totals.add_region(
            block,
            *region_sums(pixels, spec.power),
            truth_by_class(index, labels, x.shape),
            pixels.p_y.new_full((len(x), 1), x.shape[2]) if labels.weight is None else labels.weight.sum(1, True),
        )


def backward(logits: Logits, inputs: Inputs, spec: Spec, by: Upstream, buffer: Tensor | None) -> None:
    """Write the gradient by the logits; if ``buffer`` holds the probabilities, over them."""
    clean = all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row, lean=buffer is None):
        p = _backward_block(block, logits, inputs, spec, by, buffer, clean)
        if buffer is None:
            logits.write(block, p)


def _backward_block(
    block: Block, logits: Logits, inputs: Inputs, spec: Spec, by: Upstream, buffer: Tensor | None, clean: bool
) -> Tensor:
    by_terms, *by_region = by
    labels = read_labels(inputs, block, spec, logits.shape[1], logits.dtype, clean)
    index = None if by_region[1] is None else of_all_classes(labels.y, logits.shape[1])
    if buffer is None:
        x = logits.read(block)
        pixels = probabilities(x, labels, index, logits.scratch(x))
    else:
        pixels = kept(labels, index, block.cut(buffer))
    by_nll: Tensor | float | None = None
    if by_terms is not None:
        by_nll = slope(pixels.p_y, term_weight(labels, inputs.class_weights, inputs.alpha), spec)
        of_terms = block.cut(by_terms)[:, 0] if spec.pixelwise == "map" else block.rows(by_terms)[:, None]
        by_nll = of_terms.expand(labels.y.shape) * by_nll
    region = (None if by is None else block.rows(by) for by in by_region)
    to_gradient_(pixels, Slopes(by_nll, *region), spec.power)
    return pixels.p


def probabilities(x: Tensor, labels: Labels, index: Tensor | None, out: Tensor, look: bool = True) -> Pixels:
    """Softmax of ``x`` [b, C, n], into ``out``; ``look``: whether the range of p_y is wanted."""
    if labels.valid is not None and not readable(x):
        x = without_ignored(x, labels)
    p, highest = _softmax(x.to(out.dtype), out)
    place, own, p_y = _at_labels(p, labels)
    if labels.valid is None:
        low, high = _range(p_y) if look else (0.0, 1.0)
        return Pixels(labels, index, p, place, p_y, own, low, high, highest)
    # A softmax that has NaN anywhere has NaN everywhere, so one number tells. Looking is cheaper than masking.
    if math.isnan(_range(p_y)[0]):
        _, highest = _softmax(without_ignored(x, labels).to(out.dtype), out)
        place, own, p_y = _at_labels(p, labels)
    p_y = torch.where(labels.valid, p_y, 1)
    low, high = _range(p_y) if look else (0.0, 1.0)
    return Pixels(labels, index, p, place, p_y, own, low, high, highest)


def kept(labels: Labels, index: Tensor | None, p: Tensor) -> Pixels:
    """The same of probabilities that were kept."""
    place, _, p_y = _at_labels(p, labels)
    return Pixels(labels, index, p, place, p_y, None, *_range(p_y))


def _softmax(x: Tensor, out: Tensor) -> tuple[Tensor, float]:
    """Softmax over the classes of [b, C, n], and the ``highest`` of `Pixels`.

    That of torch copies a piece of an image, and its result once more.
    """
    if x.device.type != "cpu" or out.is_contiguous() or x.shape[1] <= FEW:
        return torch.softmax(x, 1, out=out), 1.0
    torch.sub(x, x.amax(1, keepdim=True), out=out).exp_()
    total = sum_over_classes(out)
    return out.div_(total[:, None]), 1 / _range(total)[0] if readable(x) else 1.0


def _at_labels(p: Tensor, labels: Labels) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """``place``, ``own`` and ``p_y`` of `Pixels`."""
    if labels.hot is not None:
        own = p * labels.hot
        return None, own, own.sum(1)
    place = in_memory(p, labels.y)
    return place, None, at_place(p, place, labels.y.shape)


def _range(p_y: Tensor) -> tuple[float, float]:
    """``low`` and ``high`` of `Pixels`, where they may be looked at."""
    if not readable(p_y) or not p_y.numel():
        return 0.0, 1.0
    low, high = torch.aminmax(p_y.detach())
    return float(low), float(high)


def without_ignored(x: Tensor, labels: Labels) -> Tensor:
    """The logits, 0 where ignored."""
    return x if labels.valid is None else torch.where(labels.valid[:, None], x, 0)


def pixel_losses(pixels: Pixels, nll: Tensor, weight: Tensor | None, gamma: float) -> Tensor:
    """Weighted terms of a block, [b, n], of which ``nll`` are the `minus_log`."""
    term = focal_term(pixels.p_y, nll, gamma)
    return term if weight is None else term * weight


def minus_log(pixels: Pixels, x: Tensor) -> Tensor:
    """-log of the probability of each pixel's class, from the logits where the probability is too small to have one."""
    p_y, labels, dtype = pixels.p_y, pixels.labels, pixels.p.dtype
    if pixels.low > ALMOST_ZERO:
        return p_y.log().neg_()
    # exp(-104) is 0 in float32: far-off answers need the logarithm of the softmax, at the price of a second exp.
    logs = torch.log_softmax(without_ignored(x, labels).to(dtype), 1)
    nll = logs.gather(1, labels.y.long()[:, None])[:, 0].neg_()
    return nll if labels.valid is None else torch.where(labels.valid, nll, 0)


def slope(p_y: Tensor, weight: Tensor | None, spec: Spec, nll: Tensor | None = None) -> Tensor | float:
    """The derivative of the weighted terms by -log p_y; overwrites ``nll``."""
    plain = focal_slope(p_y, spec.gamma, nll)
    return plain if weight is None else plain * weight


def region_sums(pixels: Pixels, power: int) -> tuple[Tensor, Tensor]:
    """Intersection and prediction of a block, [b, C]."""
    p, weight, own = pixels.p, pixels.labels.weight, pixels.own
    if own is not None:
        return (own if weight is None else own * weight[:, None]).sum(2), sum_of_classes(p, weight, power)
    p_y = pixels.p_y if weight is None else pixels.p_y * weight
    if few(p.shape, p.device):
        return sums_by_class(pixels.labels.y, p_y, p.shape[1], p.dtype), sum_of_classes(p, weight, power)
    index = of_all_classes(pixels.labels.y, p.shape[1]) if pixels.class_index is None else pixels.class_index
    return add_by_class(index, p_y, p.shape), sum_of_classes(p, weight, power)


def sum_of_classes(p: Tensor, weight: Tensor | None, power: int) -> Tensor:
    """[b, C] sums of p (or p squared) times the pixels' weights."""

    def total(q: Tensor, w: Tensor | None) -> Tensor:
        q = q if power == 1 else q * q
        return (q if w is None else q * w).sum(-1)

    if weight is None and power == 1:
        return p.sum(2)
    if p.shape[1] <= FEW and p.shape[2] >= LONG:  # without a second [b, C, n]
        return torch.stack([total(p[:, c], weight) for c in range(p.shape[1])], 1)
    return total(p, None if weight is None else weight[:, None])


def to_gradient_(pixels: Pixels, slopes: Slopes, power: int) -> None:
    """Turn the probabilities of a block into the gradient by the logits, in place.

    It is p times something everywhere, and has one part more at the pixel's class.

    Args:
        pixels: of the block; all of it is overwritten.
        slopes: of the loss, by the sums of the block.
        power: 1 or 2, as in `Spec`.
    """
    labels, index, p, place, p_y, own, low, high, highest = pixels
    by_nll = slopes.by_nll
    if slopes.by_inter is None or slopes.by_pred is None:
        assert by_nll is not None
        each = by_nll[:, None] if isinstance(by_nll, Tensor) and by_nll.ndim else by_nll
        p.mul_(each)
        if labels.hot is not None:
            p.sub_(labels.hot * each)
        else:
            add_at_(p, in_memory(p, labels.y) if place is None else place, by_nll, -1)
        return
    wrong = sure_and_wrong(p, p_y, low, highest)
    right = p_y.clone() if sure_and_right(p_y, labels.valid, high) else None
    by_inter = slopes.by_inter if right is None or power == 2 else slopes.by_inter + slopes.by_pred
    if own is not None:
        at_y = torch.bmm(by_inter[:, None], own, out=p.new_empty((len(p), 1, p.shape[2])))[:, 0]
    else:
        index = of_all_classes(labels.y, p.shape[1]) if index is None else index
        at_y = p_y.mul_(at_class(by_inter, index))
    if right is not None:  # without y in p, the sums over the other classes have all their digits
        _add_at_label_(pixels, right.neg())
        if power == 2:
            index = of_all_classes(labels.y, p.shape[1]) if index is None else index
            at_y.addcmul_(right * right, at_class(slopes.by_pred, index), value=2)
    at_y = multiply_by_slope_(p, slopes.by_pred, at_y, right, by_nll, labels.weight, power)
    _add_at_label_(pixels, at_y)
    surest.mend_(p, wrong)


def _add_at_label_(pixels: Pixels, values: Tensor) -> None:
    """Add values [b, n] to p at the class of each pixel."""
    labels, p, place = pixels.labels, pixels.p, pixels.place
    if labels.hot is not None:
        p.addcmul_(labels.hot, values[:, None])
    elif few(p.shape, p.device):
        add_by_class_(p, labels.y, values)
    else:
        add_at_(p, in_memory(p, labels.y) if place is None else place, values)


class Sure(NamedTuple):
    """The nearly sure pixels of a block: of another class than ``y``; and, [b, n], 1 where y is likely, if one is."""

    y: Tensor
    wrong: surest.Surest | None
    right: Tensor | None


def sure(pixels: Pixels) -> Sure:
    """Which pixels of a block are nearly sure."""
    labels, p_y = pixels.labels, pixels.p_y
    wrong = sure_and_wrong(pixels.p, p_y, pixels.low, pixels.highest)
    right = (p_y > 0.5).to(p_y.dtype) if sure_and_right(p_y, labels.valid, pixels.high) else None
    return Sure(labels.y, wrong, right)


def mend_(gradient: Tensor, where: Sure) -> None:
    """Give a gradient by the logits [b, C, n] the digits that are lost where a pixel is nearly sure, in place."""
    if where.right is not None:
        place = in_memory(gradient, where.y)
        at_y = at_place(gradient, place, where.right.shape)
        add_at_(gradient, place, at_y.mul_(where.right), -1)  # 0, so that nothing hides the others
        add_at_(gradient, place, sum_over_classes(gradient).mul_(where.right), -1)
    surest.mend_(gradient, where.wrong)


def multiply_by_slope_(
    p: Tensor,
    by_pred: Tensor,
    at_y: Tensor,
    right: Tensor | None,
    by_nll: Tensor | float | None,
    weight: Tensor | None,
    power: int,
) -> Tensor:
    """p_c *= by_nll - <p, a> + a_c, in place, for a = d loss / d p; the result, [b, n], belongs to y in addition.

    Args:
        p: [b, C, n].
        by_pred: [b, C]: a, but for what y has in addition.
        at_y: [b, n], what <p, a> has in addition; is overwritten.
        right: p_y where p is 0 at y, and ``at_y`` is all of p_y a_y; None elsewhere.
        by_nll: [b, n] or one number, weighted already; one number only where nothing has a weight.
        weight: [b, n] or None.
        power: 1 or 2, as in `Spec`.
    """
    rest = None
    if power == 1:
        a = by_pred[:, :, None]
        rows = by_pred[:, None] if right is None else torch.stack([by_pred, torch.ones_like(by_pred)], 1)
        sums = p.new_empty((p.shape[0], rows.shape[1], p.shape[2]))
        torch.bmm(rows, p, out=sums)  # with out=, or autocast would round p
        mean, rest = sums[:, 0], None if right is None else sums[:, 1]
    else:
        a = 2 * by_pred[:, :, None] * p
        mean, rest = (p * a).sum(1), None if right is None else sum_over_classes(p)
    if right is None or rest is None:
        mean = mean.add_(at_y)  # <p, a>
    else:  # p_y (a_y - <p, a>) = p_y (a_y rest - mean), as p_y + rest = 1
        mean, at_y = mean + at_y, at_y.mul_(rest).sub_(right.mul_(mean))
    if weight is not None:
        mean.mul_(weight)
        at_y.mul_(weight)
    if by_nll is not None:
        at_y.sub_(by_nll if rest is None else rest.mul_(by_nll))
    if isinstance(by_nll, Tensor):
        mean.sub_(by_nll)
    elif by_nll is not None:
        a = a + by_nll  # where there is no weight
    if power == 1 and p.shape[1] <= FEW and p.shape[2] >= LONG:  # one class at a time: no second [b, C, n]
        for c in range(p.shape[1]):
            part = a[:, c] if weight is None else weight * a[:, c]
            p[:, c].mul_(torch.sub(part, mean, out=mean if c == p.shape[1] - 1 else None))
    elif weight is None:
        p.mul_(torch.sub(a, mean[:, None]))
    else:
        p.mul_(torch.addcmul(-mean[:, None], weight[:, None], a))
    return at_y
