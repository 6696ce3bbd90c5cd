"""The pass over the pixels as one operator: opaque to ``torch.compile``, with its own gradient rule."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.losses._engine import walk
from segkit.losses._engine.route import Route, choose
from segkit.losses._engine.streamed.at_once import Goal, at_once
from segkit.losses._engine.streamed.blocks import wide_dtype
from segkit.losses._engine.tracing import readable, transformed
from segkit.losses._engine.wanted import Found, Inputs, Spec, Sums

# The schemas are written out, since torch 2.6 cannot read them from these annotations.
_TENSORS = "Tensor logits, Tensor target, Tensor? pixel_weights, Tensor? class_weights, Tensor? alpha"
_SETTINGS = (
    "str function, bool sigmoid, int ignore_index, float gamma, float smoothing, int power, str pixelwise, "
    "bool region, bool smaller, int[] size"
)
# What an operator returns has to be a tensor: an empty one stands for what was not asked for.
_RESULTS = 6


@torch.library.custom_op(
    "segkit::pixel_sums",
    mutates_args=(),
    schema=f"({_TENSORS}, {_SETTINGS}) -> ({', '.join(['Tensor'] * _RESULTS)})",
)
def _pixel_sums(*args: Any) -> tuple[Tensor, ...]:
    return _plain_forward(*args)


def _plain_forward(*args: Any) -> tuple[Tensor, ...]:
    return _as_tensors(walk.forward(*_apart(args))[0], args[0])


def _apart(args: tuple[Any, ...]) -> tuple[Inputs, Spec, list[int]]:
    """The arguments of the operator as those of a pass."""
    return Inputs(*args[:5]), Spec(*args[5:14]), args[14]


def _as_tensors(found: Found, logits: Tensor) -> tuple[Tensor, ...]:
    parts = (*(found.sums or (None,) * 4), found.terms, found.weight)
    return tuple(logits.new_empty(0, dtype=wide_dtype(logits)) if part is None else part for part in parts)


def _found(parts: Sequence[Tensor], spec: Spec) -> Found:
    terms, weight = (parts[4] if spec.pixelwise != "none" else None, parts[5] if spec.pixelwise == "image" else None)
    return Found(Sums(parts[0], parts[1], parts[2], parts[3]) if spec.region else None, terms, weight)


@_pixel_sums.register_fake
def _(logits, target, pixel_weights, class_weights, alpha, *settings):  # type: ignore[no-untyped-def]
    batch, classes, size = logits.shape[0], logits.shape[1], settings[9]
    sigmoid, pixelwise, region = settings[1], settings[6], settings[7]
    channels = classes if sigmoid else 1
    regions = [(batch, classes)] * 3 + [(batch, channels)] if region else [(0,)] * 4
    terms = {"none": (0,), "image": (batch,), "map": (batch, channels, math.prod(size or logits.shape[2:]))}[pixelwise]
    weight = (batch,) if pixelwise == "image" else (0,)
    return tuple(logits.new_empty(shape, dtype=wide_dtype(logits)) for shape in (*regions, terms, weight))


@torch.library.custom_op(
    "segkit::pixel_sums_backward",
    mutates_args=(),
    schema=f"(Tensor? by_terms, Tensor? by_inter, Tensor? by_pred, {_TENSORS}, {_SETTINGS}) -> Tensor",
)
def _pixel_sums_backward(by_terms: Any, by_inter: Any, by_pred: Any, *args: Any) -> Tensor:
    return walk.backward(*_apart(args), (by_terms, by_inter, by_pred))


@_pixel_sums_backward.register_fake
def _(by_terms, by_inter, by_pred, logits, *rest):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


FIRST_ORDER_ONLY = (
    "segkit.losses: jvp, jacrev, jacfwd, hessian and a vectorized jacobian are not supported, since a pass makes one "
    "gradient of one number. Use torch.func.grad or backward(); for more than that use the plain torch losses."
)


def refuse_jvp(_ctx: Any, *_args: Any) -> Any:
    """For the ``jvp`` and the ``vmap`` of a pass that has only a backward."""
    raise RuntimeError(FIRST_ORDER_ONLY)


def _in_words(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward that says what to do, where several gradients at a time are asked for."""

    @functools.wraps(backward)
    def run(*args: Any) -> Any:
        try:
            return backward(*args)
        except RuntimeError as error:
            if "vmap" in str(error) or "Batching rule" in str(error):
                raise RuntimeError(FIRST_ORDER_ONLY) from error
            raise

    return run


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

    jvp = staticmethod(refuse_jvp)  # type: ignore[assignment]
    vmap = staticmethod(refuse_jvp)


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

    jvp = staticmethod(refuse_jvp)  # type: ignore[assignment]
    vmap = staticmethod(refuse_jvp)


def first_order(x: Tensor) -> Tensor:
    """``x``, of which a loss may be made in plain operators: the gradient of its gradient is refused, as everywhere."""
    if not x.requires_grad or torch.compiler.is_compiling():
        return x
    return _FirstOrder.apply(x)  # type: ignore[no-untyped-call]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, *_apart(inputs), None)


