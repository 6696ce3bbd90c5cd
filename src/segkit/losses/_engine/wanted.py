"""What one pass over the pixels is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.reduce import nonzero
from segkit.losses._engine.streamed.blocks import Block, sum_dtype


@dataclass(frozen=True)
class Spec:
    """The settings of a pass; all plain numbers, so that they go through a custom op.

    Args:
        function: the name that errors begin with.
        sigmoid: one yes-or-no question for each channel, instead of one choice among C.
        ignore_index: the label of pixels that count nowhere.
        gamma: the focal exponent; 0 is cross-entropy.
        smoothing: the share of the label that is spread over all classes.
        power: 1 or 2: ``prediction`` sums p or p squared.
        terms: ``"none"``, ``"mean"`` and ``"sum"`` (one number), or ``"map"`` (one for each pixel).
        region: whether ``intersection``, ``prediction``, ``truth`` and ``pixels`` are wanted.
    """

    function: str
    sigmoid: bool
    ignore_index: int
    gamma: float = 0.0
    smoothing: float = 0.0
    power: int = 1
    terms: str = "none"
    region: bool = False

    def settings(self) -> tuple[str, bool, int, float, float, int, str, bool]:
        """The fields in order, as arguments of the operator."""
        return (
            self.function, self.sigmoid, self.ignore_index, self.gamma, self.smoothing, self.power, self.terms,
            self.region,
        )  # fmt: skip


class Inputs(NamedTuple):
    """Checked tensors in flat shapes.

    ``logits`` ``[B, C, N]``, or ``[B, C, *coarse]`` to be interpolated; ``target`` ``[B, N]`` (class indices) or
    ``[B, C, N]`` (a number for each class); ``pixel_weights`` ``[B, N]``; ``class_weights`` ``[C]``, for sigmoid
    ``[2, C]`` (of a no, of a yes): these count in a mean's denominator; ``alpha`` in the same shapes: these do not.
    """

    logits: Tensor
    target: Tensor
    pixel_weights: Tensor | None
    class_weights: Tensor | None
    alpha: Tensor | None

    def with_alpha(self, alpha: Tensor | None) -> Inputs:
        """The same with ``alpha``; the compiler of torch 2.6 stops at ``_replace`` and at slices of a named tuple."""
        return Inputs(self.logits, self.target, self.pixel_weights, self.class_weights, alpha)


class Sums(NamedTuple):
    """What one pass over the pixels gives; ignored pixels and pixels of weight 0 are in none of them.

    Attributes:
        terms: the sum over pixels of weight x focal cross-entropy; their mean; or the terms themselves, ``[B, 1, N]``
            (``[B, C, N]`` for sigmoid).
        weight: sum over pixels of weight x class weight: the denominator of the mean.
        intersection: sum of p x truth, ``[B, C]``.
        prediction: sum of p (or p squared), ``[B, C]``.
        truth: sum of the truth, ``[B, C]``.
        pixels: sum of weight, ``[B, 1]``; ``[B, C]`` for sigmoid, where a pixel may be ignored for one class only.
    """

    terms: Tensor
    weight: Tensor
    intersection: Tensor
    prediction: Tensor
    truth: Tensor
    pixels: Tensor


class Totals:
    """Sums that blocks are added to, in float64."""

    def __init__(self, shape: tuple[int, int, int], spec: Spec, dtype: torch.dtype, device: torch.device) -> None:
        batch, classes, pixels = shape
        channels = classes if spec.sigmoid else 1
        self.dtype, self.spec, self.batch, self.classes = dtype, spec, batch, classes
        self.wide = sum_dtype(device)
        self.none = torch.empty(0, dtype=dtype, device=device)
        self.map = self.none
        if spec.terms == "map":
            self.map = torch.zeros((batch, channels, pixels), dtype=dtype, device=device)
        self.terms: list[Tensor] = []
        self.weights: list[Tensor | int] = []
        self.region: tuple[Tensor, ...] = ()

    def add_terms(self, block: Block, term: Tensor, weight: Tensor | None) -> None:
        """Add the terms of a block, [b, n] or [b, C, n], and what a mean divides by (1 for each term, if None)."""
        if self.spec.terms == "map":
            block.cut(self.map).copy_(term if term.ndim == 3 else term[:, None])
        else:
            self.terms.append(term.sum())
            self.weights.append(term.numel() if weight is None else weight.sum())

    def add_region(self, block: Block, *parts: Tensor) -> None:
        """Add intersection, prediction, truth ([b, C] each) and pixels ([b, 1] or [b, C]) of a block."""
        if block.whole:
            self.region = parts
            return
        if not self.region:
            self.region = tuple(p.new_zeros((self.batch, p.shape[1]), dtype=self.wide) for p in parts)
        for total, part in zip(self.region, parts, strict=True):
            block.rows(total).add_(part)

    def finish(self) -> Sums:
        """All sums in the dtype of the losses; what was not asked for is empty."""
        terms, weight = self.map, self.none
        if self.spec.terms in ("mean", "sum"):
            number = sum(w for w in self.weights if isinstance(w, int))
            counted = [w for w in self.weights if not isinstance(w, int)]
            terms = self._add_up(self.terms)
            weight = self._add_up(counted) if counted else terms.new_full((), number)
            if self.spec.terms == "mean":
                terms = terms / (nonzero(weight) if counted or not number else number)
            terms, weight = terms.to(self.dtype), weight.to(self.dtype)
        if not self.spec.region:
            return Sums(terms, weight, *(self.none for _ in range(4)))
        return Sums(terms, weight, *(s.to(self.dtype) for s in self.region or self._no_region()))

    def _no_region(self) -> tuple[Tensor, ...]:
        classes, channels = self.classes, self.classes if self.spec.sigmoid else 1
        return tuple(self.none.new_zeros((self.batch, n)) for n in (classes, classes, classes, channels))

    def _add_up(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        return torch.stack(parts).sum(dtype=self.wide) if parts else self.none.sum(dtype=self.wide)
