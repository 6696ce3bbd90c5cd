"""The pass over the pixels, forward and backward, by the code that the route names.

No one-hot target, no ``[B, C, N]`` tensor but one: the forward leaves the probabilities in a buffer (if a gradient will
be wanted), and the backward turns that very buffer into the gradient. Where there is no buffer (half precision, coarse
logits, a second backward, a compiled graph) the backward computes the probabilities again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.losses._engine.route import by_index, code_for
from segkit.losses._engine.streamed import hard, soft
from segkit.losses._engine.streamed.blocks import Logits
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.streamed.totals import Totals
from segkit.losses._engine.tracing import looked_on, readable, transformed
from segkit.losses._engine.trust import trusted
from segkit.losses._engine.wanted import Found, Inputs, Spec, Upstream


def forward(inputs: Inputs, spec: Spec, size: Sequence[int], keep: bool = False) -> tuple[Found, Tensor | None]:
    """Run the pass.

    Args:
        inputs: checked and flat.
        spec: what is asked for.
        size: what the logits are interpolated to; empty for logits as fine as the target.
        keep: leave the probabilities in a buffer for the backward.

    Returns:
        What is found, and the buffer.
    """
    x = inputs.logits
    warn_of_probabilities(x, spec)
    if _by_kernels(inputs, spec, size):
        from segkit.losses._engine.triton import launch

        return launch.forward(inputs, spec, size), None
    return _forward(inputs, spec, size, keep)


def _forward(inputs: Inputs, spec: Spec, size: Sequence[int], keep: bool) -> tuple[Found, Tensor | None]:
    """`forward` by the torch code."""
    x = inputs.logits
    logits = CoarseLogits(x, list(size)) if size else Logits(x)
    totals = Totals(logits.shape, spec, logits.dtype, logits.device)
    buffer = torch.empty_like(x) if keep else None
    if by_index(inputs, spec):
        hard.forward(logits, inputs, spec, buffer, totals)
    else:
        soft.forward(logits, inputs, spec, totals)
    return totals.finish(), buffer


def backward(inputs: Inputs, spec: Spec, size: Sequence[int], by: Upstream, buffer: Tensor | None = None) -> Tensor:
    """The gradient by the logits, in their dtype and shape; written over ``buffer`` if there is one."""
    if buffer is None and _by_kernels(inputs, spec, size):
        from segkit.losses._engine.triton import launch

        return launch.backward(inputs, spec, size, by)
    return _backward(inputs, spec, size, by, buffer)


def _backward(inputs: Inputs, spec: Spec, size: Sequence[int], by: Upstream, buffer: Tensor | None = None) -> Tensor:
    """`backward` by the torch code."""
    logits = CoarseLogits(inputs.logits, list(size)) if size else Logits(inputs.logits)
    if by_index(inputs, spec):
        hard.backward(logits, inputs, spec, by, buffer)
    else:
        soft.backward(logits, inputs, spec, by)
    return (logits.gradient() if buffer is None else buffer).view(inputs.logits.shape)


def _by_kernels(inputs: Inputs, spec: Spec, size: Sequence[int]) -> bool:
    """Whether the kernels make a pass, and do on this device what the torch code does."""
    return code_for(inputs, spec, size) == "kernels" and trusted(
        inputs, spec, size, "this loss", _of_kernels, _of_torch
    )


def _of_kernels(inputs: Inputs, spec: Spec, size: tuple[int, ...]) -> list[Tensor]:
    """All that the kernels give for a problem."""
    from segkit.losses._engine.triton import launch

    found = launch.forward(inputs, spec, size)
    return [*_tensors(found), launch.backward(inputs, spec, size, _slopes_for(found))]


def _of_torch(inputs: Inputs, spec: Spec, size: tuple[int, ...]) -> list[Tensor]:
    """The same by the torch code."""
    found, _ = _forward(inputs, spec, size, False)
    return [*_tensors(found), _backward(inputs, spec, size, _slopes_for(found))]


def _tensors(found: Found) -> list[Tensor]:
    return [part for part in (*(found.sums or ()), found.terms, found.weight) if part is not None]


def _slopes_for(found: Found) -> Upstream:
    """Some gradients by what was found: other ones for each image and class."""

    def some(x: Tensor | None) -> Tensor | None:
        return None if x is None else torch.linspace(-1, 2, x.numel(), dtype=x.dtype, device=x.device).view(x.shape)

    sums = found.sums
    return some(found.terms), None if sums is None else some(sums.intersection), None if sums is None else some(sums[1])


def warn_of_yes_probabilities(x: Tensor, spec: Spec) -> None:
    """The same for a sigmoid: no raw scores are all in [0, 1], unless there are few of them, or all are equal."""
    if not 0 <= float(x.as_strided((1,), (1,), x.storage_offset())) <= 1:
        return
    some = x.flatten(2)[:, :, :1000].float()
    if (
        some.numel() >= 100
        and float(some.min()) >= 0
        and float(some.max()) <= 1
        and bool((some != some[0, 0, 0]).any())
    ):
        warnings.warn(
            f"{spec.function}: `logits` look like probabilities (all in [0, 1]). The sigmoid is taken here: pass the "
            "network's raw scores, without sigmoid.",
            stacklevel=1,
        )


def warn_of_probabilities(x: Tensor, spec: Spec) -> None:
    """Warn where the logits are probabilities already: one pixel tells, more if it could be one."""
    if not (readable(x) or type(x) is torch.nn.Parameter) or not x.numel() or transformed() or looked_on():
        return
    x = x.detach()
    if spec.sigmoid:
        warn_of_yes_probabilities(x, spec)
        return
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
