"""The pass for Dice of each object by itself: the gradient is made image by image, while its pixels are in the cache.

All that comes after the sums of an object is known beforehand, as in `at_once`; so a block is read, summed and turned
into its gradient before the next image is looked at, and no map of all pixels is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.reduce import nonzero
from segkit.losses._engine.route import all_count, few
from segkit.losses._engine.streamed import hard
from segkit.losses._engine.streamed.blocks import LARGEST, SMALLEST, Block, Logits, blocks
from segkit.losses._engine.streamed.by_class import (
    add_at_,
    add_by_class,
    add_by_class_,
    in_memory,
    in_one_row,
)
from segkit.losses._engine.streamed.labels import check_range, read_labels, term_weight
from segkit.losses._engine.wanted import Inputs, Spec

LANES = 4  # sums of one object at a time


class Goal(NamedTuple):
    """The loss: the weights of Dice and cross-entropy, and how many numbers of objects an image may have."""

    dice_weight: float
    ce_weight: float
    smooth: float
    eps: float
    mean: bool
    most: int


def overlap(sums: Tensor, truth: Tensor, smooth: float, eps: float) -> tuple[Tensor, Tensor]:
    """One minus Dice of objects, and how many an image has, [b].

    Args:
        sums: [b, most, 2] of p beside the object in its region, and in it.
        truth: [b, most], its pixels; number 0 is no object.
        smooth: added above and below.
        eps: smallest value below.
    """
    there = truth > 0
    there[:, 0] = False
    beside, inter = sums.unbind(2)
    loss = 1 - (2 * inter + smooth) / (beside + inter + truth + smooth).clamp_min(eps)
    return torch.where(there, loss, 0), there.sum(1)


def objects_at_once(
    inputs: Inputs, spec: Spec, regions: Tensor, goal: Goal, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss, and its gradient by the logits; ``regions`` [B, N] are int32, the number and below it the class."""
    return _Pass(inputs, spec, regions, goal, gradient).run()


