"""Where a softmax is nearly sure: there 1 - p of the surest class cannot be had by subtraction.

The gradient by the logits of a softmax adds up to 0 over the classes. So at the surest class, where p (a - <p, a>) is
lost in rounding, it is minus the sum of the others, which have all their digits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segkit.losses._engine.streamed.by_class import in_one_row
from segkit.losses._engine.tracing import readable, transformed

SURE = 5e-4  # float32 knows 1 - p to 6e-8: with a few more roundings, to a thousandth of that down to here


class Surest(NamedTuple):
    """Some pixels, by their place among all b x n of a block, and which class is likely there, [C, k]: one or none."""

    place: Tensor
    likely: Tensor


def surest(p: Tensor) -> Surest | None:
    """The nearly sure pixels of p [b, C, n]; None if there are none."""
    if not readable(p):  # nothing may wait for how many there are: all pixels, and what is not sure gains by it, too
        return _of(p, torch.arange(p.shape[0] * p.shape[2], device=p.device))
    return _of(p, _where(p.detach().amax(1), above=1 - SURE))


def sure_and_wrong(p: Tensor, p_y: Tensor, low: float, highest: float) -> Surest | None:
    """Those of p [b, C, n] that are sure of another class than their own, which has ``p_y`` [b, n].

    No p_y is below ``low``, and no p above ``highest``.
    """
    if not readable(p):
        return surest(p)
    if low >= SURE or highest <= 1 - SURE:
        return None
    unlikely = _where(p_y, below=SURE)
    if len(unlikely) * 64 > p_y.numel():  # several others may share the rest: of many pixels it pays to ask
        unlikely = unlikely[p.amax(1).view(-1)[unlikely] > 1 - SURE]
    return _of(p, unlikely)


def sure_and_right(p_y: Tensor, valid: Tensor | None, high: float) -> bool:
    """Whether a pixel that counts is nearly sure of its own class, as far as that may be looked at."""
    if not readable(p_y) or high <= 1 - SURE:
        return False
    return valid is None or bool(((p_y > 1 - SURE) & valid).any())


def mend_(gradient: Tensor, where: Surest | None) -> None:
    """Make the gradient [b, C, n] of the surest classes minus the sum of the others, in place."""
    if where is None:
        return
    row, places = in_one_row(gradient), _all_classes(gradient, where.place)
    some = row.index_select(0, places.view(-1)).view(places.shape)
    rest = some.masked_fill(where.likely, 0).sum(0).neg_()
    row.index_copy_(0, places.view(-1), torch.where(where.likely, rest, some).view(-1))


def _of(p: Tensor, place: Tensor) -> Surest | None:
    """What is likely at some pixels."""
    if not len(place):
        return None
    places = _all_classes(p, place)
    return Surest(place, (in_one_row(p).index_select(0, places.view(-1)) > 0.5).view(places.shape))


def _all_classes(x: Tensor, place: Tensor) -> Tensor:
    """Where in `in_one_row` the classes of some pixels of [b, C, n] lie, [C, k]."""
    down, across, right = x.stride()
    first = place if right == 1 else place * right
    if len(x) > 1:
        first = first + torch.div(place, x.shape[2], rounding_mode="floor") * (down - x.shape[2] * right)
    return torch.arange(0, x.shape[1] * across, across, device=x.device)[:, None] + first


def _where(x: Tensor, *, below: float = -math.inf, above: float = math.inf) -> Tensor:
    """The flat places of the values below the one number or above the other."""
    if transformed():
        return ((x < below) | (x > above)).flatten().nonzero()[:, 0]
    flat = x.detach().reshape(-1).numpy()  # NumPy takes a tenth of the time
    return torch.from_numpy(np.flatnonzero(flat < below if above == math.inf else flat > above))


def sum_over_classes(x: Tensor) -> Tensor:
    """x.sum(1) of [b, C, n], in two thirds of the time; as `torch.bmm` with out=, or autocast would round x."""
    total = x.new_empty((x.shape[0], 1, x.shape[2]))
    torch.bmm(x.new_ones(()).expand(x.shape[0], 1, x.shape[1]), x, out=total)
    return total[:, 0]
