"""From what a user passes to flat, checked tensors; each refusal is one sentence that says what to type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from segkit.labels import as_index_target
from segkit.losses._engine.wanted import Flat, Inputs

Mode = Literal["multiclass", "binary", "multilabel"]
Reduction = Literal["mean", "sum", "none"]
Upsample = Literal["bilinear"]
Weights = Tensor | Sequence[float]


def choice(function: str, argument: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is not one of the choices, and list them."""
    if value not in choices:
        raise ValueError(f"{function}: `{argument}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def flatten(
    function: str,
    logits: Tensor | Flat,
    target: Tensor,
    mode: Mode,
    ignore_index: int,
    class_weights: Weights | None,
    pixel_weights: Tensor | None,
    upsample: Upsample | None,
) -> Flat:
    """Check what every loss takes, and flatten the spatial axes; what a compound has made flat is taken as it is."""
    if isinstance(logits, Flat):
        asks = logits
        table = _class_weights(function, class_weights, asks.inputs.logits.shape[1], asks.mode, asks.inputs.logits)
        inputs = Inputs(asks.inputs.logits, asks.inputs.target, asks.inputs.pixel_weights, table)
        return Flat(function, asks.ignore_index, asks.source, inputs, asks.shape, asks.size, asks.mode, asks.asked)
    choice(function, "upsample", upsample, (None, "bilinear"))
    choice(function, "mode", mode, ("multiclass", "binary", "multilabel"))
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"{function}: `logits` must be a floating point tensor, got {got}.")
    if not isinstance(target, Tensor):
        raise TypeError(
            f"{function}: `target` must be a tensor, got {type(target).__name__}. Pass torch.as_tensor(...)."
        )
    if logits.ndim < 2:
        raise ValueError(f"{function}: `logits` must be [B, C, *spatial], got {list(logits.shape)}.")
    for name, tensor in (("target", target), ("pixel_weights", pixel_weights)):
        if isinstance(tensor, Tensor) and tensor.device != logits.device:
            raise ValueError(
                f"{function}: `{name}` must be on the device of `logits`, {logits.device}, got {tensor.device}. "
                f"Pass {name}.to(logits.device)."
            )
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            raise ValueError(
                f"{function}: `{name}` must not require a gradient: only the logits get one. Pass {name}.detach()."
            )
    prepare = {"multiclass": _multiclass, "binary": _binary, "multilabel": _multilabel}[mode]
    source = coarse = logits
    if upsample:
        logits = _as_if_fine(function, logits, target)
    logits, target, spatial = prepare(function, logits, target, ignore_index)
    batch, classes = logits.shape[:2]
    if upsample:
        coarse = coarse.reshape(batch, classes, *coarse.shape[coarse.ndim - len(spatial) :])
        upsample = None if list(coarse.shape[2:]) == spatial else upsample
    pixels = math.prod(spatial)
    weights = None
    if pixel_weights is not None:
        weights = _pixel_weights(function, pixel_weights, batch, spatial)
    table = _class_weights(function, class_weights, classes, mode, coarse)
    inputs = Inputs(
        coarse if upsample else coarse.reshape(batch, classes, pixels),
        target.reshape(batch, classes, pixels) if target.ndim == logits.ndim else target.reshape(batch, pixels),
        weights,
        table,
    )
    shape = (batch, classes, *spatial) if mode == "multilabel" else (batch, *spatial)
    return Flat(function, ignore_index, source, inputs, shape, tuple(spatial) if upsample else (), mode)


def _as_if_fine(function: str, logits: Tensor, target: Tensor) -> Tensor:
    """A tensor without memory in the shape that the logits will have, for the checks."""
    axes = logits.ndim - 2
    if axes < 1 or target.ndim - axes not in (1, 2) or 0 in logits.shape[2:]:
        raise ValueError(
            f"{function}: with upsample='bilinear' `logits` must be [B, C, *coarse], with as many spatial axes as "
            f"`target`, got {list(logits.shape)} and {list(target.shape)}."
        )
    return torch.empty((*logits.shape[:2], *target.shape[-axes:]), dtype=logits.dtype, device="meta")


