"""From what a user passes to flat, checked tensors; each refusal is one sentence that says what to type."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from segkit.labels import as_index_target
from segkit.losses._engine.tracing import has_a_dispatch, jit_traces, readable
from segkit.losses._engine.wanted import Flat, Inputs

Mode = Literal["multiclass", "binary", "multilabel"]
Reduction = Literal["mean", "sum", "none"]
Upsample = Literal["bilinear"]
Weights = Tensor | Sequence[float]
Ignored = int | tuple[int, ...] | None
Classes = int | Sequence[int] | Tensor
NOTHING = -(2**63)  # the ignored label where nothing is ignored
WIDER = {torch.bool: torch.uint8, torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def choice(function: str, argument: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is not one of the choices, and list them."""
    if value not in choices:
        raise ValueError(f"{function}: `{argument}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def flatten(
    function: str,
    logits: Tensor | Flat,
    target: Tensor,
    mode: Mode,
    ignore_index: Ignored,
    class_weights: Weights | None,
    pixel_weights: Tensor | None,
    upsample: Upsample | None,
    labelled: Tensor | None = None,
    shares: bool = True,
) -> Flat:
    """Check what every loss takes, and flatten the spatial axes; what a compound has made flat is taken as it is."""
    if isinstance(logits, Flat):
        asks = logits
        table = _class_weights(function, class_weights, asks.inputs.logits.shape[1], asks.mode, asks.inputs.logits)
        inputs = Inputs(asks.inputs.logits, asks.inputs.target, asks.inputs.pixel_weights, table)
        return Flat(function, asks.ignore_index, asks.source, inputs, asks.shape, asks.size, asks.mode, asks.asked)
    if jit_traces():
        raise RuntimeError(
            f"{function}: torch.jit.trace would keep only the path that this one input takes. Use torch.compile or "
            "torch.export, or trace the network without its loss."
        )
    choice(function, "upsample", upsample, (None, "bilinear"))
    choice(function, "mode", mode, ("multiclass", "binary", "multilabel"))
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"{function}: `logits` must be a floating point tensor, got {got}.")
    if not isinstance(target, Tensor):
        raise TypeError(
            f"{function}: `target` must be a tensor, got {type(target).__name__}. Pass torch.as_tensor(...)."
        )
    logits, target = plain(function, "logits", logits), plain(function, "target", target)
    pixel_weights = None if pixel_weights is None else plain(function, "pixel_weights", pixel_weights)
    if logits.ndim < 1 or (logits.ndim < 2 and mode != "binary"):
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
    target, ignored = one_ignored(function, target, ignore_index)
    if labelled is not None:
        if upsample and mode == "multiclass":  # classes are merged pixel by pixel: after the interpolation
            logits, upsample = _interpolated(function, logits, target, mode), None
        logits, target, ignored = _partly(function, logits, target, mode, ignored, labelled)
    prepare = {"multiclass": _multiclass, "binary": _binary, "multilabel": _multilabel}[mode]
    source = coarse = logits
    if upsample:
        logits, target = _as_if_fine(function, logits, target, mode)
    logits, target, spatial = prepare(function, logits, target, ignored)
    batch, classes = logits.shape[:2]
    if upsample:
        coarse = coarse.reshape(batch, classes, *coarse.shape[coarse.ndim - len(spatial) :])
        upsample = None if list(coarse.shape[2:]) == spatial else upsample
    pixels = math.prod(spatial)
    weights = None
    if pixel_weights is not None:
        weights = _pixel_weights(function, pixel_weights, batch, spatial, classes if mode == "multilabel" else 0)
    if target.is_floating_point() and shares:
        _check_shares(function, target.reshape(batch, -1, pixels), weights)
    table = _class_weights(function, class_weights, classes, mode, coarse)
    inputs = Inputs(
        coarse if upsample else coarse.reshape(batch, classes, pixels),
        target.reshape(batch, classes, pixels) if target.ndim == logits.ndim else target.reshape(batch, pixels),
        weights,
        table,
    )
    shape = (batch, classes, *spatial) if mode == "multilabel" else (batch, *spatial)
    return Flat(function, ignored, source, inputs, shape, tuple(spatial) if upsample else (), mode)


def plain(function: str, name: str, x: Tensor) -> Tensor:
    """The tensor without a class of somebody else's, which would come back with the loss and pay for each operator."""
    if type(x) is Tensor or torch.compiler.is_compiling():
        return x
    if hasattr(x, "to_local") and hasattr(x, "placements"):
        raise TypeError(
            f"{function}: `{name}` must not be a DTensor: a loss adds up pixels of its own rank. Pass "
            f"{name}.to_local(), and process_group= for the loss of the whole batch."
        )
    return x if has_a_dispatch(x) else x.as_subclass(Tensor)


