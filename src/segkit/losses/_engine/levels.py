"""The levels of the Lovász extension: errors are counted by level, and one table of slopes by level is the gradient.

With errors e = |truth - p| of one class, the loss is the mean over all levels t in (0, 1] of the Jaccard loss of the
set of pixels whose error is at least t. Only how many pixels lie above each level counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.operator import for_transforms, once, refuse_vmap
from segkit.losses._engine.reduce import nonzero
from segkit.losses._engine.route import SLOTS, STEPS, all_count, by_channel, by_index, runs_kernels
from segkit.losses._engine.streamed import hard, soft
from segkit.losses._engine.streamed.blocks import Block, Logits, blocks, wide_dtype
from segkit.losses._engine.streamed.by_class import add_at_, in_memory
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.streamed.labels import check_range, read_labels, truth_by_class
from segkit.losses._engine.streamed.surest import mend_, surest
from segkit.losses._engine.tracing import in_plain_sight, transformed
from segkit.losses._engine.trust import trusted
from segkit.losses._engine.wanted import Inputs, Spec


class Levels(NamedTuple):
    """A block: ``p`` and the flat ``slot`` of each error, [b, C, n]; weight [b, 1 or C, n] or None; truth [b, C].

    ``no`` is 1 - p of a sigmoid, with all its digits, and made for a gradient only; ``sure`` likewise, of a
    softmax with one class a pixel; ``room`` is memory that is free, as large as p.
    """

    block: Block
    p: Tensor
    slot: Tensor
    weight: Tensor | None
    truth: Tensor
    room: Tensor
    no: Tensor | None = None
    sure: hard.Sure | None = None


def levels(logits: Logits, inputs: Inputs, spec: Spec, per_image: bool, count: bool) -> Iterator[Levels]:
    """The pass, block by block; ``count``: whether the truth is wanted, which is empty otherwise."""
    rows = logits.shape[0] if per_image else 1
    kind = torch.int32 if rows * logits.shape[1] * SLOTS < 2**31 else torch.int64
    start = torch.arange(logits.shape[1], device=logits.device, dtype=kind)[:, None] * SLOTS
    if per_image:
        start = start + torch.arange(rows, device=logits.device, dtype=kind)[:, None, None] * (logits.shape[1] * SLOTS)
    hard_labels = by_index(inputs, spec)
    room = places = torch.empty(0, device=logits.device)
    clean = hard_labels and all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row, lean=True):
        x = logits.read(block)
        no = sure = None
        if hard_labels:
            labels = read_labels(inputs, block, spec, x.shape[1], logits.dtype, clean)
            if not clean:
                check_range(labels.y, x.shape[1], spec)
            pixels = hard.probabilities(x, labels, None, logits.scratch(x), not count)
            p, sure = pixels.p, None if count else hard.sure(pixels)
            del pixels  # before the next large tensor: what lies between them costs page faults
            if room.numel() < p.numel():  # the same memory for all blocks, as fresh memory costs page faults
                room, places = (torch.empty(p.numel(), dtype=d, device=p.device) for d in (p.dtype, kind))
            miss = torch.neg(p, out=room[: p.numel()].view(p.shape))
            # Bit for bit as the Triton kernel does, which may have made the table.
            slot = places[: p.numel()].view(p.shape).copy_(_slots(miss))
            # Where the class is the truth, the error is 1 - p instead of -p: STEPS slots to the right.
            add_at_(slot, in_memory(slot, labels.y), STEPS)
            weight = None if labels.weight is None else labels.weight[:, None]
            truth = truth_by_class(None, labels, p.shape) if count else p.new_empty(0)
        else:
            dense = soft.read_truth(inputs, block, spec, logits)
            x = soft.clean(x, dense, logits.dtype)
            p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
            miss = _slots(dense.share - p)
            slot, weight = miss.to(kind), dense.weight
            truth = (dense.share if weight is None else dense.share * weight).sum(2)
            no = (-x).sigmoid() if spec.sigmoid and not count else None
        slot += start[block.samples] if per_image else start
        yield Levels(block, p, slot, weight, truth, miss, no, sure)


def _slots(miss: Tensor) -> Tensor:
    """The slot of truth - p, in the class's own row; ``miss`` is overwritten."""
    return miss.add_(1).mul_(STEPS).add_(0.5)


