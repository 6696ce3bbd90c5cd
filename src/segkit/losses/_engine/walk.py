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

from segkit.losses._engine.route import code_for
from segkit.losses._engine.streamed import hard, soft
from segkit.losses._engine.streamed.blocks import Logits
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.streamed.totals import Totals
from segkit.losses._engine.tracing import looked_on, readable, transformed
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
    code = code_for(inputs, spec, size)
    if code == "kernels":
        from segkit.losses._engine.triton import launch

        return launch.forward(inputs, spec, size), None
    logits = CoarseLogits(x, list(size)) if size else Logits(x)
    totals = Totals(logits.shape, spec, logits.dtype, logits.device)
    buffer = torch.empty_like(x) if keep else None
    if code == "hard":
        hard.forward(logits, inputs, spec, buffer, totals)
    else:
        soft.forward(logits, inputs, spec, totals)
    return totals.finish(), buffer


def backward(inputs: Inputs, spec: Spec, size: Sequence[int], by: Upstream, buffer: Tensor | None = None) -> Tensor:
    """The gradient by the logits, in their dtype and shape; written over ``buffer`` if there is one."""
    code = "hard" if buffer is not None else code_for(inputs, spec, size)
    if code == "kernels":
        from segkit.losses._engine.triton import launch

        return launch.backward(inputs, spec, size, by)
    logits = CoarseLogits(inputs.logits, list(size)) if size else Logits(inputs.logits)
    if code == "hard":
        hard.backward(logits, inputs, spec, by, buffer)
    else:
        soft.backward(logits, inputs, spec, by)
    return (logits.gradient() if buffer is None else buffer).view(inputs.logits.shape)


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
