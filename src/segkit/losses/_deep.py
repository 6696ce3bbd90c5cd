"""One loss at several depths of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from segkit.losses._arguments import choice
from segkit.losses._module import Loss

__all__ = ["DeepSupervision"]


class DeepSupervision(nn.Module):
    """One loss at several depths: the weighted sum over outputs from fine to coarse, all against the full target.

    Args:
        loss: a loss of this room, or any callable (logits, target) -> scalar.
        weights: one for each output, finest first; None for 1, 1/2, 1/4, ... divided by their sum.
        resize: ``"logits"``: coarse outputs are interpolated to the target, so thin labels are not lost; a loss of this
            room does so block by block. ``"target"``: the target is reduced to each output by nearest, which is
            cheaper, and what nnU-Net does.

    Example:
        >>> import torch
        >>> from segkit.losses import CrossEntropyLoss
        >>> outputs = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)]
        >>> DeepSupervision(CrossEntropyLoss())(outputs, torch.zeros(1, 8, 8, dtype=torch.uint8))
        tensor(0.6931)

    Source: Lee et al. 2015; the default weights are those of nnU-Net.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        *,
        weights: Sequence[float] | None = None,
        resize: Literal["logits", "target"] = "logits",
    ) -> None:
        super().__init__()
        choice("DeepSupervision", "resize", resize, ("logits", "target"))
        self.loss, self.resize = loss, resize
        self.weights = None if weights is None else [float(w) for w in weights]

    def forward(self, outputs: Sequence[Tensor] | Tensor, target: Tensor) -> Tensor:
        """The loss of all outputs.

        Args:
            outputs: logits [B, C, *spatial], finest first.
            target: class indices [B, *spatial] of the finest.

        Raises:
            TypeError: one tensor instead of a list.
            ValueError: another number of outputs than of weights, or none.
        """
        if isinstance(outputs, Tensor):
            raise TypeError("DeepSupervision: `outputs` must be a list of tensors, finest first, got one tensor.")
        weights = self.weights or [0.5**k / (2 - 0.5 ** (len(outputs) - 1)) for k in range(len(outputs))]
        if len(weights) != len(outputs) or not weights:
            raise ValueError(
                f"DeepSupervision: `outputs` must hold {len(weights) or 'at least one'}, one for each weight, got "
                f"{len(outputs)}."
            )
        total = weights[0] * self._one(outputs[0], target)
        for weight, output in zip(weights[1:], outputs[1:], strict=True):
            total = total + weight * self._one(output, target)
        return total

    def _one(self, logits: Tensor, target: Tensor) -> Tensor:
        size, axes = logits.shape[2:], logits.ndim - 2
        if axes < 1 or target.ndim < axes or size == target.shape[-axes:]:
            return self.loss(logits, target)
        if self.resize == "target":
            return self.loss(logits, nearest(target, list(size)))
        if isinstance(self.loss, Loss):
            return self.loss(logits, target, upsample="bilinear")
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[axes]
        return self.loss(interpolate(logits, list(target.shape[-axes:]), mode=mode, align_corners=False), target)

    def extra_repr(self) -> str:
        """The options."""
        return f"weights={self.weights}, resize={self.resize!r}"


def nearest(target: Tensor, size: list[int]) -> Tensor:
    """Labels at the pixels nearest to the centres of a coarser grid; any dtype."""
    for axis, (new, old) in enumerate(zip(size, target.shape[-len(size) :], strict=True)):
        place = [min(int((k + 0.5) * old / new), old - 1) for k in range(new)]
        target = target.index_select(target.ndim - len(size) + axis, torch.tensor(place, device=target.device))
    return target
