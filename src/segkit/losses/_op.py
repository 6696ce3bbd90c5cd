"""The pass over the pixels as one operator: opaque to ``torch.compile``, with its own gradient rule."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from . import _core
from ._spec import Inputs, Spec, Sums


@torch.library.custom_op("segkit::pixel_sums", mutates_args=())
def _pixel_sums(
    logits: Tensor,
    target: Tensor,
    pixel_weights: Tensor | None,
    class_weights: Tensor | None,
    alpha: Tensor | None,
    function: str,
    sigmoid: bool,
    ignore_index: int,
    gamma: float,
    smoothing: float,
    power: int,
    terms: str,
    region: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    spec = Spec(function, sigmoid, ignore_index, gamma, smoothing, power, terms, region)
    sums, buffer = _core.forward(Inputs(logits, target, pixel_weights, class_weights, alpha), spec, keep)
    return (*sums, buffer)


@_pixel_sums.register_fake
def _(logits, target, pixel_weights, class_weights, alpha, *settings):  # type: ignore[no-untyped-def]
    sigmoid, terms, keep = settings[1], settings[6], settings[8]
    batch, classes, pixels = logits.shape
    dtype = _core.wide_dtype(logits)
    shape = (batch, classes if sigmoid else 1, pixels) if terms == "map" else (batch,)
    per_class = [logits.new_empty((batch, classes), dtype=dtype) for _ in range(3)]
    count = logits.new_empty((batch, classes if sigmoid else 1), dtype=dtype)
    buffer = torch.empty_like(logits) if keep else logits.new_empty(0)
    return (logits.new_empty(shape, dtype=dtype), logits.new_empty(batch, dtype=dtype), *per_class, count, buffer)


@torch.library.custom_op("segkit::pixel_sums_backward", mutates_args=())
def _pixel_sums_backward(
    by_terms: Tensor,
    by_inter: Tensor,
    by_pred: Tensor,
    logits: Tensor,
    target: Tensor,
    pixel_weights: Tensor | None,
    class_weights: Tensor | None,
    alpha: Tensor | None,
    function: str,
    sigmoid: bool,
    ignore_index: int,
    gamma: float,
    smoothing: float,
    power: int,
    terms: str,
    region: bool,
) -> Tensor:
    spec = Spec(function, sigmoid, ignore_index, gamma, smoothing, power, terms, region)
    inputs = Inputs(logits, target, pixel_weights, class_weights, alpha)
    return _core.backward(inputs, spec, by_terms, by_inter, by_pred, None)


@_pixel_sums_backward.register_fake
def _(by_terms, by_inter, by_pred, logits, *rest):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)  # else the unused gradient of the buffer would be made, as large as the logits
    tensors, ctx.spec, ctx.keep = inputs[:5], inputs[5:-1], inputs[-1]
    ctx.sizes = tuple(s.shape for s in (output[0], output[2], output[3]))
    ctx.save_for_backward(*tensors, *((output[-1],) if ctx.keep else ()))


def _backward(ctx: Any, by_terms: Any, _weight: Any, by_inter: Any, by_pred: Any, *_others: Any) -> tuple[Any, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "segkit.losses: a gradient of the gradient is not implemented. Call backward() or autograd.grad() without "
            "create_graph=True; for gradient penalties use the plain torch losses."
        )
    *tensors, buffer = ctx.saved_tensors if ctx.keep else (*ctx.saved_tensors, None)
    dtype = _core.wide_dtype(tensors[0])
    upstream = [
        tensors[0].new_zeros(size, dtype=dtype) if g is None else g
        for g, size in zip((by_terms, by_inter, by_pred), ctx.sizes, strict=True)
    ]
    if buffer is not None:
        # `.data` keeps the version counter: autograd may hand out the buffer once more, and we then compute anew.
        ctx.keep = False
        grad = _core.backward(Inputs(*tensors), Spec(*ctx.spec), upstream[0], upstream[1], upstream[2], buffer.data)
    else:
        grad = _pixel_sums_backward(*upstream, *tensors[:5], *ctx.spec)
    return (grad, *(None,) * 13)


def _refuse_vmap(*_args: Any) -> None:
    raise RuntimeError(
        "segkit.losses: torch.func.vmap is not supported, since a loss sums over the batch. "
        "Pass the whole batch with reduction='none' (one loss per pixel, or per sample and class)."
    )


_pixel_sums.register_autograd(_backward, setup_context=_setup)
_pixel_sums.register_vmap(_refuse_vmap)


def pixel_sums(inputs: Inputs, spec: Spec) -> Sums:
    """One pass over the pixels, differentiable by the logits."""
    x = inputs.logits
    keep = (
        x.requires_grad
        and torch.is_grad_enabled()
        and type(x) in (Tensor, torch.nn.Parameter)  # traced tensors must not be written to behind the tracer's back
        and not torch.compiler.is_compiling()
        and _core.can_keep(inputs, spec)
    )
    return Sums._make(_pixel_sums(*inputs, *astuple(spec), keep)[:-1])