def _multiclass(function: str, logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, list[int]]:
    spatial = list(logits.shape[2:])
    if logits.shape[1] == 1:
        raise ValueError(
            f"{function}: `logits` must have at least 2 classes in mode 'multiclass', got {list(logits.shape)}: "
            "a softmax over one channel is 1 everywhere. Pass mode='binary'."
        )
    if target.is_floating_point():
        if target.shape != logits.shape:
            raise TypeError(
                f"{function}: a floating point `target` must hold one share for each class, {list(logits.shape)}, got "
                f"{target.dtype} {list(target.shape)}. If it holds class indices, pass target.long()."
            )
        return logits, target, spatial
    return logits, as_index_target(target, logits, ignore_index=ignore_index), spatial


def _binary(function: str, logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, list[int]]:
    def without_channel(x: Tensor) -> list[int]:
        return [x.shape[0], *x.shape[2:]]

    shape, wanted = list(logits.shape), list(target.shape)
    if shape == wanted or (logits.shape[1] == 1 and without_channel(logits) == wanted):
        both = shape == wanted and logits.shape[1] == 1 and logits.ndim > 2
        spatial = wanted[2:] if both else wanted[1:]
    elif target.ndim > 1 and target.shape[1] == 1 and without_channel(target) == shape:
        spatial = shape[1:]
    else:
        raise ValueError(
            f"{function}: in mode 'binary' `logits` and `target` must both be [B, *spatial], with or without a channel "
            f"axis of length 1, got {shape} and {wanted}. For one channel for each label pass mode='multilabel', for "
            "logits with two classes mode='multiclass'."
        )
    if target.dtype == torch.bool:
        target = target.to(torch.uint8)
    return logits.reshape(shape[0], 1, *spatial), target.reshape(shape[0], 1, *spatial), spatial


def _multilabel(function: str, logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, list[int]]:
    if logits.shape != target.shape:
        raise ValueError(
            f"{function}: in mode 'multilabel' `target` must have the shape of `logits`, {list(logits.shape)}, one 0 "
            f"or 1 for each class, got {list(target.shape)}. If it holds class indices, pass mode='multiclass'."
        )
    if target.dtype == torch.bool:
        target = target.to(torch.uint8)
    return logits, target, list(logits.shape[2:])


def _pixel_weights(function: str, weights: Tensor, batch: int, spatial: list[int]) -> Tensor:
    shape = list(weights.shape)
    if shape == [batch, 1, *spatial]:
        shape = [batch, *spatial]
    if shape != [batch, *spatial]:
        raise ValueError(
            f"{function}: `pixel_weights` must be [B, *spatial] = {[batch, *spatial]}, got {list(weights.shape)}."
        )
    return weights.reshape(batch, -1) if weights.numel() else weights.reshape(batch, math.prod(spatial))


def _class_weights(function: str, weights: Weights | None, classes: int, mode: str, logits: Tensor) -> Tensor | None:
    """[C] for softmax; [2, C], of a 0 and of a 1, for sigmoid."""
    if weights is None:
        return None
    table = torch.as_tensor(weights, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    table = table.detach().to(logits.device)
    lengths = (1, 2) if mode == "binary" else (classes,)
    if table.ndim != 1 or len(table) not in lengths:
        hint = (
            "Pass the weights of label 0 and of label 1."
            if mode == "binary"
            else "Give one number for each class, the background too; 0 leaves a class out."
        )
        wanted = " or ".join(map(str, lengths))
        raise ValueError(
            f"{function}: `class_weights` must have length {wanted}, got shape {list(table.shape)}. {hint}"
        )
    if mode == "multiclass":
        return table
    return table[:, None] if len(table) == 2 and mode == "binary" else table.expand(2, classes)
