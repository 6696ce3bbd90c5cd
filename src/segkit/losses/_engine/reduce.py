"""From losses of images and classes to one number: which of them count, and sums over the ranks of a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.tracing import group_of_name

Scope = Literal["image", "batch"]
Absent = Literal["skip", "zero", "one", "include"]


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


class Group:
    """A process group that a module holds: it survives copies, and a pickle, where its ranks are looked up by name."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def __repr__(self) -> str:
        return repr(self.group)

    def __deepcopy__(self, memo: Any) -> Group:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        world = torch.distributed.is_initialized() and self.group is torch.distributed.group.WORLD
        return named, ("world" if world else self.group.group_name,)


def named(name: str) -> Any:
    """A group by its name, for what was pickled; the world is looked up at the call."""
    return name if name == "world" else Group(group_of_name(name))


def resolved(group: Any) -> Any:
    """The group whose ranks share a loss; None for one process, which shares it with nobody."""
    if isinstance(group, Group):
        return group.group
    if not isinstance(group, str):
        return group
    if group != "world":
        raise ValueError(f"segkit.losses: `process_group` must be a group, 'world' or None, got {group!r}.")
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.group.WORLD if there and torch.distributed.get_world_size() > 1 else None


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


class Entries(NamedTuple):
    """Which images and classes a loss of regions counts, and for how much: the one policy.

    ``class_weights`` [C] or None for ones; ``every``: a class counts even if it is not there.
    """

    scope: Scope = "image"
    classes: Any = None  # a tuple of numbers, once it is checked
    absent: Absent = "skip"
    class_weights: Tensor | None = None
    every: bool = False

    def gather(self, parts: Sequence[Tensor], group: Any = None) -> Sequence[Tensor]:
        """Some `Sums`, in order, of the chosen classes, and over the batch and over ranks if the scope says so."""
        if self.scope == "batch":
            parts = sum_over_ranks([part.sum(0, keepdim=True) for part in parts], group)
        if self.classes is not None:
            number = parts[0].shape[1]
            index = torch.tensor(list(self.classes), device=parts[0].device)
            parts = [part if part.shape[1] != number else part.index_select(1, index) for part in parts]
        return parts

    def weights(self, truth: Tensor, pixels: Tensor) -> Tensor:
        """How much each entry of gathered sums [B, C] counts; bool if nothing but whether it does matters."""
        counts = truth > 0 if self.absent == "skip" and not self.every else (pixels > 0).expand_as(truth)
        table = self.class_weights
        if table is None:
            return counts
        return counts * (table if self.classes is None else table[list(self.classes)]).to(truth.dtype)

    def spread(self, slope: Tensor, images: int, classes: int) -> Tensor:
        """The slope by gathered sums, as that by the sums of all images and classes: the way back of `gather`."""
        if self.classes is not None:
            index = torch.tensor(list(self.classes), device=slope.device)
            slope = slope.new_zeros((len(slope), classes)).index_add_(1, index, slope)
        return slope if len(slope) == images else slope.expand(images, -1)


def reduce_entries(loss: Tensor, weight: Tensor, reduction: str, group: Any) -> Tensor:
    """Bring the losses of images and classes together.

    Args:
        loss: [B, C]; may be anything, NaN too, where it does not count.
        weight: [B, C] from `Entries.weights`.
        reduction: ``"mean"`` over the entries that count, ``"sum"``, or ``"none"``: NaN where it does not count.
        group: process group whose ranks share the mean.
    """
    plain = weight.dtype == torch.bool
    loss = torch.where(weight if plain else weight != 0, loss, 0)
    loss = loss if plain else loss * weight
    if reduction == "none":  # what is left out is no number, and so not a perfect one
        return torch.where(weight if plain else weight != 0, loss, torch.nan)
    if group is not None:
        total = weight.sum().to(loss.dtype)
        return weighted_mean(loss, total, group) if reduction == "mean" else sum_over_ranks([loss.sum()], group)[0]
    return loss.sum() if reduction == "sum" else loss.sum() / divisor(weight)


def divisor(weight: Tensor) -> Tensor:
    """What a mean divides by: the sum of the weights, 1 where nothing counts."""
    return weight.sum().clamp_min(1) if weight.dtype == torch.bool else nonzero(weight.sum())
