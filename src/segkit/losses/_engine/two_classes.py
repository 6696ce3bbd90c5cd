"""The pass for a loss that asks for two classes of each pixel: its own, and another one.

With p = softmax(x), y the class of a pixel and c the other one, the pass gives -log p_y and p_c. With their gradients
u and v that of the logits is p (u - p_c v), less u at y and more p_c v at c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segkit.losses._engine.operator import for_transforms, once, refuse_jvp, refuse_vmap
from segkit.losses._engine.route import all_count
from segkit.losses._engine.streamed import hard
from segkit.losses._engine.streamed.blocks import Logits, blocks, wide_dtype
from segkit.losses._engine.streamed.by_class import add_at_, at_place, in_memory
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.streamed.labels import check_range, read_labels
from segkit.losses._engine.tracing import in_plain_sight, transformed
from segkit.losses._engine.wanted import Inputs, Spec


def two_classes(inputs: Inputs, other: Tensor, spec: Spec, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """-log p at the class of each pixel, and p at ``other`` [B, N]: two maps [B, N], float32 or wider, 0 where ignored.

    Differentiable by the logits; ``size`` is what they are interpolated to, empty for logits as fine as the target.
    """
    tensors = (inputs.logits, inputs.target, other, inputs.pixel_weights)
    settings = (spec.function, spec.ignore_index, list(size))
    if in_plain_sight(inputs.logits) and not transformed():
        found: tuple[Tensor, Tensor] = _Eager.apply(*tensors, settings)  # type: ignore[no-untyped-call]
        return found
    if in_plain_sight(inputs.logits):
        return _transformed(*tensors, *settings)
    return _operator(*tensors, *settings)


def _forward(
    inputs: Inputs, other: Tensor, spec: Spec, size: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Both maps, and the probabilities if they are kept."""
    x = inputs.logits
    logits = CoarseLogits(x, list(size)) if size else Logits(x)
    clean = all_count(inputs, spec, logits.shape[1])
    buffer = torch.empty_like(x) if keep else None
    own, at_other = (torch.empty(inputs.target.shape, dtype=logits.dtype, device=x.device) for _ in range(2))
    for block in blocks(*logits.shape, logits.row, lean=buffer is None):
        some = logits.read(block)
        labels = read_labels(inputs, block, spec, some.shape[1], logits.dtype, clean)
        if not clean:
            check_range(labels.y, some.shape[1], spec)
        pixels = hard.probabilities(some, labels, None, logits.scratch(some) if buffer is None else block.cut(buffer))
        nll, c = hard.minus_log(pixels, some), block.cut(other)
        p_c = at_place(pixels.p, in_memory(pixels.p, c), c.shape)
        if labels.valid is not None:
            nll, p_c = torch.where(labels.valid, nll, 0), torch.where(labels.valid, p_c, 0)
        block.cut(own).copy_(nll)
        block.cut(at_other).copy_(p_c)
    return own, at_other, buffer


def _backward(
    inputs: Inputs, other: Tensor, spec: Spec, size: Sequence[int], by: Sequence[Tensor], buffer: Tensor | None
) -> Tensor:
    """The gradient by the logits; written over ``buffer``, the probabilities, if they are there."""
    logits = CoarseLogits(inputs.logits, list(size)) if size else Logits(inputs.logits)
    clean = all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row, lean=buffer is None):
        labels = read_labels(inputs, block, spec, logits.shape[1], logits.dtype, clean)
        u, v = (block.cut(b) if labels.valid is None else torch.where(labels.valid, block.cut(b), 0) for b in by)
        if buffer is None:
            some = logits.read(block)
            pixels = hard.probabilities(some, labels, None, logits.scratch(some))
        else:
            pixels = hard.kept(labels, None, block.cut(buffer))
        p, sure = pixels.p, hard.sure(pixels)
        place = in_memory(p, block.cut(other))
        of_other = at_place(p, place, u.shape).mul_(v)
        p.mul_((u - of_other)[:, None])
        add_at_(p, place, of_other)
        add_at_(p, in_memory(p, labels.y), u, -1)
        hard.mend_(p, sure)
        if buffer is None:
            logits.write(block, p)
    return (logits.gradient() if buffer is None else buffer).view(inputs.logits.shape)


class _Eager(torch.autograd.Function):
    """Without the dispatcher, and with the probabilities kept where they can become the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, target: Tensor, other: Tensor, weights: Tensor | None, settings: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor]:
        inputs, spec, size = Inputs(x, target, weights), Spec(settings[0], False, settings[1]), settings[2]
        keep = ctx.needs_input_grad[0] and not size and x.dtype == wide_dtype(x)
        own, at_other, buffer = _forward(inputs, other, spec, size, keep)
        ctx.settings, ctx.keep = (spec, size), buffer is not None
        ctx.save_for_backward(*inputs[:3], other, buffer)
        return own, at_other

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> Any:
        *tensors, other, buffer = ctx.saved_tensors  # once: checkpointing computes them anew at each look
        # `.data` keeps the version counter: autograd may hand out the buffer once more, and we then compute anew.
        buffer = buffer.data if ctx.keep else None
        ctx.keep = False
        with torch.no_grad():
            spec, size = ctx.settings
            grad = _backward(Inputs(*tensors), other, spec, size, by, buffer)
        return (once(grad, tensors[0]), *(None,) * 4)

    jvp = staticmethod(refuse_jvp)  # type: ignore[assignment]


_ARGUMENTS = (
    "Tensor logits, Tensor target, Tensor other, Tensor? pixel_weights, str function, int ignore_index, int[] size"
)


@torch.library.custom_op("segkit::two_classes", mutates_args=(), schema=f"({_ARGUMENTS}) -> (Tensor, Tensor)")
def _operator(*args: Any) -> tuple[Tensor, Tensor]:
    return _both(*args)


def _both(*args: Any) -> tuple[Tensor, Tensor]:
    x, target, other, weights, function, ignored, size = args
    return _forward(Inputs(x, target, weights), other, Spec(function, False, ignored), size, False)[:2]


@_operator.register_fake
def _(logits, target, *rest):  # type: ignore[no-untyped-def]
    one = logits.new_empty(target.shape, dtype=wide_dtype(logits))
    return one, torch.empty_like(one)


@torch.library.custom_op(
    "segkit::two_classes_backward", mutates_args=(), schema=f"(Tensor u, Tensor v, {_ARGUMENTS}) -> Tensor"
)
def _operator_backward(u: Tensor, v: Tensor, *args: Any) -> Tensor:
    return _made_anew(u, v, *args)


@torch.no_grad()
def _made_anew(u: Tensor, v: Tensor, *args: Any) -> Tensor:
    x, target, other, weights, function, ignored, size = args
    return _backward(Inputs(x, target, weights), other, Spec(function, False, ignored), size, (u, v), None)


@_operator_backward.register_fake
def _(u, v, logits, *rest):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.settings = inputs[4:]
    ctx.save_for_backward(*inputs[:4])


def _gradient(ctx: Any, u: Tensor, v: Tensor) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    backward = _made_anew if transformed() else _operator_backward
    return (once(backward(u, v, *tensors, *ctx.settings), tensors[0]), *(None,) * 6)


_operator.register_autograd(_gradient, setup_context=_setup)
_operator.register_vmap(refuse_vmap)


_transformed = for_transforms(_both, _setup, _gradient)
