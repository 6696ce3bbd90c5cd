"""One loss at several depths of a network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from segkit.losses._arguments import choice
from segkit.losses._module import Loss, leave_out_others

__all__ = ["DeepSupervision"]

Outputs: TypeAlias = "Sequence[Tensor] | Mapping[str, Tensor] | Tensor"


class DeepSupervision(nn.Module):
    """One loss at several depths: the weighted sum over outputs from fine to coarse, all against the full target.

    Args:
        loss: a loss of this module, or any callable (logits, target) -> scalar.
        weights: one for each output, finest first; None for 1, 1/2, 1/4, ... divided by their sum. An output of weight
            0 is not looked at.
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
        if self.weights is not None and not all(0 <= w < float("inf") for w in self.weights):
            raise ValueError(f"DeepSupervision: `weights` must be finite and at least 0, got {self.weights}.")

    def forward(self, outputs: Outputs, target: Tensor, *, pixel_weights: Tensor | None = None) -> Tensor:
        """The loss of all outputs.

        Args:
            outputs: logits [B, C, *spatial], finest first: a list, a dict of them, or stacked [B, K, C, *spatial] at
                one size. One tensor of logits is one output, as networks give it in evaluation.
            target: class indices [B, *spatial] of the finest.
            pixel_weights: [B, *spatial] of the finest.

        Raises:
            ValueError: another number of outputs than of weights, or none.
        """
        several = self._listed(outputs, target)
        if isinstance(outputs, Tensor) and len(several) == 1:
            return self._one(several[0], target, pixel_weights)
        weights = self.weights or [0.5**k / (2 - 0.5 ** (len(several) - 1)) for k in range(len(several))]
        if len(weights) != len(several) or not weights:
            raise ValueError(
                f"DeepSupervision: `outputs` must hold {len(weights) or 'at least one'}, one for each weight, got "
                f"{len(several)}."
            )
        pairs = zip(weights, several, strict=True)
        losses = [weight * self._one(output, target, pixel_weights) for weight, output in pairs if weight]
        return functools.reduce(torch.add, losses) if losses else 0 * self._one(several[0], target, pixel_weights)

    def _listed(self, outputs: Outputs, target: Tensor) -> list[Tensor]:
        """The outputs, finest first."""
        if isinstance(outputs, Mapping):
            return list(outputs.values())
        if not isinstance(outputs, Tensor):
            return list(outputs)
        # One more axis than logits of this target have: the outputs of a network that stacks them.
        axes = outputs.ndim - 3
        stacked = axes > 0 and outputs.shape[3:] in (target.shape[1:], target.shape[2:], target.shape[1:-1])
        return list(outputs.unbind(1)) if stacked and target.shape[1:] != outputs.shape[2:] else [outputs]

    def _one(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        weights = {} if pixel_weights is None else {"pixel_weights": pixel_weights}
        binary = isinstance(self.loss, Loss) and self.loss._options.get("mode") == "binary"
        without_channel = binary and (logits.ndim < 3 or (logits.shape[1] != 1 and target.ndim <= logits.ndim))
        axes = logits.ndim - (1 if without_channel else 2)
        size = logits.shape[logits.ndim - axes :]
        channels = (1, logits.shape[1])
        if target.ndim == axes + 2 and target.shape[-1] in channels and target.shape[2:] != size:
            first = target.shape[1] in channels and target.shape[1:-1] != size
            target = target if first else target.movedim(-1, 1)  # [B, *spatial, 1], or one-hot with classes last
        if axes < 1 or target.ndim < axes or size == target.shape[-axes:]:
            return self.loss(logits, target, **weights)
        fine = list(target.shape[-axes:])
        if self.resize == "target":
            small = {name: nearest(weight, list(size)) for name, weight in weights.items()}
            return self.loss(logits, nearest(target, list(size)), **small)
        if isinstance(self.loss, Loss) and self.loss._interpolates():
            return self.loss(logits, target, upsample="bilinear", **weights)
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[axes]
        image = logits[:, None] if without_channel else logits
        image = interpolate(image, fine, mode=mode, align_corners=False)
        return self.loss(image[:, 0] if without_channel else image, target, **weights)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        leave_out_others(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """The options."""
        return f"weights={self.weights}, resize={self.resize!r}"


def nearest(target: Tensor, size: list[int]) -> Tensor:
    """Labels at the pixels nearest to the centres of a coarser grid; any dtype."""
    for axis, (new, old) in enumerate(zip(size, target.shape[-len(size) :], strict=True)):
        place = [min(int((k + 0.5) * old / new), old - 1) for k in range(new)]
        target = target.index_select(target.ndim - len(size) + axis, torch.tensor(place, device=target.device))
    return target
