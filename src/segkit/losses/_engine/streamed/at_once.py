"""A loss that is one number, and its gradient made along with it, while a block is in the cache.

The truth says beforehand how many pixels and which classes a mean counts. So as soon as the sums of an image are known,
so are the slopes of the loss by them, and what the softmax left becomes the gradient. The backward has nothing left to
do but to multiply it by the gradient of what comes after the loss, which mostly is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.route import Cut, all_count, few
from segkit.losses._engine.streamed import hard
from segkit.losses._engine.streamed.blocks import Block, Logits
from segkit.losses._engine.streamed.by_class import of_all_classes, one_hot
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.streamed.hard import Pixels, Slopes
from segkit.losses._engine.streamed.labels import Labels, check_range, read_labels, term_weight, truth_by_class
from segkit.losses._engine.wanted import Inputs, Spec

# From sums of some images (which, intersection, prediction) to their part of the loss and its slopes by these sums.
Region = Callable[[slice, Tensor, Tensor], tuple[float, Tensor, Tensor]]


class Goal(NamedTuple):
    """The loss: ``factor`` times the sum or mean of the terms; and a loss of regions, made from the truth [B, C].

    ``by_image`` [B, 2], if it is there, takes the sum of the terms of each image, and their weight.
    """

    factor: float = 0.0
    mean: bool = True
    region: Callable[[Tensor], Region] | None = None
    by_image: Tensor | None = None


def at_once(
    inputs: Inputs, spec: Spec, size: Sequence[int], goal: Goal, cut: Cut, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss and, if asked for, its gradient by the logits in their shape and dtype."""
    return _Pass(inputs, spec, size, goal, cut, gradient).run()


class _Pass:
    """One run over the blocks."""

    def __init__(self, inputs: Inputs, spec: Spec, size: Sequence[int], goal: Goal, cut: Cut, gradient: bool) -> None:
        self.inputs, self.spec, self.goal, self.cut, self.gradient = inputs, spec, goal, cut, gradient
        self.logits = CoarseLogits(inputs.logits, list(size)) if size else Logits(inputs.logits)
        self.classes = self.logits.shape[1]
        self.clean = all_count(inputs, spec, self.classes)
        self.buffer = torch.empty_like(inputs.logits) if cut.in_place else None
        self.seen: tuple[Labels, Tensor | None] | None = None
        self.loss = 0.0

    def run(self) -> tuple[Tensor, Tensor | None]:
        if self.goal.by_image is not None:
            self.goal.by_image.zero_()  # a second backward comes here again
        truth, number = self.count()
        self.share = self.goal.factor / (number or 1.0) if self.goal.mean else self.goal.factor
        region = None
        if self.goal.region is not None and truth is not None:
            region = self.goal.region(truth.to(self.logits.dtype))
        for group in self.cut.groups:
            self.one_group(group, region)
        loss = torch.full((), self.loss, dtype=self.logits.dtype, device="cpu")
        if not self.gradient:
            return loss, None
        return loss, self.logits.gradient().view(self.inputs.logits.shape) if self.buffer is None else self.buffer

    def count(self) -> tuple[Tensor | None, float]:
        """Pixels of each image and class [B, C], if needed; and the number that a mean of the terms divides by."""
        inputs, spec = self.inputs, self.spec
        if self.clean and not spec.region and inputs.class_weights is None:
            if self.goal.by_image is not None:
                self.goal.by_image[:, 1] = inputs.target.shape[1]
            return None, inputs.target.numel()
        parts: list[Tensor] = []
        number = 0.0
        for group in self.cut.groups:
            first = group[0]
            block = first if len(group) == 1 else Block(first.samples, slice(None), False)
            labels, index = self.read(block)
            if not self.clean:
                check_range(labels.y, self.classes, spec)
            weight = term_weight(labels, inputs.class_weights)
            number += labels.y.numel() if weight is None else float(weight.sum())
            if self.goal.by_image is not None:
                each = labels.y.shape[1] if weight is None else weight.sum(1)
                block.rows(self.goal.by_image)[:, 1] += each
            if spec.region:
                parts.append(truth_by_class(index, labels, (labels.y.shape[0], self.classes, labels.y.shape[1])))
        return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else None, number

    def read(self, block: Block) -> tuple[Labels, Tensor | None]:
        """Labels of a block; of the whole with the index of their classes, if regions need it, and made but once."""
        if self.seen is not None:
            return self.seen
        labels = read_labels(self.inputs, block, self.spec, self.classes, self.logits.dtype, self.clean)
        if not block.whole:
            return labels, None
        shape = (labels.y.shape[0], self.classes, labels.y.shape[1])
        labels = labels._replace(hot=one_hot(labels.y, self.classes, self.logits.dtype))
        by_index = self.spec.region and labels.hot is None and not few(shape, labels.y.device)
        self.seen = labels, of_all_classes(labels.y, self.classes) if by_index else None
        return self.seen

    def one_group(self, group: list[Block], region: Region | None) -> None:
        """Add the loss of a group of blocks, and write their gradient."""
        kept: list[tuple[Block, Pixels, Tensor | float | None]] = []
        sums: tuple[Tensor, Tensor] | None = None
        for block in group:
            pixels, by_nll, found = self.forward(block)
            if found is not None:
                sums = found if sums is None else (sums[0] + found[0], sums[1].double() + found[1])
            if self.gradient:
                kept.append((block, pixels, by_nll))
        by_inter = by_pred = None
        if region is not None and sums is not None:
            loss, by_inter, by_pred = region(group[0].samples, *(s.to(self.logits.dtype) for s in sums))
            self.loss += loss
        while kept:
            block, pixels, by_nll = kept.pop()
            self.backward(block, pixels, Slopes(by_nll, by_inter, by_pred))

    def forward(self, block: Block) -> tuple[Pixels, Tensor | float | None, tuple[Tensor, Tensor] | None]:
        """Softmax and sums of a block."""
        x = self.logits.read(block)
        labels, index = self.read(block)
        out = self.logits.scratch(x) if self.buffer is None else block.cut(self.buffer)
        pixels = hard.probabilities(x, labels, index, out)
        if not block.whole:  # each [b, n] is a good part of a block of few classes
            pixels = pixels._replace(place=None)
        by_nll: Tensor | float | None = None
        if self.spec.pixelwise != "none":
            nll = hard.minus_log(pixels, x)
            weight = term_weight(labels, self.inputs.class_weights, self.inputs.alpha)
            losses = hard.pixel_losses(pixels, nll, weight, self.spec.gamma)
            self.loss += self.share * float(losses.sum())
            if self.goal.by_image is not None:
                block.rows(self.goal.by_image)[:, 0] += losses.sum(1)
            if self.gradient:
                by_nll = hard.slope(pixels.p_y, weight, self.spec, nll)
                by_nll *= self.share
            del nll  # it is overwritten, and a good part of a block of few classes
        sums = hard.region_sums(pixels, self.spec.power) if self.spec.region else None
        return pixels, by_nll, sums

    def backward(self, block: Block, pixels: Pixels, slopes: Slopes) -> None:
        """Turn a block's probabilities into its gradient, where it belongs."""
        hard.to_gradient_(pixels, slopes, self.spec.power)
        if self.buffer is None:
            self.logits.write(block, pixels.p)
