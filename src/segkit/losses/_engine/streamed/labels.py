"""The labels of a block: which pixels count and for how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._engine.route import few
from segkit.losses._engine.streamed.blocks import Block
from segkit.losses._engine.streamed.by_class import add_by_class, of_all_classes, sums_by_class
from segkit.losses._engine.tracing import readable
from segkit.losses._engine.wanted import Inputs, Spec

AS_THEY_ARE = (torch.uint8, torch.int16, torch.int32, torch.int64)  # label dtypes that torch can add to int64


class Labels(NamedTuple):
    """Labels of a block [b, n]: ``y``, 0 where ignored; ``valid`` and ``weight`` are None if all count 1.

    ``hot`` are the labels as one-hot numbers [b, C, n], for a small block: fewer operators go over it then.
    """

    y: Tensor
    valid: Tensor | None
    weight: Tensor | None
    hot: Tensor | None = None


def read_labels(
    inputs: Inputs, block: Block, spec: Spec, classes: int, dtype: torch.dtype, clean: bool = False
) -> Labels:
    """The labels of a block, in a form that can index."""
    y = block.cut(inputs.target)
    if clean and y.dtype in AS_THEY_ARE:
        return Labels(y, None, None)
    y = y.long()
    if clean:
        return Labels(y, None, None)
    valid = y != spec.ignore_index
    weight = None if inputs.pixel_weights is None else block.cut(inputs.pixel_weights)
    if weight is not None:
        valid &= weight != 0
    return Labels(torch.where(valid, y, 0), valid, torch.where(valid, 1 if weight is None else weight, 0).to(dtype))


def not_ignored(labels: Tensor, ignore_index: int) -> Tensor:
    """Which labels are not the ignored one; a byte cannot be -100, and is not compared with what -100 would wrap to."""
    low, high = torch.iinfo(labels.dtype).min, torch.iinfo(labels.dtype).max
    return labels != ignore_index if low <= ignore_index <= high else torch.ones_like(labels, dtype=torch.bool)


def ignored(spec: Spec) -> str:
    """What an error says of the ignored label."""
    return f" or {spec.ignore_index} (ignored)" if spec.ignore_index > -(2**63) else ""


def check_range(y: Tensor, classes: int, spec: Spec) -> None:
    """Refuse labels that name no class."""
    if not readable(y):
        return
    low, high = (int(x) for x in torch.aminmax(y)) if y.numel() else (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(
            f"{spec.function}: `target` must hold labels in [0, {classes}){ignored(spec)}, got "
            f"{low if low < 0 else high}. labels.validate_target(target, {classes}) says where; "
            "pass ignore_index=... if that label is to be left out."
        )


def term_weight(labels: Labels, *per_class: Tensor | None) -> Tensor | None:
    """Pixel weight times the weights of the pixel's class, [b, n]; None if all are 1."""
    weight = labels.weight
    for table in per_class:
        if table is not None:
            factor = table.index_select(0, labels.y.reshape(-1).int()).view(labels.y.shape)
            weight = factor if weight is None else weight * factor
    return weight


def truth_by_class(index: Tensor | None, labels: Labels, shape: Sequence[int]) -> Tensor:
    """[b, C] sums of weights by class, for a block [b, C, n]; ``index`` from `of_all_classes`, if it is there."""
    weight = labels.weight
    if labels.hot is not None:
        return (labels.hot if weight is None else labels.hot * weight[:, None]).sum(2)
    if few(shape, labels.y.device):
        return sums_by_class(labels.y, weight, shape[1], torch.float32 if weight is None else weight.dtype)
    index = of_all_classes(labels.y, shape[1]) if index is None else index
    if weight is not None or index.device.type != "cpu":
        return add_by_class(index, index.new_ones(labels.y.shape) if weight is None else weight, shape)
    index = labels.y.reshape(-1) if shape[0] == 1 else index  # bytes are counted faster
    return torch.bincount(index, minlength=shape[0] * shape[1]).view(shape[0], shape[1])