def one_ignored(function: str, target: Tensor, ignore_index: Ignored) -> tuple[Tensor, int]:
    """A target with a single ignored label, and that label; NOTHING where there is none."""
    if ignore_index is None:
        return target, NOTHING
    try:
        ids = [
            operator.index(i) for i in (ignore_index if isinstance(ignore_index, (tuple, list)) else (ignore_index,))
        ]
    except TypeError:
        raise TypeError(
            f"{function}: `ignore_index` must be a whole number, a tuple of them, or None, got {ignore_index!r}."
        ) from None
    if len(ids) == 1 or target.is_floating_point() or target.dtype == torch.bool:
        return target, ids[0] if ids else NOTHING
    if target.dtype in WIDER:
        target = target.to(WIDER[target.dtype])
    limits = torch.iinfo(target.dtype)
    ids = [i for i in ids if limits.min <= i <= limits.max]
    for other in ids[1:]:
        target = torch.where(target == other, ids[0], target)
    return target, ids[0] if ids else NOTHING


def _partly(
    function: str,
    logits: Tensor,
    target: Tensor,
    mode: Mode,
    ignored: int,
    labelled: Tensor,
) -> tuple[Tensor, Tensor, int]:
    """The problem of the classes that somebody looked for in each image.

    Sigmoid: the others are ignored. Softmax: they are one class with the background, class 0, since an annotator who
    does not look for a class draws background there (the marginal loss of Shi et al. 2021).
    """
    batch, classes = logits.shape[0], 1 if mode == "binary" else logits.shape[1]
    looked = torch.as_tensor(labelled, device=logits.device) != 0
    if list(looked.shape) != [batch, classes]:
        raise ValueError(f"{function}: `labelled` must be [B, C] = {[batch, classes]}, got {list(looked.shape)}.")
    if mode == "multiclass":
        looked = looked.clone()
        looked[:, 0] = True  # the background takes the others in
        other = ~looked.view(batch, classes, *[1] * (logits.ndim - 2))
        merged = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        background = torch.where(other, merged, -torch.inf)
        background = torch.cat([merged[:, :1], background[:, 1:]], 1).logsumexp(1, keepdim=True)
        return torch.cat([background, merged[:, 1:].masked_fill(other[:, 1:], -torch.inf)], 1), target, ignored
    if target.is_floating_point():
        raise TypeError(f"{function}: with `labelled` a `target` must hold 0 and 1, got {target.dtype}.")
    ignored = 255 if ignored == NOTHING else ignored
    target = target.to(torch.int64) if target.dtype != torch.uint8 or not 0 <= ignored <= 255 else target
    mask = looked.view(
        batch,
        *([classes] if target.ndim > 1 and mode == "multilabel" else []),
        *[1] * (target.ndim - (2 if mode == "multilabel" else 1)),
    )
    return logits, torch.where(mask, target, ignored), ignored


def _interpolated(function: str, logits: Tensor, target: Tensor, mode: Mode) -> Tensor:
    """Coarse logits in the size of the target, all of them at once, float32 or wider."""
    fine = _as_if_fine(function, logits, target, mode)[0].shape[2:]
    how = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(fine)]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    with torch.autocast(logits.device.type, enabled=False):
        return interpolate(wide, list(fine), mode=how, align_corners=False)


def _check_shares(function: str, target: Tensor, weights: Tensor | None) -> None:
    """Refuse shares outside of [0, 1] where they count, where looking costs no wait."""
    if not readable(target) or not target.numel():
        return
    low, high = (float(x) for x in torch.aminmax(target))
    if not (low >= 0 and high <= 1.0001) and weights is not None:
        counts = (weights if weights.ndim == 3 else weights[:, None]) != 0
        low, high = (float(x) for x in torch.aminmax(torch.where(counts, target, 0)))
    if not (low >= 0 and high <= 1.0001):
        got = "NaN" if math.isnan(low) else f"{low if low < 0 else high:g}"
        raise ValueError(
            f"{function}: a floating point `target` must hold shares in [0, 1], got {got}. Integers hold labels and "
            "ignored pixels: pass target.long(), 255 for foreground as (target > 0); leave pixels out of a soft "
            "target by a pixel weight of 0."
        )