_ARGUMENTS = (
    "Tensor logits, Tensor target, Tensor? pixel_weights, str function, bool sigmoid, int ignore_index, int[] size, "
    "bool per_image"
)


@torch.library.custom_op(
    "segkit::lovasz", mutates_args=(), schema=f"({_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)"
)
def lovasz_sums(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss [rows, C], size of the truth, of all that counts, and the table of slopes."""
    return _plain_sums(*args)


def _plain_sums(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs, spec, size, per_image = Inputs(*args[:3]), Spec(*args[3:6]), args[6], args[7]
    if _by_kernels(inputs, spec, size, per_image):
        from segkit.losses._engine.triton import launch

        return launch.lovasz_forward(inputs, spec, size, per_image)
    return _sums(inputs, spec, size, per_image)


def _sums(inputs: Inputs, spec: Spec, size: Sequence[int], per_image: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`lovasz_sums` by the torch code."""
    logits, target, pixel_weights = inputs.logits, inputs.target, inputs.pixel_weights
    source = CoarseLogits(logits, list(size)) if size else Logits(logits)
    rows, classes = logits.shape[0] if per_image else 1, logits.shape[1]
    # float32 counts to 2**24 exactly; where a slot could hold more, and for weights, count in float64.
    weighted = pixel_weights is not None or target.numel() > 2**24
    counts = torch.zeros(
        (rows, classes, SLOTS), dtype=torch.float64 if weighted else torch.float32, device=logits.device
    )
    truth = torch.zeros((rows, classes), dtype=torch.float64, device=logits.device)
    one = counts.new_ones(())
    for block, _, slot, weight, mine, *_ in levels(source, inputs, spec, per_image, True):
        each = one.expand(slot.numel()) if weight is None else weight.to(counts.dtype).expand_as(slot).reshape(-1)
        counts.view(-1).index_add_(0, slot.view(-1), each)
        truth[block.samples if per_image else slice(None)] += mine if per_image else mine.sum(0, keepdim=True)
    # The slopes take the place of the counts, if they are of one dtype.
    table = counts.to(wide_dtype(logits))
    loss, pixels = torch.empty_like(truth), counts.sum(2, dtype=torch.float64)
    for row in range(rows):
        for c in range(classes):
            loss[row, c] = _level_sums(counts[row, c], truth[row, c], table[row, c])
    return loss.to(table.dtype), truth.to(table.dtype), pixels.to(table.dtype), table


def _level_sums(count: Tensor, truth: Tensor, table: Tensor) -> Tensor:
    """The loss of one class; writes the slope of each slot, d loss / d p, into ``table``, which may be ``count``."""
    other = count[:STEPS].double().cumsum(0)  # pixels of other classes at the highest level, and from there down
    own = count[STEPS + 1 :].flip(0).double().cumsum(0)
    union = truth + other
    safe = union.clamp_min(torch.finfo(union.dtype).tiny)  # where nothing is in the union, nothing is above it either
    missed = truth - own
    above = union - count[:STEPS]  # the union before this level's pixels of other classes come in
    before = nonzero(above)
    # A class that is not there: the first pixels taken for it raise the loss of the set from 0 to 1.
    table[:STEPS] = torch.where(above == 0, 1 / nonzero(union), missed / (before * safe))
    table[STEPS + 1 :] = (-1 / before).flip(0)
    table[STEPS] = 0
    return own.add_(other).div_(safe).sum() / STEPS  # 1 - (truth - own) / union


@lovasz_sums.register_fake
def _(logits, target, pixel_weights, function, sigmoid, ignore_index, size, per_image):  # type: ignore[no-untyped-def]
    shape = (logits.shape[0] if per_image else 1, logits.shape[1])
    dtype = wide_dtype(logits)
    one = logits.new_empty(shape, dtype=dtype)
    return one, torch.empty_like(one), torch.empty_like(one), logits.new_empty((*shape, SLOTS), dtype=dtype)


@torch.library.custom_op(
    "segkit::lovasz_backward", mutates_args=(), schema=f"(Tensor by_loss, Tensor table, {_ARGUMENTS}) -> Tensor"
)
def _lovasz_backward(by_loss: Tensor, table: Tensor, *args: Any) -> Tensor:
    return _plain_slopes(by_loss, table, *args)


@torch.no_grad()
def _plain_slopes(by_loss: Tensor, table: Tensor, *args: Any) -> Tensor:
    inputs, spec, size, per_image = Inputs(*args[:3]), Spec(*args[3:6]), args[6], args[7]
    if _by_kernels(inputs, spec, size, per_image):
        from segkit.losses._engine.triton import launch

        return launch.lovasz_backward(inputs, spec, size, per_image, by_loss, table)
    return _slopes(inputs, spec, size, per_image, by_loss, table)


def _slopes(inputs: Inputs, spec: Spec, size: Sequence[int], per_image: bool, by_loss: Tensor, table: Tensor) -> Tensor:
    """The gradient by the torch code."""
    logits = inputs.logits
    source = CoarseLogits(logits, list(size)) if size else Logits(logits)
    for block, p, slot, weight, _, room, no, sure in levels(source, inputs, spec, per_image, False):
        slope = torch.index_select(table.view(-1), 0, slot.view(-1), out=room.view(-1)).view(p.shape)
        slope.mul_(by_loss[block.samples if per_image else slice(None), :, None]).mul_(p)
        if weight is not None:
            slope.mul_(weight)
        if no is not None:
            gradient = slope.mul_(no)
        else:
            gradient = slope.addcmul_(p, slope.sum(1, True), value=-1)
            if sure is None:
                mend_(gradient, surest(p))
            else:
                hard.mend_(gradient, sure)
        source.write(block, gradient)
    return source.gradient().view(logits.shape)


@_lovasz_backward.register_fake
def _(by_loss, table, logits, *rest):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.settings = inputs[3:]
    ctx.save_for_backward(output[3], *inputs[:3])


def _backward(ctx: Any, by_loss: Tensor | None, *_others: Any) -> tuple[Any, ...]:
    table, *tensors = ctx.saved_tensors
    if by_loss is None:
        return (None,) * 8
    backward = _plain_slopes if transformed() else _lovasz_backward
    return (once(backward(by_loss, table, *tensors, *ctx.settings), tensors[0]), *(None,) * 7)


lovasz_sums.register_autograd(_backward, setup_context=_setup)
lovasz_sums.register_vmap(refuse_vmap)
_transformed = for_transforms(_plain_sums, _setup, _backward)


def sums_by_level(inputs: Inputs, spec: Spec, size: Sequence[int], per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [rows, C], size of the truth, and of all that counts, however the call meets autograd."""
    logits, labels, weights, *_ = inputs  # not [:3]: the compiler of torch 2.6 slices no NamedTuple
    call = _transformed if in_plain_sight(logits) and transformed() else lovasz_sums
    found = call(logits, labels, weights, spec.function, spec.sigmoid, spec.ignore_index, list(size), per_image)
    return found[0], found[1], found[2]


def _by_kernels(inputs: Inputs, spec: Spec, size: Sequence[int], per_image: bool) -> bool:
    """Whether the kernels count, and do on this device what the torch code does."""

    def of_kernels(inputs: Inputs, spec: Spec, size: tuple[int, ...]) -> list[Tensor]:
        from segkit.losses._engine.triton import launch

        *found, table = launch.lovasz_forward(inputs, spec, size, per_image)
        return [*found, launch.lovasz_backward(inputs, spec, size, per_image, torch.ones_like(found[0]), table)]

    def of_torch(inputs: Inputs, spec: Spec, size: tuple[int, ...]) -> list[Tensor]:
        *found, table = _sums(inputs, spec, size, per_image)
        return [*found, _slopes(inputs, spec, size, per_image, torch.ones_like(found[0]), table)]

    what = "lovasz" if per_image else "lovasz of a batch"
    runs = runs_kernels(inputs.logits, size) and not by_channel(inputs)
    return runs and trusted(inputs, spec, size, what, of_kernels, of_torch)
