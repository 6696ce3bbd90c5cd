"""The pass for pixels with one class each: softmax, sums, and the gradient from the gradients by those sums.

With p = softmax(x) along the classes, y the class of a pixel and w its weight, the pass sums

    terms = w f(-log p_y)    intersection_c = w p_c [y = c]    prediction_c = w p_c^power    truth_c = w [y = c]

and with a = d loss / d p the gradient by x is p (a - <p, a>) for the sums and f' (p - [y = c]) for the terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ._blocks import Block, Logits, blocks, readable, sum_dtype
from ._focal import ALMOST_ZERO, focal_slope, focal_term
from ._reduce import nonzero
from ._spec import Inputs, Spec, Totals

AS_THEY_ARE = (torch.uint8, torch.int16, torch.int32, torch.int64)  # label dtypes that torch can add to int64
FEW, LONG = 8, 2**13  # classes and pixels of a block whose classes are taken one by one


class Labels(NamedTuple):
    """Labels of a block [b, n]: ``y``, 0 where ignored; ``valid`` and ``weight`` are None if all count 1."""

    y: Tensor
    valid: Tensor | None
    weight: Tensor | None


def forward(logits: Logits, inputs: Inputs, spec: Spec, buffer: Tensor | None, totals: Totals) -> None:
    """Add all blocks to ``totals``; and leave in ``buffer`` [B, C, N], if there is one, what the backward begins with.

    This is the gradient of the terms, if they are summed and all there is: it is known now, but for a factor, and the
    block is in the cache. Else it is the probabilities.
    """
    clean, places = all_count(inputs, spec, logits.shape[1]), Places()
    for block in blocks(*logits.shape, logits.row, lean=buffer is None):
        # A function for each block, so that nothing of one is alive in the next.
        _forward_block(block, logits, inputs, spec, buffer, totals, clean, places)


def _forward_block(
    block: Block,
    logits: Logits,
    inputs: Inputs,
    spec: Spec,
    buffer: Tensor | None,
    totals: Totals,
    clean: bool,
    places: Places,
) -> None:
    x = logits.read(block)
    labels = read_labels(inputs, block, spec, x.shape[1], logits.dtype, clean)
    if not clean:
        check_range(labels.y, x.shape[1], spec)
    p, place, p_y = probabilities(x, labels, logits.scratch(x) if buffer is None else block.cut(buffer), places)
    if labels.valid is not None:
        p_y = torch.where(labels.valid, p_y, 1)
    if spec.terms != "none":
        _add_terms(block, p, place, p_y, x, labels, inputs, spec, buffer is not None, totals)
    del place  # each [b, n] is a good part of a block of few classes
    if spec.region:
        prediction = sum_of_classes(p, labels.weight, spec.power)
        p_y = p_y if labels.weight is None else p_y * labels.weight
        index = places.of_class(labels.y, x.shape[1])
        totals.add_region(
            block,
            add_by_class(index, p_y, p.shape),
            prediction,
            truth_by_class(index, labels, p.shape),
            p_y.new_full((len(p_y), 1), p_y.shape[1]) if labels.weight is None else labels.weight.sum(1, True),
        )


def _add_terms(
    block: Block,
    p: Tensor,
    place: Tensor,
    p_y: Tensor,
    x: Tensor,
    labels: Labels,
    inputs: Inputs,
    spec: Spec,
    keep: bool,
    totals: Totals,
) -> None:
    nll = minus_log(p_y, x, labels, p.dtype)
    weight = term_weight(labels, inputs.class_weights, inputs.alpha)
    counted = weight if inputs.alpha is None else term_weight(labels, inputs.class_weights)
    term = focal_term(p_y, nll, spec.gamma)
    totals.add_terms(block, term if weight is None else term * weight, counted)
    del term
    if keep and spec.only_terms:
        known = share_in_mean(inputs, spec, labels.valid is None)
        terms_gradient_(p, place, slope(p_y, weight, spec, nll) * known)


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
    clean, places = all_count(inputs, spec, logits.shape[1]), Places()
    for block in blocks(*logits.shape, logits.row, lean=buffer is None):
        p = _backward_block(block, logits, inputs, spec, by_terms, by_inter, by_pred, buffer, clean, places)
        if buffer is None:
            logits.write(block, p)


def _backward_block(
    block: Block,
    logits: Logits,
    inputs: Inputs,
    spec: Spec,
    by_terms: Tensor,
    by_inter: Tensor,
    by_pred: Tensor,
    buffer: Tensor | None,
    clean: bool,
    places: Places,
) -> Tensor:
    labels = read_labels(inputs, block, spec, logits.shape[1], logits.dtype, clean)
    if buffer is None:
        x = logits.read(block)
        p, place, p_y = probabilities(x, labels, logits.scratch(x), places)
    else:
        p = block.cut(buffer)
        place = places.in_memory(p, labels.y)
        p_y = in_one_row(p).index_select(0, place).view(labels.y.shape)
    scale: Tensor | float | None = None
    if spec.terms != "none":
        upstream = by_terms
        if spec.terms == "map":
            upstream = block.cut(by_terms)[:, 0]
        scale = slope(p_y, term_weight(labels, inputs.class_weights, inputs.alpha), spec)
        scale = scale * (share_in_mean(inputs, spec, clean) if spec.only_terms else upstream)
    # The gradient is p times something everywhere, and has one part more at the pixel's class.
    if spec.region:
        assert not isinstance(scale, float)
        at_y = p_y.mul_(of_class(block.rows(by_inter), places.of_class(labels.y, p.shape[1])))
        multiply_by_slope_(p, block.rows(by_pred), at_y, scale, labels.weight, spec.power)
        add_at_(p, place, at_y if scale is None else at_y.sub_(scale))
    else:
        assert scale is not None
        terms_gradient_(p, place, scale)
        if spec.only_terms:
            multiply_(p, by_terms)  # last, as it is where `forward` left the gradient: the same to the bit
    return p


def slope(p_y: Tensor, weight: Tensor | None, spec: Spec, nll: Tensor | None = None) -> Tensor | float:
    """The derivative of the weighted terms by -log p_y."""
    plain = focal_slope(p_y, spec.gamma, nll)
    return plain if weight is None else plain * weight


def terms_gradient_(p: Tensor, place: Tensor, scale: Tensor | float) -> None:
    """Turn the probabilities of a block into (p - [y = c]) times ``scale`` ([b, n] or one number), in place."""
    if isinstance(scale, float):
        scale = p.new_full((), scale)
    p.mul_(scale[:, None] if scale.ndim else scale)
    add_at_(p, place, scale, -1)


def left_factor(inputs: Inputs, spec: Spec, by_terms: Tensor, weight: Tensor) -> Tensor:
    """What the gradient of the terms, as `forward` left it, is to be multiplied by."""
    known = share_in_mean(inputs, spec, all_count(inputs, spec, inputs.logits.shape[1])) != 1
    return by_terms if known or spec.terms == "sum" else by_terms / nonzero(weight)


def multiply_(gradient: Tensor, factor: Tensor) -> None:
    """Multiply by one number, which mostly is 1."""
    if not readable(factor) or float(factor) != 1:
        gradient.mul_(factor)


def share_in_mean(inputs: Inputs, spec: Spec, clean: bool) -> float:
    """What a term's gradient is multiplied by in a mean, if that is known before the pass is over; else 1."""
    return 1 / inputs.target.numel() if clean and spec.terms == "mean" and inputs.class_weights is None else 1.0


