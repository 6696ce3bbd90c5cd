"""The Lovász extension of the Jaccard loss, in linear time.

With errors e = |truth - p| of one class, the loss is the mean over all levels t in (0, 1] of the Jaccard loss of the
set of pixels whose error is at least t. Only how many pixels lie above each level counts, so instead of sorting we
round the errors to 65,536 levels and count. The extension is 1-Lipschitz in the largest change of an error, and
rounding changes none by more than half a step of 1/65,535: so much, at most, the loss is off, which is below 2**-16.

The gradient by an error is the slope of the Jaccard loss at its level: one table per class, read by level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Flat, Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._backend import kernels
from segkit.losses._engine.operator import first_order, once, refuse_vmap
from segkit.losses._engine.reduce import nonzero, reduce_entries
from segkit.losses._engine.streamed import hard as _index
from segkit.losses._engine.streamed import soft as _dense
from segkit.losses._engine.streamed.blocks import Block, Logits, blocks, readable, wide_dtype
from segkit.losses._engine.streamed.by_class import add_at_, in_memory
from segkit.losses._engine.streamed.coarse import CoarseLogits
from segkit.losses._engine.streamed.labels import all_count, check_range, read_labels, truth_by_class
from segkit.losses._engine.wanted import Inputs, Spec
from segkit.losses._region import Scope

STEPS = 65535
SLOTS = 2 * STEPS + 1  # (truth - p) from -1 to 1: a miss of a background pixel left of the middle, of the class right


def lovasz(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: int = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "batch",
    classes: Literal["present", "all"] | Sequence[int] = "present",
    exact: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """The Jaccard loss of each class, made convex in the errors ``|truth - p|`` (Lovász-softmax).

    Args:
        logits: as for `cross_entropy`.
        target: class indices, or 0 and 1, as for `cross_entropy`; soft targets are refused.
        mode: ``"multiclass"``: softmax over C. ``"binary"`` and ``"multilabel"``: a sigmoid for each channel.
        ignore_index: label of pixels that count nowhere.
        class_weights: C numbers; the mean over classes divides by them.
        pixel_weights: [B, *spatial], at least 0: how many pixels a pixel counts for; 0 is the same as ignored.
        upsample: as for `cross_entropy`; not together with ``exact``.
        scope: the sets of the whole ``"batch"``, or of each ``"image"``.
        classes: those ``"present"`` in the truth (of the image or batch), ``"all"``, or a list of them.
        exact: sort the errors instead of rounding them to 65,536 levels.
        reduction: ``"mean"`` over images and classes that count, ``"sum"``, or ``"none"``: [B, C] ([1, C] for
            ``"batch"``), 0 where left out.
        process_group: ranks that share the mean over images; for scope ``"image"`` only.

    Returns:
        A scalar or [B, C], in [0, 1], within 2**-16 of the exact loss.

    Raises:
        ValueError: shapes, weights or labels that do not belong together.
        TypeError: a soft target.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # every error is 1/2: so is the loss
        >>> lovasz(logits, torch.tensor([[0, 1]]))
        tensor(0.5000)

    Source: Berman et al. 2018. For sigmoid modes the errors are of probabilities; there the hinge of logits.
    """
    function = "lovasz"
    choice(function, "scope", scope, ("image", "batch"))
    choice(function, "reduction", reduction, ("mean", "sum", "none"))
    if isinstance(classes, str):
        choice(function, "classes", classes, ("present", "all"))
    if process_group is not None and scope == "batch":
        raise ValueError(
            f"{function}: `process_group` must be None for scope 'batch': sets of pixels do not add up over ranks. "
            "Pass scope='image', or average the losses of the ranks."
        )
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample)
    if flat.inputs.target.is_floating_point():
        raise TypeError(
            f"{function}: `target` must hold class indices, got {flat.inputs.target.dtype}. Soft targets have no set."
        )
    spec = Spec(function, flat.sigmoid, ignore_index)
    if exact and flat.size:
        raise ValueError(f"{function}: `exact` must be False with upsample='bilinear'. Interpolate the logits first.")
    # Below as many numbers as levels sorting takes less memory than the tables, and on the CPU less time.
    x = flat.inputs.logits
    plain = readable(x) and not _get_current_dispatch_mode() and kernels(x, flat.size) is None
    few = not flat.size and math.prod(x.shape[1:]) * (1 if scope == "image" else len(x)) < STEPS
    few = few and (plain or scope == "image")
    if exact or few:
        loss, truth, pixels = _by_sorting(flat, spec, scope, plain)
    else:
        loss, truth, pixels, _ = _lovasz(
            x,
            flat.inputs.target,
            flat.inputs.pixel_weights,
            function,
            flat.sigmoid,
            ignore_index,
            list(flat.size),
            scope == "image",
        )
    if not isinstance(classes, str):
        loss, truth, pixels = (t[:, list(classes)] for t in (loss, truth, pixels))
    weights = flat.inputs.class_weights
    if weights is not None:
        weights = (weights if weights.ndim == 1 else weights[1]).expand(flat.inputs.logits.shape[1])
        weights = weights if isinstance(classes, str) else weights[list(classes)]
    counted = truth > 0 if classes == "present" else pixels > 0
    return reduce_entries(loss, counted, weights, reduction=reduction, group=process_group)


class Levels(NamedTuple):
    """A block: ``p`` and the flat ``slot`` of each error, [b, C, n]; weight [b, 1 or C, n] or None; truth [b, C]."""

    block: Block
    p: Tensor
    slot: Tensor
    weight: Tensor | None
    truth: Tensor


def _levels(logits: Logits, inputs: Inputs, spec: Spec, per_image: bool, count: bool) -> Iterator[Levels]:
    """The pass, block by block; ``count``: whether the truth is wanted, which is empty otherwise."""
    rows = logits.shape[0] if per_image else 1
    kind = torch.int32 if rows * logits.shape[1] * SLOTS < 2**31 else torch.int64
    start = torch.arange(logits.shape[1], device=logits.device, dtype=kind)[:, None] * SLOTS
    if per_image:
        start = start + torch.arange(rows, device=logits.device, dtype=kind)[:, None, None] * (logits.shape[1] * SLOTS)
    by_index = not spec.sigmoid and inputs.target.ndim == 2
    clean = by_index and all_count(inputs, spec, logits.shape[1])
    for block in blocks(*logits.shape, logits.row, lean=True):
        x = logits.read(block)
        if by_index:
            labels = read_labels(inputs, block, spec, x.shape[1], logits.dtype, clean)
            if not clean:
                check_range(labels.y, x.shape[1], spec)
            p = _index.probabilities(x, labels, None, logits.scratch(x)).p
            slot = _slots(0 - p).to(kind)  # bit for bit as the Triton kernel does, which may have made the table
            # Where the class is the truth, the error is 1 - p instead of -p: STEPS slots to the right.
            add_at_(slot, in_memory(slot, labels.y), STEPS)
            weight = None if labels.weight is None else labels.weight[:, None]
            truth = truth_by_class(None, labels, p.shape) if count else p.new_empty(0)
        else:
            dense = _dense.read_truth(inputs, block, spec, logits)
            x = _dense.clean(x, dense, logits.dtype)
            p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
            slot, weight = _slots(dense.share - p).to(kind), dense.weight
            truth = (dense.share if weight is None else dense.share * weight).sum(2)
        slot += start[block.samples] if per_image else start
        yield Levels(block, p, slot, weight, truth)


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
def _lovasz(
    logits: Tensor,
    target: Tensor,
    pixel_weights: Tensor | None,
    function: str,
    sigmoid: bool,
    ignore_index: int,
    size: list[int],
    per_image: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs, spec = Inputs(logits, target, pixel_weights, None, None), Spec(function, sigmoid, ignore_index)
    if (triton := kernels(logits, size)) is not None:
        return triton.lovasz_forward(inputs, spec, size, per_image)
    source = CoarseLogits(logits, size) if size else Logits(logits)
    rows, classes = logits.shape[0] if per_image else 1, logits.shape[1]
    # float32 counts to 2**24 exactly; where a slot could hold more, and for weights, count in float64.
    weighted = pixel_weights is not None or target.numel() > 2**24
    counts = torch.zeros(
        (rows, classes, SLOTS), dtype=torch.float64 if weighted else torch.float32, device=logits.device
    )
    truth = torch.zeros((rows, classes), dtype=torch.float64, device=logits.device)
    one = counts.new_ones(())
    for block, _, slot, weight, mine in _levels(source, inputs, spec, per_image, True):
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


@_lovasz.register_fake
def _(logits, target, pixel_weights, function, sigmoid, ignore_index, size, per_image):  # type: ignore[no-untyped-def]
    shape = (logits.shape[0] if per_image else 1, logits.shape[1])
    dtype = wide_dtype(logits)
    one = logits.new_empty(shape, dtype=dtype)
    return one, torch.empty_like(one), torch.empty_like(one), logits.new_empty((*shape, SLOTS), dtype=dtype)


@torch.library.custom_op(
    "segkit::lovasz_backward", mutates_args=(), schema=f"(Tensor by_loss, Tensor table, {_ARGUMENTS}) -> Tensor"
)
def _lovasz_backward(
    by_loss: Tensor,
    table: Tensor,
    logits: Tensor,
    target: Tensor,
    pixel_weights: Tensor | None,
    function: str,
    sigmoid: bool,
    ignore_index: int,
    size: list[int],
    per_image: bool,
) -> Tensor:
    inputs, spec = Inputs(logits, target, pixel_weights, None, None), Spec(function, sigmoid, ignore_index)
    if (triton := kernels(logits, size)) is not None:
        return triton.lovasz_backward(inputs, spec, size, per_image, by_loss, table)
    source = CoarseLogits(logits, size) if size else Logits(logits)
    for block, p, slot, weight, _ in _levels(source, inputs, spec, per_image, False):
        slope = table.view(-1).index_select(0, slot.view(-1)).view(p.shape)
        slope.mul_(by_loss[block.samples if per_image else slice(None), :, None]).mul_(p)
        if weight is not None:
            slope.mul_(weight)
        gradient = slope.mul_(1 - p) if spec.sigmoid else slope.addcmul_(p, slope.sum(1, True), value=-1)
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
    grad = None if by_loss is None else once(_lovasz_backward(by_loss, table, *tensors, *ctx.settings), tensors[0])
    return (grad, *(None,) * 7)


_lovasz.register_autograd(_backward, setup_context=_setup)
_lovasz.register_vmap(refuse_vmap)


def _by_sorting(flat: Flat, spec: Spec, scope: Scope, plain: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The exact loss [rows, C], the size of the truth, and of all that counts: sorts each class of each row."""
    inputs = flat.inputs
    if torch._C._functorch.is_batchedtensor(inputs.logits):
        refuse_vmap()
    logits = Logits(first_order(inputs.logits))
    by_index = not spec.sigmoid and inputs.target.ndim == 2
    known = plain and by_index and all_count(inputs, spec, logits.shape[1])
    truth = _dense.read_truth(inputs, Block(slice(None), slice(None), True), spec, logits, known)
    x = _dense.clean(logits.x, truth, logits.dtype)
    p = x.sigmoid() if spec.sigmoid else torch.softmax(x, 1)
    parts = [truth.share - p, truth.share, *([] if truth.weight is None else [truth.weight.expand_as(p)])]
    if scope == "batch":
        parts = [part.transpose(0, 1).reshape(1, part.shape[1], -1) for part in parts]
    miss, share, *weight = parts
    slope, size, pixels = _slopes(miss.detach(), share, weight[0] if weight else None, plain)
    return (miss * slope).sum(2), size.to(p.dtype), pixels.to(p.dtype)


