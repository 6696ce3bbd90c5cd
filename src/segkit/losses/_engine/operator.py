"""The pass over the pixels as one operator: opaque to ``torch.compile``, with its own gradient rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from segkit.losses._engine import route as _core
from segkit.losses._engine.streamed.at_once import Goal, at_once, cut
from segkit.losses._engine.streamed.blocks import readable, wide_dtype
from segkit.losses._engine.wanted import Inputs, Spec, Sums

# The schemas are written out, since torch 2.6 cannot read them from these annotations.
_TENSORS = "Tensor logits, Tensor target, Tensor? pixel_weights, Tensor? class_weights, Tensor? alpha"
_SETTINGS = (
    "str function, bool sigmoid, int ignore_index, float gamma, float smoothing, int power, str terms, bool region, "
    "int[] size"
)


@torch.library.custom_op(
    "segkit::pixel_sums",
    mutates_args=(),
    schema=f"({_TENSORS}, {_SETTINGS}, bool keep) -> ({', '.join(['Tensor'] * 7)})",
)
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
    return (*_apart(sums), buffer)


def _apart(sums: Sums) -> Sums:
    """An operator may not return one tensor twice, and what was not asked for is one empty tensor."""
    return Sums._make(s if s.numel() else s.clone() for s in sums)


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


@torch.library.custom_op(
    "segkit::pixel_sums_backward",
    mutates_args=(),
    schema=f"(Tensor weight, Tensor by_terms, Tensor by_inter, Tensor by_pred, {_TENSORS}, {_SETTINGS}) -> Tensor",
)
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


class _FirstOrder(torch.autograd.Function):
    """Nothing, but that its gradient goes through `once`."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return once(grad, *ctx.saved_tensors)


def first_order(x: Tensor) -> Tensor:
    """``x``, of which a loss may be made in plain operators: the gradient of its gradient is refused, as everywhere."""
    if not x.requires_grad or torch.compiler.is_compiling():
        return x
    return _FirstOrder.apply(x)  # type: ignore[no-untyped-call]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, Inputs(*inputs[:5]), Spec(*inputs[5:-2]), inputs[-2], Sums(*output[:-1]), output[-1], inputs[-1])


def _save(ctx: Any, inputs: Inputs, spec: Spec, size: Sequence[int], sums: Sums, buffer: Tensor, keep: bool) -> None:
    ctx.set_materialize_grads(False)  # else the unused gradient of the buffer would be made, as large as the logits
    ctx.spec, ctx.size, ctx.keep = spec, size, keep
    ctx.shapes = (sums.terms.shape, sums.intersection.shape, sums.prediction.shape)
    ctx.save_for_backward(*inputs, sums.weight, *((buffer,) if keep else ()))


def _gradient(ctx: Any, by_terms: Tensor | None, by_inter: Tensor | None, by_pred: Tensor | None) -> Tensor:
    saved = ctx.saved_tensors  # once: checkpointing computes them anew at each look
    inputs, weight = Inputs(*saved[:5]), saved[5]
    upstream = [
        g if g is not None else weight.new_zeros(shape) if 0 not in shape else weight
        for g, shape in zip((by_terms, by_inter, by_pred), ctx.shapes, strict=True)
    ]
    if ctx.keep or torch._C._are_functorch_transforms_active():
        # `.data` keeps the version counter: autograd may hand out the buffer once more, and we then compute anew.
        buffer = saved[6].data if ctx.keep else None
        ctx.keep = False
        with torch.no_grad():
            grad = _core.backward(inputs, ctx.spec, ctx.size, weight, upstream[0], upstream[1], upstream[2], buffer)
    else:
        grad = _pixel_sums_backward(weight, *upstream, *inputs, *ctx.spec.settings(), ctx.size)
    return once(grad, inputs.logits)


def _backward(ctx: Any, by_terms: Any, _weight: Any, by_inter: Any, by_pred: Any, *_others: Any) -> tuple[Any, ...]:
    return (_gradient(ctx, by_terms, by_inter, by_pred), *(None,) * 14)


def refuse_vmap(*_args: Any) -> None:
    raise RuntimeError(
        "segkit.losses: torch.func.vmap is not supported, since a loss sums over the batch. "
        "Pass the whole batch with reduction='none' (one loss per pixel, or per sample and class)."
    )


_pixel_sums.register_autograd(_backward, setup_context=_setup)
_pixel_sums.register_vmap(refuse_vmap)


