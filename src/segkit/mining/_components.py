"""The objects of a label map: neighbouring pixels of one class, in any number of dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def object_sizes(target: Tensor, counted: Tensor) -> Tensor:
    """For each pixel the number of pixels of its object, int64, shape of `target`; 0 where it does not count.

    An object is what hangs together through the sides of its pixels (4 neighbours in an image, 6 in a volume) and has
    one class. Objects do not reach from one item of the batch, the first axis, into the next.

    Runs along the last axis come from one cumulative maximum; what remains is to unite runs that touch, and there are
    far fewer of them than pixels.
    """
    if target.numel() == 0:
        return torch.zeros_like(target, dtype=torch.int64)
    labels = target.long()
    starts = torch.ones_like(labels, dtype=torch.bool)
    starts[..., 1:] = labels[..., 1:] != labels[..., :-1]
    run = (starts.flatten().cumsum(0) - 1).reshape(labels.shape)  # number of the run that a pixel lies in
    edges = []
    for axis in range(1, labels.ndim - 1):
        length = labels.shape[axis]
        here, there = (
            (labels.narrow(axis, begin, length - 1), run.narrow(axis, begin, length - 1),
             starts.narrow(axis, begin, length - 1)) for begin in (0, 1)
        )  # fmt: skip
        # Two runs touch along many pixels; the first of these is where one of the two begins.
        touch = (here[0] == there[0]) & (here[2] | there[2])
        edges.append(torch.stack([here[1][touch], there[1][touch]]))
    root = _unite(int(run.max()) + 1, torch.cat(edges, 1) if edges else run.new_zeros(2, 0))
    object_of = root[run]
    return torch.bincount(object_of.flatten())[object_of].where(counted, 0)


def _unite(number: int, edges: Tensor) -> Tensor:
    """The smallest member of each member's connected set, by hooking larger roots onto smaller ones."""
    parent = torch.arange(number, device=edges.device)
    while edges.numel():
        first, second = parent[edges[0]], parent[edges[1]]
        apart = first != second
        if not apart.any():
            break
        edges = edges[:, apart]
        low, high = torch.minimum(first, second)[apart], torch.maximum(first, second)[apart]
        parent.scatter_reduce_(0, high, low, "amin")
        while not torch.equal(shorter := parent[parent], parent):
            parent = shorter
    return parent
