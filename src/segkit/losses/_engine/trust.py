"""Whether the kernels do on a device what the torch code does: found out at their first use, for each kind of input.

No kernel is believed: on a card that it does not compile for, or with a compiler that makes something else of it, the
torch code runs, and one warning says why. What `use_backend("triton")` asks for is not looked at: there it raises.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from segkit import _triton
from segkit.losses._engine.wanted import Inputs, Spec

_found: dict[Hashable, bool] = {}  # as the compiled kernels, for the life of the process
PIXELS = 300  # of a trial: more than a tile, and no multiple of one

Run = Callable[[Inputs, Spec, tuple[int, ...]], Sequence[Tensor]]


def trusted(inputs: Inputs, spec: Spec, size: Sequence[int], what: str, kernels: Run, plain: Run) -> bool:
    """Whether to let the kernels run; compares both on a small random batch of the same kind, the first time.

    Args:
        inputs: what they would be given.
        spec: what they would be asked.
        size: what the logits are interpolated to.
        what: which kernels, in a word.
        kernels: what they give: sums and gradients.
        plain: what the torch code gives.
    """
    x = inputs.logits
    if _triton.chosen or (x.is_cuda and torch.cuda.is_current_stream_capturing()):
        return True
    classes = min(x.shape[1], 300)  # more are gone over in tiles as these are
    shapes = tuple(None if t is None else (t.dtype, t.ndim) for t in inputs)
    kind = (what, x.device, replace(spec, function="", ignore_index=0), len(size), classes > 256, shapes)
    if kind not in _found:
        _found[kind] = True  # what the trial itself runs is not tried
        reason = _difference(*_small(inputs, classes, size), spec, kernels, plain)
        _found[kind] = not reason
        if reason:
            warnings.warn(
                f"segkit.losses: the torch code runs for {what} on {x.device}, since its Triton kernel {reason}. "
                "use_backend('triton') runs it anyway, or says more.",
                stacklevel=2,
            )
    return _found[kind]


def _small(inputs: Inputs, classes: int, size: Sequence[int]) -> tuple[Inputs, tuple[int, ...]]:
    """A random problem of the same kind, without touching the state of anybody's generator."""
    x, target, device = inputs.logits, inputs.target, inputs.logits.device
    g = torch.Generator().manual_seed(0)
    coarse = (PIXELS,) if not size else (9,) * len(size)
    fine = tuple(2 * n for n in coarse) if size else ()
    pixels = PIXELS if not size else torch.Size(fine).numel()

    def numbers(like: Tensor | None, *shape: int) -> Tensor | None:
        return None if like is None else torch.rand(shape, generator=g).add(0.5).to(device, like.dtype)

    logits = torch.randn((2, classes, *coarse), generator=g).mul(2).to(device, x.dtype)
    if target.ndim == 2:
        labels = torch.randint(0, min(classes, 100), (2, pixels), generator=g)
    elif target.is_floating_point():
        labels = torch.rand((2, classes, pixels), generator=g).softmax(1)
    else:
        labels = torch.randint(0, 2, (2, classes, pixels), generator=g)
    tables = [None if t is None else numbers(t, *t.shape[:-1], classes) for t in inputs[3:]]
    weights = numbers(inputs.pixel_weights, 2, pixels)
    return Inputs(logits, labels.to(device, target.dtype), weights, tables[0], tables[1]), fine


def _difference(inputs: Inputs, size: tuple[int, ...], spec: Spec, kernels: Run, plain: Run) -> str:
    """What is wrong with the kernels, in the middle of a sentence; empty if nothing is."""
    try:
        pairs = list(zip(kernels(inputs, spec, size), plain(inputs, spec, size), strict=True))
        for found, expected in pairs:
            scale = expected.double().abs().max().clamp_min(1e-30)
            off = float((found.double() - expected.double()).abs().max() / scale) if expected.numel() else 0.0
            if not off < (1e-3 if inputs.logits.dtype in (torch.float32, torch.float64) else 1e-2):
                return f"gives other numbers (by {off:.1e} of the largest)"
    except Exception as error:  # whatever a compiler or a driver raises
        return f"fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""
