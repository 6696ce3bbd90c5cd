"""The one pass over the pixels: sums forward, and backward the gradient from the gradients by those sums.

No one-hot target, no ``[B, C, N]`` tensor but one: the forward leaves the probabilities in a buffer (if a gradient will
be wanted), and the backward turns that very buffer into the gradient. Where there is no buffer (half precision, coarse
logits, a second backward, a compiled graph) the backward computes the probabilities again. A loss that is one number
mostly goes by `_at_once` instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.losses._backend import kernels
from segkit.losses._engine.reduce import nonzero
from segkit.losses._engine.streamed import hard as _index
from segkit.losses._engine.streamed import soft as _dense
from segkit.losses._engine.streamed.blocks import Logits, wide_dtype
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.wanted import Inputs, Spec, Sums, Totals


def by_index(inputs: Inputs, spec: Spec) -> bool:
    """Whether the pass can go by class indices alone; soft targets, smoothing and sigmoid need a number per class."""
    return not spec.sigmoid and inputs.target.ndim == 2 and spec.smoothing == 0


def can_keep(inputs: Inputs, spec: Spec, size: Sequence[int]) -> bool:
    """Whether the probabilities can become the gradient: same shape, same dtype, one class a pixel."""
    if size or not by_index(inputs, spec) or inputs.logits.dtype != wide_dtype(inputs.logits):
        return False
    return kernels(inputs.logits, size) is None


def may_look(inputs: Inputs, spec: Spec, size: Sequence[int]) -> bool:
    """Whether labels and sums can be read on the way, as `_at_once` does."""
    x = inputs.logits
    return x.device.type == "cpu" and x.numel() > 0 and by_index(inputs, spec) and kernels(x, size) is None


def forward(inputs: Inputs, spec: Spec, size: Sequence[int], keep: bool) -> tuple[Sums, Tensor]:
    """Run the pass.

    Args:
        inputs: checked and flat.
        spec: what is asked for.
        size: what the logits are interpolated to; empty for logits as fine as the target.
        keep: leave the probabilities in a buffer for the backward.

    Returns:
        The sums, and the buffer (empty if ``keep`` is false).
    """
    if not spec.sigmoid and inputs.logits.device.type == "cpu" and inputs.logits.numel():
        warn_of_probabilities(inputs.logits, spec)
    if (triton := kernels(inputs.logits, size)) is not None and not keep:
        return triton.forward(inputs, spec, size), inputs.logits.new_empty(0)
    logits = CoarseLogits(inputs.logits, list(size)) if size else Logits(inputs.logits)
    totals = Totals(logits.shape, spec, logits.dtype, logits.device)
    buffer = torch.empty_like(inputs.logits) if keep else inputs.logits.new_empty(0)
    if by_index(inputs, spec):
        _index.forward(logits, inputs, spec, buffer if keep else None, totals)
    else:
        _dense.forward(logits, inputs, spec, totals)
    return totals.finish(), buffer


def backward(
    inputs: Inputs,
    spec: Spec,
    size: Sequence[int],
    weight: Tensor,
    by_terms: Tensor,
    by_inter: Tensor,
    by_pred: Tensor,
    buffer: Tensor | None,
) -> Tensor:
    """The gradient by the logits, in their dtype and shape; written over ``buffer`` if there is one."""
    triton = kernels(inputs.logits, size) if buffer is None else None
    if spec.terms == "mean":
        by_terms = by_terms / nonzero(weight)
    if triton is not None:
        return triton.backward(inputs, spec, size, by_terms, by_inter, by_pred)
    logits = CoarseLogits(inputs.logits, list(size)) if size else Logits(inputs.logits)
    if by_index(inputs, spec):
        _index.backward(logits, inputs, spec, by_terms, by_inter, by_pred, buffer)
    else:
        _dense.backward(logits, inputs, spec, by_terms, by_inter, by_pred)
    return (logits.gradient() if buffer is None else buffer).view(inputs.logits.shape)


def warn_of_probabilities(x: Tensor, spec: Spec) -> None:
    """Warn where the logits are probabilities already: looks at one pixel, at more if it adds up to 1."""
    x = x.detach()
    first = x.as_strided(x.shape[1:2], x.stride()[1:2], x.storage_offset())  # the classes of one pixel, at little cost
    if abs(float(first.sum()) - 1) > 1e-2:
        return
    some = x.flatten(2)[0, :, :1000].float()
    if float(some.min()) >= 0 and float((some.sum(0) - 1).abs().max()) < 1e-2 and bool((some != some[0, 0]).any()):
        warnings.warn(
            f"{spec.function}: `logits` look like probabilities (at least 0, and adding up to 1 over the classes). The "
            "softmax is taken here: pass the network's raw scores, without softmax.",
            stacklevel=1,
        )