class _Pass:
    """One run over the images."""

    def __init__(self, inputs: Inputs, spec: Spec, regions: Tensor, goal: Goal, gradient: bool) -> None:
        self.inputs, self.spec, self.regions, self.goal = inputs, spec, regions, goal
        self.logits = Logits(inputs.logits)
        self.classes = self.logits.shape[1]
        self.clean = all_count(inputs, spec, self.classes)
        self.buffer = torch.empty_like(inputs.logits) if gradient else None
        self.groups: dict[int, list[Block]] = {}
        batch, classes, pixels = self.logits.shape
        cut = blocks(batch, classes, pixels, lean=not gradient)
        if (
            SMALLEST < classes * pixels <= LARGEST
        ):  # softmax copies a piece of an image twice, and nothing of a whole one
            cut = (Block(slice(b, b + 1), slice(0, pixels), batch == 1) for b in range(batch))
        for block in cut:
            self.groups.setdefault(block.samples.start, []).append(block)
        rows = max((len(group[0].rows(regions)) for group in self.groups.values()), default=0)
        largest = max((block.cut(regions).numel() for group in self.groups.values() for block in group), default=0)
        # The same memory for all images and blocks, as fresh memory costs page faults. Of an image: of each pixel the
        # place of its object's sum, and p of its class. Of a block: what is needed for a moment.
        pixels, dtype = regions.shape[1] * rows, self.logits.dtype
        self.places, self.of_others = torch.empty(pixels, dtype=torch.int32), torch.empty(pixels, dtype=dtype)
        self.moment = torch.empty((3, largest), dtype=dtype), torch.empty((2, largest), dtype=torch.int32)
        self.step = 2 * goal.most * rows
        self.lanes = torch.arange(LANES, dtype=torch.int32).mul_(self.step).repeat(largest // LANES + 1)

    def run(self) -> tuple[Tensor, Tensor | None]:
        images, divisor, truths = 0, 0.0, []
        for group in self.groups.values():
            truth, weight = self.truth(group)
            truths.append(truth)
            images, divisor = images + int((truth[:, 1:] > 0).any(1).sum()), divisor + weight
        self.of_images, self.of_pixels = self.goal.dice_weight, self.goal.ce_weight
        if self.goal.mean:
            self.of_images, self.of_pixels = self.of_images / (images or 1), self.of_pixels / (divisor or 1.0)
        loss = sum(self.one_group(*some) for some in zip(self.groups.values(), truths, strict=True))
        return torch.full((), loss, dtype=self.logits.dtype, device="cpu"), self.buffer

    def truth(self, group: list[Block]) -> tuple[Tensor, float]:
        """The pixels [b, most] of each object of some images, and what a mean over their pixels divides by."""
        rows, most, divisor = len(group[0].rows(self.regions)), self.goal.most, 0.0
        pixels = torch.zeros(rows * most * 2, dtype=torch.float64)
        for number, block in enumerate(group):
            labels = read_labels(self.inputs, block, self.spec, self.classes, pixels.dtype, self.clean)
            if not self.clean:
                check_range(labels.y, self.classes, self.spec)
            place = self.place(number, block, labels.y)[0]
            if labels.weight is None:
                pixels += torch.bincount(place.view(-1), minlength=len(pixels))
            else:
                pixels += self.sums(place, labels.weight, len(pixels))
            table = None if self.inputs.class_weights is None else self.inputs.class_weights.to(pixels.dtype)
            weight = term_weight(labels, table)
            divisor += labels.y.numel() if weight is None else float(weight.sum())
        return pixels.view(rows, most, 2)[:, :, 1].contiguous(), divisor

    def one_group(self, group: list[Block], truth: Tensor) -> float:
        """The loss of some images, whose gradient takes the place of their probabilities."""
        rows, loss, logits = len(truth), 0.0, self.logits
        sums = torch.zeros(truth.numel() * 2, dtype=torch.float64)
        kept: list[tuple[hard.Pixels, Tensor, Tensor, Tensor | None]] = []
        for number, block in enumerate(group):
            x = logits.read(block)
            labels = read_labels(self.inputs, block, self.spec, self.classes, logits.dtype, self.clean)
            out = logits.scratch(x) if self.buffer is None else block.cut(self.buffer)
            pixels = hard.probabilities(x, labels, None, out)
            place, other = self.place(number, block, labels.y)
            of_other = self.at(number, pixels.p, other)
            sums += self.sums(place, of_other if labels.weight is None else of_other * labels.weight, len(sums))
            weight = term_weight(labels, self.inputs.class_weights)
            losses = hard.pixel_losses(pixels, hard.minus_log(pixels, x), weight, 0.0)
            loss += self.of_pixels * float(losses.sum(dtype=torch.float64))
            kept.append((pixels._replace(place=None), place, of_other, weight))
            del pixels, losses
        found = sums.view(rows, -1, 2).requires_grad_(self.buffer is not None)
        with torch.enable_grad():  # what is left is as small as the number of objects
            each, number_of = overlap(found, truth, self.goal.smooth, self.goal.eps)
            of_objects = self.of_images * (each.sum(1) / nonzero(number_of)).sum()
        if self.buffer is not None:
            table = torch.autograd.grad(of_objects, found)[0].to(logits.dtype).view(-1)
            while kept:
                self.to_gradient_(group[len(kept) - 1], *kept.pop(), table)
        return loss + float(of_objects)

    def to_gradient_(
        self, block: Block, pixels: hard.Pixels, place: Tensor, of_other: Tensor, weight: Tensor | None, table: Tensor
    ) -> None:
        """Turn p into the gradient: p (u - p_c v), less u at y and more p_c v at the other class c."""
        p, labels, sure = pixels.p, pixels.labels, hard.sure(pixels)
        other, u, by_other = self.other(block), self.some(0, place.shape), self.some(1, place.shape)
        torch.index_select(table, 0, place.view(-1), out=by_other.view(-1))
        by_other.mul_(of_other)
        if labels.weight is not None:
            by_other.mul_(labels.weight)
        u.fill_(self.of_pixels) if weight is None else torch.mul(weight, self.of_pixels, out=u)
        p.mul_(torch.sub(u, by_other, out=self.some(2, place.shape))[:, None])
        for y, values in ((other, by_other), (labels.y, u.neg_())):
            if few(p.shape, p.device):
                add_by_class_(p, y, values, self.some(2, place.shape))
            else:
                add_at_(p, in_memory(p, y), values)
        hard.mend_(p, sure)

    def some(self, number: int, shape: Sequence[int]) -> Tensor:
        """Memory for a moment, [b, n]."""
        return self.moment[0][number, : shape[0] * shape[1]].view(shape[0], shape[1])

    def other(self, block: Block) -> Tensor:
        """The class of the nearest object."""
        regions = block.cut(self.regions)
        return torch.bitwise_and(regions, 65535, out=self.moment[1][0, : regions.numel()].view(regions.shape))

    def place(self, number: int, block: Block, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where the sum of a pixel's object stands, one for what is beside it and one for what is in it; its class."""
        regions, other = block.cut(self.regions), self.other(block)
        place = self.of_image(number, self.places, regions.shape)
        torch.bitwise_right_shift(regions, 16, out=place)
        hit = torch.eq(y, other, out=self.moment[1][1, : regions.numel()].view(regions.shape))
        torch.add(hit, place, alpha=2, out=place)
        if len(place) > 1:
            step = 2 * self.goal.most
            place += torch.arange(0, step * len(place), step, dtype=torch.int32)[:, None]
        return place, other

    def of_image(self, number: int, memory: Tensor, shape: Sequence[int]) -> Tensor:
        """Of the memory for an image the part of one of its blocks, [b, n]."""
        each = self.moment[1].shape[1]  # only the last block may be smaller
        return memory[number * each : number * each + shape[0] * shape[1]].view(shape[0], shape[1])

    def at(self, number: int, p: Tensor, y: Tensor) -> Tensor:
        """What p [b, C, n] is at the classes y [b, n]."""
        found = self.of_image(number, self.of_others, y.shape)
        torch.index_select(in_one_row(p), 0, in_memory(p, y), out=found.view(-1))
        return found

    def sums(self, place: Tensor, values: Tensor, number: int) -> Tensor:
        """[number] sums of values [b, n] by their place; neighbours, mostly of one object, do not share one."""
        into = self.moment[1][1, : place.numel()]
        torch.add(place.view(-1), self.lanes[: len(into)], out=into)
        return add_by_class(into, values, (LANES, self.step)).sum(0)[:number]