class _Eager(torch.autograd.Function):
    """The same pass without the dispatcher, which costs more than the pass over a small image.

    Each argument and each result of a function costs as well: so the settings travel together, and what has no gradient
    comes back in a list.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, inputs: Inputs, spec: Spec, size: list[int], keep: bool, out: list[Sums]
    ) -> tuple[Tensor, ...]:
        sums, buffer = _core.forward(inputs, spec, size, keep)
        _save(ctx, inputs, spec, size, sums, buffer, keep)
        out.append(sums)
        region = (sums.intersection, sums.prediction) if spec.region else ()
        return (*region, sums.terms) if spec.terms != "none" else region

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        by_inter, by_pred = grads[:2] if ctx.spec.region else (None, None)
        by_terms = grads[-1] if ctx.spec.terms != "none" else None
        return (_gradient(ctx, by_terms, by_inter, by_pred), *(None,) * 5)


# From inputs to a loss and its gradient by the logits, in their shape and dtype.
Make = Callable[[Inputs], tuple[Tensor, Tensor | None]]


class _AtOnce(torch.autograd.Function):
    """A loss that is one number, with its gradient made in the forward; a second backward computes it anew."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, inputs: Inputs, make: Make) -> Tensor:
        loss, gradient = make(inputs)
        assert gradient is not None
        ctx.make, ctx.fresh, ctx.shape = make, True, source.shape
        ctx.save_for_backward(*inputs, gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *tensors, gradient = ctx.saved_tensors  # once: checkpointing computes them anew at each look
        # `.data` keeps the version counter: autograd may hand out the gradient once more, and we then compute anew.
        if ctx.fresh:
            gradient = gradient.data
        else:
            with torch.no_grad():
                gradient = ctx.make(Inputs(*tensors))[1]
        ctx.fresh = False
        if not readable(grads[0]) or float(grads[0]) != 1:
            gradient.mul_(grads[0].detach())
        return (once(gradient.view(ctx.shape), tensors[0]), None, None)


def with_gradient(source: Tensor, inputs: Inputs, make: Make) -> Tensor:
    """The loss that ``make`` gives along with its gradient, differentiable by ``source``."""
    loss: Tensor = _AtOnce.apply(source, inputs, make)  # type: ignore[no-untyped-call]
    return loss


class _Transformed(torch.autograd.Function):
    """The same for `torch.func`, whose transforms want the forward and its context apart."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        *settings, size, keep = args[5:]
        sums, buffer = _core.forward(Inputs(*args[:5]), Spec(*settings), size, keep)
        return (*_apart(sums), buffer)

    setup_context = staticmethod(_setup)
    backward = staticmethod(_backward)
    vmap = staticmethod(refuse_vmap)


def in_plain_sight(x: Tensor) -> bool:
    """Whether a tensor is what it seems to be: no graph is traced, no mode looks on, and no class wraps it."""
    return not (
        torch.compiler.is_compiling() or _get_current_dispatch_mode() or type(x) not in (Tensor, torch.nn.Parameter)
    )


def one_number(source: Tensor, inputs: Inputs, spec: Spec, size: Sequence[int], goal: Goal) -> Tensor | None:
    """The loss, differentiable by ``source``, of which ``inputs.logits`` is a view; None where `_at_once` cannot be.

    For tensors that are `in_plain_sight`.
    """
    x = inputs.logits
    if torch._C._are_functorch_transforms_active() or not _core.may_look(inputs, spec, size):
        return None
    gradient = x.requires_grad and torch.is_grad_enabled()
    how = cut(inputs, size, goal, gradient)
    if how is None:
        return None
    _core.warn_of_probabilities(x, spec)
    if gradient:
        return with_gradient(source, inputs, lambda inputs: at_once(inputs, spec, size, goal, how, True))
    return at_once(inputs._replace(logits=x.detach()), spec, size, goal, how, False)[0]


def pixel_sums(inputs: Inputs, spec: Spec, size: Sequence[int] = ()) -> Sums:
    """One pass over the pixels, differentiable by the logits; ``size`` as in `_core.forward`."""
    x, size = inputs.logits, list(size)
    if not in_plain_sight(x):
        return Sums(*_pixel_sums(*inputs, *spec.settings(), size, False)[:-1])
    if torch._C._are_functorch_transforms_active():
        return Sums._make(_Transformed.apply(*inputs, *spec.settings(), size, False)[:-1])  # type: ignore[no-untyped-call]
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _core.forward(inputs._replace(logits=x.detach()), spec, size, False)[0]
    out: list[Sums] = []
    keep = _core.can_keep(inputs, spec, size)
    parts = _Eager.apply(x, inputs, spec, size, keep, out)  # type: ignore[no-untyped-call]
    sums = out[0]
    if spec.region:
        sums = sums._replace(intersection=parts[0], prediction=parts[1])
    return sums._replace(terms=parts[-1]) if spec.terms != "none" else sums
