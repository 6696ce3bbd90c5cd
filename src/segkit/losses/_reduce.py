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
    return above / torch.where(below == 0, 1, below)


def reduce_entries(
    loss: Tensor,
    present: Tensor,
    counted: Tensor,
    weights: Tensor | None,
    *,
    absent: Absent,
    reduction: str,
    group: Any,
) -> Tensor:
    """Bring the losses of images and classes together.

    Args:
        loss: [B, C].
        present: [B, C], whether the class is in the truth.
        counted: [B, C], whether the image has pixels that count at all.
        weights: [C], or None for ones.
        absent: what becomes of a class that is not present: left out, loss 0, or loss 1.
        reduction: ``"mean"`` over the entries that count, ``"sum"``, or ``"none"``.
        group: process group whose ranks share the mean.
    """
    if absent != "skip":
        loss = torch.where(present, loss, float(absent == "one"))
    weight = (counted & present if absent == "skip" else counted).to(loss.dtype)
    if weights is not None:
        weight = weight * weights
    loss = torch.where(weight == 0, 0, loss) * weight
    if reduction == "none":
        return loss
    return weighted_mean(loss, weight, group) if reduction == "mean" else sum_over_ranks([loss.sum()], group)[0]