def _slopes(miss: Tensor, share: Tensor, weight: Tensor | None, plain: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The slope of the loss by each truth - p, [rows, C, n], which holds as long as the order does; truth and pixels.

    A pixel of weight 0 has the slope 0, wherever it lies in the order.
    """
    order = _largest_first(miss.abs(), plain)
    own = share.gather(2, order).double()
    if weight is None:
        every = torch.arange(1, miss.shape[2] + 1, dtype=own.dtype, device=own.device).view(1, 1, -1)
    else:
        weights = weight.gather(2, order).double()
        own, every = own.mul_(weights), weights.cumsum(2)
    own = own.cumsum(2)
    size = own[:, :, -1:] if own.shape[2] else own.sum(2, keepdim=True)
    union = every - own + size
    jaccard = 1 - (size - own) / nonzero(union)
    if weight is not None:
        jaccard = torch.where(union == 0, 0, jaccard)
    step = jaccard.clone()
    step[:, :, 1:] -= jaccard[:, :, :-1]
    slope = torch.empty_like(miss).scatter_(2, order, step.to(miss.dtype)).mul_(miss.sgn())
    return slope, size[:, :, 0], (every[:, :, -1] if every.shape[2] else size[:, :, 0]).expand(size.shape[:2])


def _largest_first(errors: Tensor, plain: bool) -> Tensor:
    """The places of the errors [rows, C, n] in falling order; of equal ones the first comes first."""
    if not plain or torch._C._are_functorch_transforms_active() or errors.dtype != torch.float32:
        return errors.argsort(dim=2, descending=True, stable=True)
    # As whole numbers: the bits of the error, and below them its place. NumPy sorts these 15 times as fast.
    keys = -errors.view(torch.int32).numpy().astype(np.int64)
    keys <<= 32
    keys |= np.arange(errors.shape[2])
    keys.sort(axis=2)
    keys &= 2**32 - 1
    return torch.from_numpy(keys)