def multiply_by_slope_(
    p: Tensor, by_pred: Tensor, at_y: Tensor, scale: Tensor | None, weight: Tensor | None, power: int
) -> None:
    """p_c *= scale - <p, a> + a_c, in place, for a = d loss / d p: ``by_pred`` for each class, and ``at_y`` / p_y at y.

    Args:
        p: [b, C, n].
        by_pred: [b, C].
        at_y: [b, n]; is multiplied by the weight.
        scale: [b, n] or one number, weighted already.
        weight: [b, n] or None.
        power: 1 or 2, as in `Spec`.
    """
    by_pred = by_pred[:, :, None]
    rows = power == 1 and p.shape[1] <= FEW and p.shape[2] >= LONG
    if rows:  # one class at a time: as fast for long rows, and no second [b, C, n]
        mean = at_y.clone()
        for c in range(p.shape[1]):
            mean.addcmul_(p[:, c], by_pred[:, c])
    else:
        a = by_pred if power == 1 else 2 * by_pred * p
        product = p * a
        mean = product.sum(1).add_(at_y)  # <p, a>
    if weight is not None:
        mean.mul_(weight)
        at_y.mul_(weight)
    rest = mean.neg_() if scale is None else torch.sub(scale, mean, out=mean)
    if rows:
        factor = torch.empty_like(rest)
        for c in range(p.shape[1]):
            if weight is None:
                torch.add(rest, by_pred[:, c], out=factor)
            else:
                torch.addcmul(rest, weight, by_pred[:, c], out=factor)
            p[:, c].mul_(factor)
    elif weight is None:
        p.mul_(torch.add(rest[:, None], a, out=product))
    else:
        p.mul_(torch.addcmul(rest[:, None], weight[:, None], a, out=product))


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
    y = block.cut(inputs.target)
    if clean and y.dtype in AS_THEY_ARE:
        return Labels(y, None, None)
    y = y.long()
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


