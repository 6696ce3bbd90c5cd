"""The pass over the pixels as one operator: opaque to ``torch.compile``, with its own gradient rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from . import _core
from ._blocks import wide_dtype
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
    size: list[int],
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    spec = Spec(function, sigmoid, ignore_index, gamma, smoothing, power, terms, region)
    sums, buffer = _core.forward(Inputs(logits, target, pixel_weights, class_weights, alpha), spec, size, keep)
    return (*sums, buffer)


@_pixel_sums.register_fake
def _(logits, target, pixel_weights, class_weights, alpha, *settings):  # type: ignore[no-untyped-def]
    batch, classes, size = logits.shape[0], logits.shape[1], settings[8]
    sigmoid, terms, region, keep = settings[1], settings[6], settings[7], settings[9]
    channels = classes if sigmoid else 1

    def empty(*shape: int) -> Tensor:
        return logits.new_empty(shape, dtype=wide_dtype(logits))

    scalar = terms in ("mean", "sum")
    pixels = math.prod(size or logits.shape[2:])
    return (
        empty() if scalar else empty(batch, channels, pixels) if terms == "map" else empty(0),
        empty() if scalar else empty(0),
        *(empty(batch, classes) if region else empty(0) for _ in range(3)),
        empty(batch, channels) if region else empty(0),
        torch.empty_like(logits) if keep else logits.new_empty(0),
    )


@torch.library.custom_op("segkit::pixel_sums_backward", mutates_args=())
def _pixel_sums_backward(
    weight: Tensor,
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
    size: list[int],
) -> Tensor:
    spec = Spec(function, sigmoid, ignore_index, gamma, smoothing, power, terms, region)
    inputs = Inputs(logits, target, pixel_weights, class_weights, alpha)
    return _core.backward(inputs, spec, size, weight, by_terms, by_inter, by_pred, None)


@_pixel_sums_backward.register_fake
def _(weight, by_terms, by_inter, by_pred, logits, *rest):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


class _Once(torch.autograd.Function):
    """Passes a gradient on; says so if somebody wants the gradient of that."""

    @staticmethod
    def forward(grad: Tensor, logits: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "segkit.losses: a gradient of the gradient is not implemented. Call backward() or autograd.grad() without "
            "create_graph=True; for gradient penalties use the plain torch losses."
        )


def once(grad: Tensor, logits: Tensor) -> Tensor:
    """The gradient, which depends on the logits in a way that cannot be differentiated."""
    if not torch.is_grad_enabled():
        return grad
    return _Once.apply(grad, logits)  # type: ignore[no-untyped-call]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)  # else the unused gradient of the buffer would be made, as large as the logits
    tensors, ctx.settings, ctx.keep = inputs[:5], inputs[5:-1], inputs[-1]
    ctx.sizes = tuple(s.shape for s in (output[0], output[2], output[3]))
    ctx.save_for_backward(*tensors, output[1], *((output[-1],) if ctx.keep else ()))


def _backward(ctx: Any, by_terms: Any, _weight: Any, by_inter: Any, by_pred: Any, *_others: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: checkpointing computes them anew at each look
    *tensors, weight = saved[:6]
    upstream = [
        g if g is not None else weight.new_zeros(size) if 0 not in size else weight
        for g, size in zip((by_terms, by_inter, by_pred), ctx.sizes, strict=True)
    ]
    if ctx.keep or torch._C._are_functorch_transforms_active():
        # `.data` keeps the version counter: autograd may hand out the buffer once more, and we then compute anew.
        buffer = saved[6].data if ctx.keep else None
        ctx.keep = False
        *settings, size = ctx.settings
        by_terms, by_inter, by_pred = upstream
        with torch.no_grad():
            grad = _core.backward(Inputs(*tensors), Spec(*settings), size, weight, by_terms, by_inter, by_pred, buffer)
    else:
        grad = _pixel_sums_backward(weight, *upstream, *tensors, *ctx.settings)
    return (once(grad, tensors[0]), *(None,) * 14)


def refuse_vmap(*_args: Any) -> None:
    raise RuntimeError(
        "segkit.losses: torch.func.vmap is not supported, since a loss sums over the batch. "
        "Pass the whole batch with reduction='none' (one loss per pixel, or per sample and class)."
    )


_pixel_sums.register_autograd(_backward, setup_context=_setup)
_pixel_sums.register_vmap(refuse_vmap)


class _Eager(torch.autograd.Function):
    """The same pass without the dispatcher: with 15 arguments that costs more than the pass over a small image."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        *settings, size, keep = args[5:]
        sums, buffer = _core.forward(Inputs(*args[:5]), Spec(*settings), size, keep)
        _setup(ctx, args, (*sums, buffer))
        ctx.mark_non_differentiable(sums.weight, sums.truth, sums.pixels)
        return sums

    backward = staticmethod(_backward)


class _Transformed(torch.autograd.Function):
    """The same for `torch.func`, whose transforms want the forward and its context apart."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        *settings, size, keep = args[5:]
        sums, buffer = _core.forward(Inputs(*args[:5]), Spec(*settings), size, keep)
        return (*sums, buffer)

    setup_context = staticmethod(_setup)
    backward = staticmethod(_backward)
    vmap = staticmethod(refuse_vmap)


def pixel_sums(inputs: Inputs, spec: Spec, size: Sequence[int] = ()) -> Sums:
    """One pass over the pixels, differentiable by the logits; ``size`` as in `_core.forward`."""
    x = inputs.logits
    arguments = (*inputs, *spec.settings(), list(size))
    if torch.compiler.is_compiling() or _get_current_dispatch_mode() or type(x) not in (Tensor, torch.nn.Parameter):
        return Sums._make(_pixel_sums(*arguments, False)[:-1])
    if torch._C._are_functorch_transforms_active():
        return Sums._make(_Transformed.apply(*arguments, False)[:-1])  # type: ignore[no-untyped-call]
    keep = x.requires_grad and torch.is_grad_enabled() and _core.can_keep(inputs, spec, size)
    return Sums._make(_Eager.apply(*arguments, keep))  # type: ignore[no-untyped-call]
