"""The one pass over the pixels: sums forward, and backward the gradient from the gradients by those sums.

No one-hot target, no ``[B, C, N]`` tensor but one: the forward leaves the probabilities in a buffer (if a gradient will
be wanted), and the backward turns that very buffer into the gradient. Where there is no buffer (half precision, a
second backward, a compiled graph) the backward computes the probabilities again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _dense, _focal, _softmax
from ._blocks import Block, blocks, sum_dtype
from ._spec import Inputs, Spec, Sums


def by_index(inputs: Inputs, spec: Spec) -> bool:
    """Whether the pass can go by class indices alone; soft targets, smoothing and sigmoid need a number per class."""
    return not spec.sigmoid and inputs.target.ndim == 2 and spec.smoothing == 0


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a block is computed."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def can_keep(inputs: Inputs, spec: Spec) -> bool:
    """Whether the probabilities can become the gradient: same dtype, one class a pixel."""
    return by_index(inputs, spec) and inputs.logits.dtype == wide_dtype(inputs.logits)


def forward(inputs: Inputs, spec: Spec, keep: bool) -> tuple[Sums, Tensor]:
    """Run the pass.

    Args:
        inputs: checked and flat.
        spec: what is asked for.
        keep: leave the probabilities in a buffer for the backward.

    Returns:
        The sums, and the buffer (empty if ``keep`` is false).
    """
    x = inputs.logits
    batch, classes, pixels = x.shape
    dtype = wide_dtype(x)
    buffer = torch.empty_like(x) if keep else x.new_empty(0)

    def zeros(*size: int) -> Tensor:
        return torch.zeros(size, dtype=sum_dtype(x.device), device=x.device)

    shape = (batch, classes if spec.sigmoid else 1, pixels) if spec.terms == "map" else (batch,)
    total = Sums(
        terms=torch.zeros(shape, dtype=dtype if spec.terms == "map" else sum_dtype(x.device), device=x.device),
        weight=zeros(batch),
        intersection=zeros(batch, classes),
        prediction=zeros(batch, classes),
        truth=zeros(batch, classes),
        pixels=zeros(batch, classes if spec.sigmoid else 1),
    )
    step = _index_sums if by_index(inputs, spec) else _dense_sums
    for block in blocks(batch, classes, pixels):
        out = buffer[block.samples, :, block.pixels] if keep else None
        step(_part(inputs, block), spec, out, Sums._make(_rows(s, block) for s in total))
    return Sums._make(s.to(dtype) for s in total), buffer


def backward(
    inputs: Inputs, spec: Spec, by_terms: Tensor, by_inter: Tensor, by_pred: Tensor, buffer: Tensor | None
) -> Tensor:
    """The gradient by the logits, in their dtype; written over ``buffer`` if there is one."""
    x = inputs.logits
    batch, classes, pixels = x.shape
    grad = torch.empty_like(x) if buffer is None else buffer
    for block in blocks(batch, classes, pixels):
        upstream = (_rows(by_terms, block), by_inter[block.samples], by_pred[block.samples])
        here = grad[block.samples, :, block.pixels]
        part = _part(inputs, block)
        if by_index(inputs, spec):
            labels = _softmax.read_labels(part.target, part.pixel_weights, classes, spec, wide_dtype(x))
            p = here if buffer is not None else _softmax.probabilities(part.logits, labels, _scratch(part.logits))
            _index_gradient(p, labels, part, spec, *upstream)
        else:
            p = _dense_gradient(part, spec, *upstream)
        if p is not here:
            here.copy_(p)
    return grad


def _part(inputs: Inputs, block: Block) -> Inputs:
    b, n = block
    weights = inputs.pixel_weights
    return inputs._replace(
        logits=inputs.logits[b, :, n],
        target=inputs.target[b, ..., n],
        pixel_weights=None if weights is None else weights[b, n],
    )


def _rows(s: Tensor, block: Block) -> Tensor:
    """The part of a sum (or of a map) that a block adds to."""
    return s[block.samples, :, block.pixels] if s.ndim == 3 else s[block.samples]


def _scratch(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=wide_dtype(x), device=x.device)


def _index_sums(part: Inputs, spec: Spec, out: Tensor | None, total: Sums) -> None:
    x = part.logits
    batch, classes, pixels = x.shape
    labels = _softmax.read_labels(part.target, part.pixel_weights, classes, spec, wide_dtype(x))
    p = _softmax.probabilities(x, labels, _scratch(x) if out is None else out)
    p_y, nll = _softmax.answers(p, x, labels, log=spec.terms != "none")
    if spec.terms != "none":
        counted = _softmax.term_weight(labels, part.class_weights)
        total.weight.add_(pixels if counted is None else counted.sum(1))
        weight = _softmax.term_weight(labels, part.class_weights, part.alpha)
        term = _focal.focal_term(p_y, nll, spec.gamma)
        term = term if weight is None else term * weight
        if spec.terms == "map":
            total.terms[:, 0] = term
        else:
            total.terms.add_(term.sum(1))
    if spec.region:
        per_class = p if spec.power == 1 else p * p
        if labels.weight is not None:
            per_class, p_y = per_class * labels.weight[:, None], p_y * labels.weight
        total.prediction.add_(per_class.sum(2))
        _add_by_class(total.intersection, labels.y, p_y)
        ones = torch.ones((), dtype=p.dtype, device=p.device).expand(batch, pixels)
        _add_by_class(total.truth, labels.y, ones if labels.weight is None else labels.weight)
        total.pixels.add_(pixels if labels.weight is None else labels.weight.sum(1, keepdim=True))


def _add_by_class(total: Tensor, index: Tensor, values: Tensor) -> None:
    """total[b, index[b, n]] += values[b, n], in the dtype of the total."""
    batch, classes = total.shape
    if batch > 1:
        index = index + torch.arange(batch, device=index.device)[:, None] * classes
    total.view(-1).index_add_(0, index.reshape(-1), values.to(total.dtype).reshape(-1))


def _index_gradient(
    p: Tensor, labels: _softmax.Labels, part: Inputs, spec: Spec, by_terms: Tensor, by_inter: Tensor, by_pred: Tensor
) -> Tensor:
    slope = torch.zeros((), dtype=p.dtype, device=p.device).expand(p.shape[0], p.shape[2])
    if spec.terms != "none":
        p_y = p.gather(1, labels.y[:, None])[:, 0]
        upstream = by_terms[:, 0] if spec.terms == "map" else by_terms[:, None]
        weight = _softmax.term_weight(labels, part.class_weights, part.alpha)
        slope = (upstream.to(p.dtype) * _focal.focal_slope(p_y, spec.gamma)).expand(p_y.shape)
        slope = slope if weight is None else slope * weight
    inter, pred = (by_inter.to(p.dtype), by_pred.to(p.dtype)) if spec.region else (None, None)
    return _softmax.gradient_(p, labels, slope, inter, pred, spec)


def _factors(part: Inputs, spec: Spec) -> Tensor:
    x = part.logits
    ones = torch.ones((2, x.shape[1]) if spec.sigmoid else x.shape[1], dtype=wide_dtype(x), device=x.device)
    for table in (part.class_weights, part.alpha):
        ones = ones if table is None else ones * table
    return ones


def _dense_sums(part: Inputs, spec: Spec, out: Tensor | None, total: Sums) -> None:
    dtype = wide_dtype(part.logits)
    truth = _dense.read_truth(part.target, part.pixel_weights, part.logits.shape[1], spec, dtype)
    x = _dense.clean(part.logits, truth, dtype)
    weight = torch.ones((), dtype=dtype, device=x.device) if truth.weight is None else truth.weight
    if spec.terms != "none":
        of_class = _denominator(truth.share, part, spec)
        total.weight.add_((weight * of_class).expand(len(x), x.shape[1] if spec.sigmoid else 1, -1).sum((1, 2)))
        term = _dense.terms(x, truth, _factors(part, spec), spec) * weight
        if spec.terms == "map":
            total.terms.copy_(term if spec.sigmoid else term.sum(1, keepdim=True))
        else:
            total.terms.add_(term.sum((1, 2)))
    if spec.region:
        p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
        total.intersection.add_((p * truth.share * weight).sum(2))
        total.prediction.add_(((p if spec.power == 1 else p * p) * weight).sum(2))
        total.truth.add_((truth.share * weight).sum(2))
        total.pixels.add_(weight.expand(len(x), total.pixels.shape[1], x.shape[2]).sum(2))


def _denominator(share: Tensor, part: Inputs, spec: Spec) -> Tensor:
    """The class weight of each pixel (or channel of it): a mean divides by the sum of these."""
    if part.class_weights is None:
        return torch.ones((1, 1, share.shape[2]), dtype=share.dtype, device=share.device)
    table = part.class_weights.to(share.dtype)
    if spec.sigmoid:
        return share * table[1][:, None] + (1 - share) * table[0][:, None]
    return (share * table[:, None]).sum(1, keepdim=True)


def _dense_gradient(part: Inputs, spec: Spec, by_terms: Tensor, by_inter: Tensor, by_pred: Tensor) -> Tensor:
    dtype = wide_dtype(part.logits)
    truth = _dense.read_truth(part.target, part.pixel_weights, part.logits.shape[1], spec, dtype)
    x = _dense.clean(part.logits, truth, dtype)
    terms = None
    if spec.terms != "none":
        terms = (by_terms if spec.terms == "map" else by_terms[:, None, None]).to(dtype)
    inter, pred = (g.to(dtype)[:, :, None] if spec.region else None for g in (by_inter, by_pred))
    return _dense.gradient(x, truth, _factors(part, spec), terms, inter, pred, spec)


__all__ = ["backward", "can_keep", "forward", "wide_dtype"]
