"""Sums that blocks are added to, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.losses._engine.streamed.blocks import Block, sum_dtype
from segkit.losses._engine.wanted import Found, Spec, Sums


class Totals:
    """What is found so far."""

    def __init__(self, shape: tuple[int, int, int], spec: Spec, dtype: torch.dtype, device: torch.device) -> None:
        batch, classes, pixels = shape
        channels = classes if spec.sigmoid else 1
        self.dtype, self.spec, self.batch, self.device = dtype, spec, batch, device
        self.wide = sum_dtype(device)
        self.widths = {"terms": (1, 1), "region": (classes, classes, classes, channels)}
        self.totals: dict[str, tuple[Tensor, ...]] = {}
        self.map: Tensor | None = None
        if spec.pixelwise == "map":
            self.map = torch.zeros((batch, channels, pixels), dtype=dtype, device=device)

    def add_terms(self, block: Block, term: Tensor, weight: Tensor | None) -> None:
        """Add the terms of a block, [b, n] or [b, C, n], and what a mean divides by (1 for each term, if None)."""
        if self.map is not None:
            block.cut(self.map).copy_(term if term.ndim == 3 else term[:, None])
            return
        total = term.flatten(1).sum(1, keepdim=True)
        total = term.flatten(1).sum(1, keepdim=True)
        number = torch.full_like(total, term.shape[1]) if weight is None else weight.flatten(1).sum(1, keepdim=True)
        self._add("terms", block, total, number)

    def add_region(self, block: Block, *parts: Tensor) -> None:
        """Add intersection, prediction, truth ([b, C] each) and pixels ([b, 1] or [b, C]) of a block."""
        self._add("region", block, *parts)

    def finish(self) -> Found:
        """All sums in the dtype of the losses."""
        sums = Sums(*self._sums("region")) if self.spec.region else None
        if self.spec.pixelwise != "image":
            return Found(sums, self.map)
        terms, weight = (part[:, 0] for part in self._sums("terms"))
        return Found(sums, terms, weight)

    def _add(self, name: str, block: Block, *parts: Tensor) -> None:
        if block.whole:
            self.totals[name] = parts
            return
        if name not in self.totals:
            self.totals[name] = self._zeros(name)
        for total, part in zip(self.totals[name], parts, strict=True):
            block.rows(total).add_(part)

    def _zeros(self, name: str) -> tuple[Tensor, ...]:
        shapes = ((self.batch, width) for width in self.widths[name])
        return tuple(torch.zeros(shape, dtype=self.wide, device=self.device) for shape in shapes)

    def _sums(self, name: str) -> list[Tensor]:
        return [part.to(self.dtype) for part in self.totals.get(name) or self._zeros(name)]