def _as_if_fine(function: str, logits: Tensor, target: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """A tensor without memory in the shape that the logits will have, for the checks; and the target, classes first."""
    axes = logits.ndim - 2
    if mode == "binary" and logits.ndim == target.ndim and logits.shape[1] != 1:
        axes += 1  # [B, *spatial]: no channel axis
    elif target.ndim == axes + 2 and target.shape[-1] in (1, logits.shape[1]) and target.shape[1] != logits.shape[1]:
        target = target.movedim(-1, 1)  # [B, *spatial, 1] or one-hot with classes last
    if axes < 1 or target.ndim - axes not in (1, 2) or 0 in logits.shape[2:]:
        raise ValueError(
            f"{function}: with upsample='bilinear' `logits` must be [B, C, *coarse], with as many spatial axes as "
            f"`target`, got {list(logits.shape)} and {list(target.shape)}."
        )
    shape = (*logits.shape[: logits.ndim - axes], *target.shape[-axes:])
    return torch.empty(shape, dtype=logits.dtype, device="meta"), target


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
    if not spatial and target.shape == logits.shape:
        return logits, target.long().argmax(1), spatial  # one-hot [B, C]: first and last are the same axis
    return (
        logits,
        as_index_target(
            target.to(WIDER.get(target.dtype, target.dtype)),
            logits,
            ignore_index=255 if ignore_index == NOTHING else ignore_index,
        ),
        spatial,
    )


def _binary(function: str, logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, list[int]]:
    def without_channel(x: Tensor) -> list[int]:
        return [x.shape[0], *x.shape[2:]]

    shape, wanted = list(logits.shape), list(target.shape)
    if len(shape) == 1 and wanted in (shape, [*shape, 1]):  # [B]: classification, without an axis for anything else
        spatial = []
    elif shape == wanted or (logits.shape[1] == 1 and without_channel(logits) == wanted):
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
    target = target.to(WIDER.get(target.dtype, target.dtype))
    _warn_of_no_foreground(function, target, ignore_index)
    return logits.reshape(shape[0], 1, *spatial), target.reshape(shape[0], 1, *spatial), spatial


def _multilabel(function: str, logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor, list[int]]:
    if logits.shape != target.shape:
        raise ValueError(
            f"{function}: in mode 'multilabel' `target` must have the shape of `logits`, {list(logits.shape)}, one 0 "
            f"or 1 for each class, got {list(target.shape)}. If it holds class indices, pass mode='multiclass'."
        )
    return logits, target.to(WIDER.get(target.dtype, target.dtype)), list(logits.shape[2:])


def _warn_of_no_foreground(function: str, target: Tensor, ignore_index: int) -> None:
    """Warn where 0 and the ignored label are all there is, and that label is 255: mostly a mask of 0 and 255."""
    if ignore_index != 255 or target.is_floating_point() or not readable(target) or target.numel() < 100:
        return
    if int(target.max()) == 255 and not bool((target == 1).any()) and bool((target == 0).any()):
        warnings.warn(
            f"{function}: `target` holds 0 and 255 only, and 255 is ignored: nothing is foreground. If 255 means "
            "foreground, pass (target > 0); if there is no foreground, there is nothing to do.",
            stacklevel=1,
        )


def _pixel_weights(function: str, weights: Tensor, batch: int, spatial: list[int], channels: int) -> Tensor:
    """[B, N]; [B, C, N] where each of some channels has weights of its own."""
    shape = list(weights.shape)
    if channels > 1 and shape == [batch, channels, *spatial]:
        return weights.reshape(batch, channels, math.prod(spatial))
    if shape == [batch, 1, *spatial] or (shape, spatial) == ([batch], [1]):
        shape = [batch, *spatial]
    if shape != [batch, *spatial]:
        or_each = f" or [B, C, *spatial] = {[batch, channels, *spatial]}" if channels > 1 else ""
        raise ValueError(
            f"{function}: `pixel_weights` must be [B, *spatial] = {[batch, *spatial]}{or_each}, got "
            f"{list(weights.shape)}."
        )
    return weights.reshape(batch, -1) if weights.numel() else weights.reshape(batch, math.prod(spatial))


def _class_weights(function: str, weights: Weights | None, classes: int, mode: str, logits: Tensor) -> Tensor | None:
    """[C] for softmax; [2, C], of a 0 and of a 1, for sigmoid."""
    if weights is None:
        return None
    table = table_of(function, "class_weights", weights, logits)
    lengths = (1, 2) if mode == "binary" else (classes,)
    if table.ndim != 1 or all(len(table) != n for n in lengths):  # to a compiler, no symbol is `in` a tuple
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


def table_of(function: str, name: str, weights: Weights | float, logits: Tensor) -> Tensor:
    """Numbers as a tensor beside the logits, float32 or wider; negative and infinite ones are refused, if readable."""
    if isinstance(weights, Tensor) and weights.requires_grad:
        raise ValueError(
            f"{function}: `{name}` must not require a gradient: only the logits get one. Pass {name}.detach()."
        )
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if isinstance(weights, Tensor):
        table = plain(function, name, weights).to(dtype)
    else:
        table = torch.as_tensor(weights, dtype=dtype, device="cpu")
    if readable(table) and table.numel() and not bool(((table >= 0) & (table < torch.inf)).all()):
        raise ValueError(
            f"{function}: `{name}` must be finite and at least 0, got {table.flatten().tolist()}. "
            "A class that never occurs has the weight 0: stats.class_weights gives such weights."
        )
    return table.to(logits.device)


def at_least_0(function: str, **numbers: float) -> None:
    """Refuse negative numbers, and what is none."""
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{function}: `{name}` must be at least 0, got {number}.")


def indices_of(function: str, classes: Classes, number: int | None = None) -> tuple[int, ...]:
    """Chosen classes: one, several, a tensor or a range of them."""
    if isinstance(classes, Tensor):
        classes = [int(c) for c in classes.flatten().tolist()]
    several = classes if isinstance(classes, Iterable) else (classes,)
    chosen = tuple(operator.index(c) for c in several)
    wrong = [c for c in chosen if c < 0 or (number is not None and c >= number)]
    if wrong or not chosen:
        got = f"{wrong[0]}" if wrong else "none"
        raise ValueError(f"{function}: `classes` must name classes in [0, {number or 'C'}), got {got}.")
    return chosen
