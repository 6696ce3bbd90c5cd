"""Counting pairs of labels: how many pixels of class t were called class p."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLOCK = 2**20  # pixels at a time: what is made besides the labels stays below 10 MB


def count_pairs(prediction: Tensor, target: Tensor, classes: int, ignored: tuple[int, ...]) -> Tensor:
    """[N, C + 1, C + 1] int64 counts for labels [N, pixels] of any integer dtype, without waiting for the device.

    Rows are the truth, columns the prediction: C classes, then labels that are no class. What is ignored is in neither.
    """
    rows, columns = classes + 2, classes + 1  # the last row, of what is ignored, is dropped at the end
    if prediction.device.type != "cpu":
        code = _codes(prediction, target, classes, ignored, torch.int64)
        code += torch.arange(len(code), device=code.device)[:, None] * (rows * columns)
        counts = torch.zeros(len(code) * rows * columns, dtype=torch.int64, device=code.device)
        # torch.bincount would wait for the device, to learn the largest code.
        counts.scatter_add_(0, code.flatten(), torch.ones_like(code).flatten())
        return counts.view(-1, rows, columns)[:, :-1]
    counted = [_count(p, t, classes, ignored) for p, t in zip(prediction, target, strict=True)]
    return torch.stack(counted) if counted else torch.zeros(0, columns, columns, dtype=torch.int64)


def _count(prediction: Tensor, target: Tensor, classes: int, ignored: tuple[int, ...]) -> Tensor:
    """The counts of some pixels, [C + 1, C + 1].

    Neighbours mostly are of one class, and a number that grows twice in a row has to be stored before it is read again.
    So neighbours count into up to four tables, as far as int16 reaches; four of their codes are one int64.
    """
    columns = classes + 1
    by_byte = target.dtype == torch.uint8 and 256 * columns <= 2**15  # a row for each label: nothing is looked for
    size = (256 if by_byte else classes + 2) * columns
    dtype = torch.int16 if size <= 2**15 else torch.int64
    tables = min(4, 2**15 // size) if dtype == torch.int16 else 1
    table = torch.zeros(tables * size, dtype=torch.int64)
    apart = sum(place % tables * size << 16 * place for place in range(4))
    for p, t in zip(torch.split(prediction, BLOCK), torch.split(target, BLOCK), strict=True):
        if by_byte:
            code = _in_range(p, classes).to(dtype).add_(t.to(dtype), alpha=columns)
        else:
            code = _codes(p, t, classes, ignored, dtype)
        if tables > 1:
            code[: len(code) // 4 * 4].view(torch.int64).add_(apart)
        table += torch.bincount(code, minlength=len(table))
    rows = table.view(tables, -1, columns).sum(0)
    if not by_byte:
        return rows[:-1]
    for label in ignored:
        if 0 <= label < 256:
            rows[label] = 0
    return torch.cat([rows[:classes], rows[classes:].sum(0, keepdim=True)])


def _codes(prediction: Tensor, target: Tensor, classes: int, ignored: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Row and column of each pixel as one number, row * (C + 1) + column."""
    row = _in_range(target, classes).to(dtype)
    for label in ignored:
        if _holds(target.dtype, label):  # compared as uint8, -1 would be 255
            row.masked_fill_(target == label, classes + 1)
    return torch.add(_in_range(prediction, classes).to(dtype), row, alpha=classes + 1)


def _in_range(labels: Tensor, classes: int) -> Tensor:
    """Labels that are no class become C."""
    if labels.dtype.is_signed and labels.numel():
        labels = labels.masked_fill(labels < 0, classes) if _holds(labels.dtype, classes) else _clip(labels, classes)
    return labels.clamp(max=classes) if _holds(labels.dtype, classes) else labels


def _clip(labels: Tensor, classes: int) -> Tensor:
    """For int8, which may not hold C: one step wider."""
    wide = labels.to(torch.int64)
    return wide.masked_fill(wide < 0, classes)


def _holds(dtype: torch.dtype, value: int) -> bool:
    return torch.iinfo(dtype).min <= value <= torch.iinfo(dtype).max


def sums_of(counts: Tensor, classes: int) -> Tensor:
    """[N, 3, C] from the pairs of each image: pixels in both, in the prediction, in the truth."""
    square = counts[:, :classes, :classes]
    return torch.stack([square.diagonal(dim1=1, dim2=2), square.sum(1), square.sum(2)], 1)


def count_edges(found: Tensor, truth: Tensor, classes: int, ignored: tuple[int, ...], boundary: float) -> Tensor:
    """[3, C]: pixels near an edge in both, in the prediction, in the truth; `boundary` is a share of the diagonal."""
    nowhere = classes
    if found.ndim < 2:
        raise ValueError(f"ConfusionMatrix.update: `boundary` needs images, got labels {list(found.shape)}.")
    distance = max(1, round(boundary * math.sqrt(sum(side**2 for side in found.shape[1:]))))
    known = (truth >= 0) & (truth < classes)
    for label in ignored:
        known &= truth.to(torch.int64) != label
    narrow = torch.int16 if classes < 2**15 - 1 else torch.int64
    found, truth = found.to(narrow), truth.to(narrow)
    edges = [
        labels.masked_fill(~find_boundary(labels, known, distance), nowhere).masked_fill(~known, nowhere + 1)
        for labels in (found, truth)
    ]
    counts = count_pairs(edges[0].reshape(1, -1), edges[1].reshape(1, -1), classes + 1, (nowhere + 1,))
    return sums_of(counts, classes + 1)[0, :, :classes]


def find_boundary(labels: Tensor, known: Tensor, distance: int) -> Tensor:
    """Where a pixel of another class lies within a square of 2 * distance + 1: bool, the shape of `labels`.

    What is not known, and what is outside of the image, is another class for all.

    Args:
        labels: [N, *spatial] integers of at least 16 bits, not negative where known.
        known: bool, the same shape.
        distance: in pixels, at least 1.
    """
    low = high = labels.masked_fill(~known, -1)
    for axis in range(1, labels.ndim):
        low, high = _extreme(low, axis, distance, torch.minimum), _extreme(high, axis, distance, torch.maximum)
    return (low != high) & known


def _extreme(labels: Tensor, axis: int, distance: int, of: object) -> Tensor:
    """The minimum or maximum over windows along an axis, in log2(distance) steps: each doubles the window."""
    shape = list(labels.shape)
    shape[axis] = distance
    edge = labels.new_full(shape, -1)
    padded = torch.cat([edge, labels, edge], axis)
    window, wanted = 1, 2 * distance + 1
    while window < wanted:
        step = min(window, wanted - window)
        length = padded.shape[axis] - step
        padded = of(padded.narrow(axis, 0, length), padded.narrow(axis, step, length))  # type: ignore[operator]
        window += step
    return padded
