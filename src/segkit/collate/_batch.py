"""The memory of a batch: written once, in a worker straight into the memory that the main process will read."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def empty_batch(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised tensor for a batch; in a worker it is already shared, so that sending it copies nothing."""
    if get_worker_info() is None or like.device.type != "cpu":
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    # As torch's own default_collate does it: no public function makes shared memory without copying into it.
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * like.element_size(), device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=like.dtype).set_(storage, 0, shape, _strides(shape))


def stacked(tensors: list[Tensor]) -> Tensor:
    """Tensors of one shape along a new first axis."""
    if any(tensor.requires_grad for tensor in tensors):
        return torch.stack(tensors)
    batch = empty_batch((len(tensors), *tensors[0].shape), tensors[0])
    return torch.stack(tensors, out=batch)


def joined(tensors: list[Tensor]) -> Tensor:
    """Tensors one after another along their first axis."""
    if any(tensor.requires_grad for tensor in tensors):
        return torch.cat(tensors)
    batch = empty_batch((sum(len(tensor) for tensor in tensors), *tensors[0].shape[1:]), tensors[0])
    return torch.cat(tensors, out=batch)


def padded(tensors: list[Tensor], size: tuple[int, int], fill: float) -> Tensor:
    """Tensors [..., h, w] of different sizes in one [B, ..., H, W]: each at the top left, `fill` around it."""
    height, width = size
    batch = empty_batch((len(tensors), *tensors[0].shape[:-2], height, width), tensors[0])
    for i, tensor in enumerate(tensors):  # every pixel is written once: the picture, then its margin
        h, w = tensor.shape[-2:]
        batch[i, ..., :h, :w] = tensor
        batch[i, ..., :h, w:] = fill
        batch[i, ..., h:, :] = fill
    return batch


def valid_mask(sizes: list[tuple[int, int]], size: tuple[int, int], like: Tensor) -> Tensor:
    """True [B, H, W] where an image is, False where it was padded."""
    batch = empty_batch((len(sizes), *size), torch.empty(0, dtype=torch.bool, device=like.device))
    batch.zero_()
    for i, (h, w) in enumerate(sizes):
        batch[i, :h, :w] = True
    return batch


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))
