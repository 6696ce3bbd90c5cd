"""From sums to one number: which entries a mean counts, and sums over the ranks of a process group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Absent = Literal["skip", "zero", "one"]


class _AllReduce(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of the gradients of all ranks, as each rank's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        out = x.detach().clone()
        torch.distributed.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous().clone()
        torch.distributed.all_reduce(grad, group=ctx.group)
        return grad, None


def sum_over_ranks(parts: Sequence[Tensor], group: Any) -> list[Tensor]:
    """Each part summed over the ranks of ``group``, in one message; unchanged if there is none."""
    if group is None:
        return list(parts)
    flat: Tensor = _AllReduce.apply(torch.cat([part.reshape(-1) for part in parts]), group)  # type: ignore[no-untyped-call]
    pieces = torch.split(flat, [part.numel() for part in parts])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def weighted_mean(total: Tensor, weight: Tensor, group: Any) -> Tensor:
    """sum(total) / sum(weight) over all ranks; 0, still connected, where nothing counts."""
    above, below = sum_over_ranks([total.sum(), weight.sum()], group)
    return above / nonzero(below)


def nonzero(x: Tensor) -> Tensor:
    """``x``, but 1 where it is 0: what a mean of nothing may be divided by."""
    return torch.where(x == 0, 1, x)


def reduce_entries(loss: Tensor, counts: Tensor, weights: Tensor | None, *, reduction: str, group: Any) -> Tensor:
    """Bring the losses of images and classes together.

    Args:
        loss: [B, C].
        counts: bool [B, C]: which of them count; the others may be anything, NaN too.
        weights: [C], or None for ones.
        reduction: ``"mean"`` over the entries that count, ``"sum"``, or ``"none"``.
        group: process group whose ranks share the mean.
    """
    weight = counts
    if weights is not None:
        weight = counts * weights.to(loss.dtype)
        counts = weight != 0
    loss = torch.where(counts, loss, 0)
    loss = loss if weights is None else loss * weight
    if reduction == "none":
        return loss
    if group is not None:
        total = weight.sum().to(loss.dtype)
        return weighted_mean(loss, total, group) if reduction == "mean" else sum_over_ranks([loss.sum()], group)[0]
    if reduction == "sum":
        return loss.sum()
    # A number of entries is 0 or at least 1.
    return loss.sum() / (weight.sum().clamp_min(1) if weights is None else nonzero(weight.sum()))
