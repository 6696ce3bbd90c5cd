"""Where a softmax is nearly sure: there 1 - p of the surest class cannot be had by subtraction.

The gradient by the logits of a softmax adds up to 0 over the classes. So at the surest class, where p (a - <p, a>) is
lost in rounding, it is minus the sum of the others, which have all their digits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.tracing import readable

SURE = 1e-3  # float32 knows 1 - p to 6e-8: with a few more roundings, to a thousandth of that down to here


class Surest(NamedTuple):
    """Pixels, by sample and place in it, and the surest class of each."""

    sample: Tensor
    pixel: Tensor
    top: Tensor


def surest(p: Tensor, unsure: Tensor | None = None) -> Surest | None:
    """The nearly sure pixels of p [b, C, n], or those at which ``unsure`` [b, n] is small; None if there are none."""
    sure = p.detach().amax(1) > 1 - SURE if unsure is None else unsure < SURE
    if unsure is None and readable(sure) and not bool(sure.any()):
        return None
    if not readable(sure):  # nothing may wait for how many there are: all pixels, and what is not sure gains by it, too
        return Surest(*_all(sure), p.argmax(1).flatten())
    sample, pixel = sure.nonzero(as_tuple=True)
    highest, top = p[sample, :, pixel].max(1)
    if unsure is not None:  # where y is unlikely, several others may share the rest
        sure = highest > 1 - SURE
        if not bool(sure.any()):
            return None
        sample, pixel, top = sample[sure], pixel[sure], top[sure]
    return Surest(sample, pixel, top)


def _all(like: Tensor) -> tuple[Tensor, Tensor]:
    place = torch.arange(like.numel(), device=like.device)
    return place // like.shape[1], place % like.shape[1]


def mend_(gradient: Tensor, where: Surest | None) -> None:
    """Make the gradient [b, C, n] of the surest classes minus the sum of the others, in place."""
    if where is None:
        return
    sample, pixel, top = where
    gradient[sample, top, pixel] = 0
    gradient[sample, top, pixel] = -gradient[sample, :, pixel].sum(1)
