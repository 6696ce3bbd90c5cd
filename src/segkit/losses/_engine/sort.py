"""The Lovász extension by sorting: the exact loss, and the faster one for few errors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segkit.losses._engine.operator import first_order, refuse_vmap
from segkit.losses._engine.reduce import nonzero
from segkit.losses._engine.route import all_count, by_index, plainly_here
from segkit.losses._engine.streamed import soft
from segkit.losses._engine.streamed.blocks import Block, Logits
from segkit.losses._engine.tracing import is_batched, transformed
from segkit.losses._engine.wanted import Inputs, Spec


def by_sorting(inputs: Inputs, spec: Spec, per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The exact loss [rows, C], the size of the truth, and of all that counts: sorts each class of each row."""
    if is_batched(inputs.logits):
        refuse_vmap()
    plain = plainly_here(inputs.logits)
    logits = Logits(first_order(inputs.logits))
    known = plain and by_index(inputs, spec) and all_count(inputs, spec, logits.shape[1])
    truth = soft.read_truth(inputs, Block(slice(None), slice(None), True), spec, logits, known)
    x = soft.clean(logits.x, truth, logits.dtype)
    p = soft.probabilities(x, spec)
    parts = [truth.share - p, truth.share, *([] if truth.weight is None else [truth.weight.expand_as(p)])]
    if not per_image:
        parts = [part.transpose(0, 1).reshape(1, part.shape[1], -1) for part in parts]
    miss, share, *weight = parts
    order = largest_first(miss.detach().abs(), plain and x.dtype == torch.float32)
    miss = miss.to(x.dtype)
    slope, size, pixels = _slopes(miss.detach(), share, weight[0] if weight else None, order)
    return (miss * slope).sum(2), size.to(x.dtype), pixels.to(x.dtype)


def _slopes(miss: Tensor, share: Tensor, weight: Tensor | None, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The slope of the loss by each truth - p, [rows, C, n], which holds as long as the order does; truth and pixels.

    A pixel of weight 0 has the slope 0, wherever it lies in the order.
    """
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


def largest_first(errors: Tensor, plain: bool) -> Tensor:
    """The places of the errors [rows, C, n] in falling order; of equal ones the first comes first."""
    short = errors.float()
    # What is nearly 1, a sure and wrong answer, float32 cannot tell apart.
    if not plain or transformed() or int((short > 1 - 1e-4).sum()) > 1 or not errors.numel():
        return errors.argsort(dim=2, descending=True, stable=True)
    # As whole numbers: the bits of the error, and below them its place. NumPy sorts these 15 times as fast.
    keys = -short.view(torch.int32).numpy().astype(np.int64)
    keys <<= 32
    keys |= np.arange(errors.shape[2])
    keys.sort(axis=2)
    keys &= 2**32 - 1
    return torch.from_numpy(keys)