def _save(ctx: Any, inputs: Inputs, spec: Spec, size: Sequence[int], buffer: Tensor | None) -> None:
    ctx.set_materialize_grads(False)
    ctx.spec, ctx.size, ctx.keep = spec, size, buffer is not None
    ctx.save_for_backward(*inputs, buffer)


def _gradient(ctx: Any, by_terms: Tensor | None, by_inter: Tensor | None, by_pred: Tensor | None) -> Tensor:
    *tensors, buffer = ctx.saved_tensors  # once: checkpointing computes them anew at each look
    inputs = Inputs(*tensors)
    if by_inter is not None or by_pred is not None:  # the passes know either both or none
        # 0 / 0 in a formula, for a class that is not there and does not count, has a slope that is no number.
        one, other = (None if by is None else torch.where(by.isnan(), 0, by) for by in (by_inter, by_pred))
        by_inter = torch.zeros_like(other) if one is None else one  # type: ignore[arg-type]
        by_pred = torch.zeros_like(one) if other is None else other  # type: ignore[arg-type]
    elif by_terms is None:
        return torch.zeros_like(inputs.logits)
    if ctx.keep or transformed():
        # `.data` keeps the version counter: autograd may hand out the buffer once more, and we then compute anew.
        buffer = buffer.data if ctx.keep else None
        ctx.keep = False
        with torch.no_grad():
            grad = walk.backward(inputs, ctx.spec, ctx.size, (by_terms, by_inter, by_pred), buffer)
    else:
        grad = _pixel_sums_backward(by_terms, by_inter, by_pred, *inputs, *ctx.spec.settings(), ctx.size)
    return once(grad, inputs.logits)


@_in_words
def _backward(ctx: Any, by_inter: Any, by_pred: Any, _truth: Any, _pixels: Any, by_terms: Any, _: Any) -> Any:
    return (_gradient(ctx, by_terms, by_inter, by_pred), *(None,) * 14)


def refuse_vmap(*_args: Any) -> None:
    """For an operator that adds over the batch, and so has no batch to be mapped over."""
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
        ctx: Any, logits: Tensor, inputs: Inputs, spec: Spec, size: Sequence[int], keep: bool, out: list[Found]
    ) -> tuple[Tensor, ...]:
        found, buffer = walk.forward(inputs, spec, size, keep)
        _save(ctx, inputs, spec, size, buffer)
        out.append(found)
        region = () if found.sums is None else (found.sums.intersection, found.sums.prediction)
        return region if found.terms is None else (*region, found.terms)

    @staticmethod
    @_in_words
    def backward(ctx: Any, *grads: Any) -> Any:
        by_inter, by_pred = grads[:2] if ctx.spec.region else (None, None)
        by_terms = grads[-1] if ctx.spec.pixelwise != "none" else None
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
    @_in_words
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


def for_transforms(forward: Callable[..., Any], setup: Callable[..., None], backward: Callable[..., Any]) -> Any:
    """An operator for `torch.func`, whose transforms take none that brings its gradient along."""

    class Transformed(torch.autograd.Function):
        jvp = staticmethod(refuse_jvp)  # type: ignore[assignment]
        vmap = staticmethod(refuse_vmap)

    Transformed.forward = staticmethod(forward)  # type: ignore[method-assign]
    Transformed.setup_context = staticmethod(setup)  # type: ignore[method-assign]
    Transformed.backward = staticmethod(backward)  # type: ignore[method-assign]
    return Transformed.apply


_transformed = for_transforms(_plain_forward, _setup, _backward)


def one_number(source: Tensor, inputs: Inputs, spec: Spec, size: Sequence[int], goal: Goal, route: Route) -> Tensor:
    """The loss, differentiable by ``source``, of which ``inputs.logits`` is a view; for the route ``at_once``."""
    x, cut = inputs.logits, route.cut
    assert cut is not None
    walk.warn_of_probabilities(x, spec)
    if x.requires_grad and torch.is_grad_enabled():
        return with_gradient(source, inputs, lambda inputs: at_once(inputs, spec, size, goal, cut, True))
    return at_once(inputs._replace(logits=x.detach()), spec, size, goal, cut, False)[0]


def pixel_sums(inputs: Inputs, spec: Spec, size: Sequence[int] = (), route: Route | None = None) -> Found:
    """One pass over the pixels, differentiable by the logits; ``size`` as in `walk.forward`."""
    route = choose(inputs, spec, size) if route is None else route
    if route.call == "operator":
        return _found(_pixel_sums(*inputs, *spec.settings(), list(size)), spec)
    if route.call == "transformed":
        return _found(_transformed(*inputs, *spec.settings(), list(size)), spec)
    if route.call == "forward":
        return walk.forward(inputs._replace(logits=inputs.logits.detach()), spec, size)[0]
    out: list[Found] = []
    parts = _Eager.apply(inputs.logits, inputs, spec, size, route.keep, out)  # type: ignore[no-untyped-call]
    sums, terms, weight = out[0]
    if sums is not None:
        sums = Sums(parts[0], parts[1], sums.truth, sums.pixels)
    return Found(sums, None if terms is None else parts[-1], weight)