def probabilities(x: Tensor, labels: Labels, out: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax of ``x`` [b, C, n] into ``out``; the place of each pixel's class in it, and what is there, [b, n].

    What an ignored pixel gets does not count: its weight is 0 in each sum and in the gradient. But it is a number, even
    where the logits are not.
    """
    if labels.valid is not None and not readable(x):
        x = without_ignored(x, labels)
    p = torch.softmax(x.to(out.dtype), 1, out=out)
    place = places.in_memory(p, labels.y)
    p_y = in_one_row(p).index_select(0, place).view(labels.y.shape)
    # A softmax that has NaN anywhere has NaN everywhere, so one number tells. Looking is cheaper than masking.
    if labels.valid is not None and readable(x) and math.isnan(float(p_y.min()) if p_y.numel() else 0):
        torch.softmax(without_ignored(x, labels).to(out.dtype), 1, out=out)
        p_y = in_one_row(p).index_select(0, place).view(labels.y.shape)
    return p, place, p_y


def without_ignored(x: Tensor, labels: Labels) -> Tensor:
    """The logits, 0 where ignored."""
    return x if labels.valid is None else torch.where(labels.valid[:, None], x, 0)


def minus_log(p_y: Tensor, x: Tensor, labels: Labels, dtype: torch.dtype) -> Tensor:
    """-log of the probability of each pixel's class, from the logits where the probability is too small to have one."""
    if p_y.device.type == "cpu" and (p_y.numel() == 0 or float(p_y.min()) > ALMOST_ZERO):
        return p_y.log().neg_()
    # exp(-104) is 0 in float32: far-off answers need the logarithm of the softmax, at the price of a second exp.
    logs = torch.log_softmax(without_ignored(x, labels).to(dtype), 1)
    nll = logs.gather(1, labels.y.long()[:, None])[:, 0].neg_()
    return nll if labels.valid is None else torch.where(labels.valid, nll, 0)


def in_one_row(p: Tensor) -> Tensor:
    """The memory from the first to the last element of ``p`` [b, C, n] as one axis."""
    return p.as_strided((span(p),), (1,))


def span(p: Tensor) -> int:
    """How far apart the first and the last element are in memory, and one."""
    return 1 + sum((n - 1) * s for n, s in zip(p.shape, p.stride(), strict=True)) if p.numel() else 0


def add_at_(p: Tensor, place: Tensor, values: Tensor, factor: float = 1) -> None:
    """Add ``values`` [b, n] (or one number) times ``factor`` at the places that `Places.in_memory` gives."""
    row = in_one_row(p)
    values = values.expand(place.shape) if values.ndim == 0 else values.reshape(-1)
    if p.device.type == "cpu":
        row.index_add_(0, place, values, alpha=factor)
    else:  # where index_add_ would add in any order
        row.scatter_(0, place, row.index_select(0, place).add_(values, alpha=factor))


class Places:
    """Where the class of each pixel lies; what depends on shapes alone is made once for all blocks of a shape."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], Tensor] = {}

    def in_memory(self, p: Tensor, y: Tensor) -> Tensor:
        """Where in `in_one_row` of a block [b, C, n] each pixel's class lies, [b n].

        On the CPU one flat index_select and index_add_ are 3 to 8 times faster than gather and scatter along an axis.
        """
        down, across, right = p.stride()
        small = p.device.type == "cpu" and span(p) < 2**31  # scatter_ takes no int32
        grid = self._grid(len(p), p.shape[2], down, right, p.device, torch.int32 if small else torch.int64)
        return torch.add(grid, y.int() if small else y.long(), alpha=across).view(-1)

    def of_class(self, y: Tensor, classes: int) -> Tensor:
        """The number of each pixel's class among all [b, C], flat: for `of_class` and `add_by_class`."""
        if len(y) > 1:
            return (y + self._grid(len(y), 1, classes, 1, y.device, torch.int32)).view(-1)
        return (y if y.dtype in (torch.int32, torch.int64) else y.int()).reshape(-1)

    def _grid(self, rows: int, columns: int, down: int, right: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        key = (rows, columns, down, right, dtype)
        if key in self.known:
            return self.known[key]
        grid = torch.arange(0, columns * right, right, device=device, dtype=dtype)[None]
        if rows > 1:
            grid = grid + torch.arange(0, rows * down, down, device=device, dtype=dtype)[:, None]
        if grid.numel() <= LONG * 2:  # a longer one is a good part of the memory that a block takes
            self.known[key] = grid
        return grid


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


def term_weight(labels: Labels, *per_class: Tensor | None) -> Tensor | None:
    """Pixel weight times the weights of the pixel's class, [b, n]; None if all are 1."""
    weight = labels.weight
    for table in per_class:
        if table is not None:
            factor = table.index_select(0, labels.y.reshape(-1).int()).view(labels.y.shape)
            weight = factor if weight is None else weight * factor
    return weight


def of_class(table: Tensor, index: Tensor) -> Tensor:
    """table[b, y[b, n]], for the index that `Places.of_class` gives."""
    return table.reshape(-1).index_select(0, index).view(len(table), -1)


def add_by_class(index: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """[b, C] sums of values[b, n] by class, in float64 (one number at a time is added, so float32 would round off)."""
    total = torch.zeros(shape[0] * shape[1], dtype=sum_dtype(values.device), device=values.device)
    return total.index_add_(0, index, values.to(total.dtype).reshape(-1)).view(shape[0], shape[1])


def truth_by_class(index: Tensor, labels: Labels, shape: Sequence[int]) -> Tensor:
    """[b, C] sums of weights by class."""
    weight = labels.weight
    if weight is not None or index.device.type != "cpu":
        return add_by_class(index, index.new_ones(labels.y.shape) if weight is None else weight, shape)
    index = labels.y.reshape(-1) if shape[0] == 1 else index  # bytes are counted faster
    return torch.bincount(index, minlength=shape[0] * shape[1]).view(shape[0], shape[1])
