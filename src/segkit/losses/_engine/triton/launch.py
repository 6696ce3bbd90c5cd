"""The pass over the pixels by Triton kernels: what `streamed` does in blocks, in one read and one write.

A program of the forward sums its own pixels, in a fixed order, and writes the sums down; a second, small reduction adds
them up in float64. The backward writes each gradient once. So the same input gives the same bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from segkit.losses._engine.route import SLOTS
from segkit.losses._engine.streamed.blocks import wide_dtype
from segkit.losses._engine.streamed.labels import check_range
from segkit.losses._engine.streamed.soft import check_yes_or_no
from segkit.losses._engine.tracing import readable
from segkit.losses._engine.triton.coarse import coarse_backward
from segkit.losses._engine.triton.levels import level_sums
from segkit.losses._engine.triton.sigmoid import sigmoid_backward, sigmoid_forward
from segkit.losses._engine.triton.softmax import softmax_backward, softmax_forward
from segkit.losses._engine.wanted import Found, Inputs, Spec, Sums, Upstream

INTERPRETED = type(softmax_forward).__name__ == "InterpretedFunction"
LARGEST_TILE = 256  # so many classes are held at once; more are gone over in tiles of so many:
TILE = 128
PROGRAMS = 2048  # of the forward: enough to fill a large card a few times, few enough that their sums are small
COMPILE = {"enable_fp_fusion": True}  # said, since the default differs between versions of Triton
# What is compiled anew, and so tuned anew.
KEYS = ["C", "SOFT", "SMOOTH", "GAMMA", "POWER", "TERMS", "REGION", "PER_IMAGE", "AXES", "WIDE", "TILED"]
KEYS += ["PIXELS", "SIGMOID", "K0", "K1", "K2"]


@functools.lru_cache
def tuned(kernel: Any, block_c: int, pixels: int | None) -> Any:
    """The kernel, with the few tile sizes that its first call tries; ``pixels`` is what they must fit into."""
    configs = {}
    for elements, warps in ((2048, 4), (4096, 4), (8192, 8), (16384, 8)):
        block_n = min(max(elements // block_c, 16), 1024, pixels or 1024)
        configs[block_n, warps] = triton.Config({"BLOCK_C": block_c, "BLOCK_N": block_n}, num_warps=warps)
    return triton.autotune(list(configs.values()), key=[k for k in KEYS if k in kernel.arg_names])(kernel)


def _card(x: Tensor) -> Any:
    """Make the card of ``x`` the current one, on which Triton launches; nothing for the CPU."""
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]


def launch(
    kernel: Any, grid: Any, block_c: int, arguments: dict[str, Any], pixels: int | None, places: int = 0
) -> None:
    """Run a kernel with the tile size that suits it; ``counts`` (which a trial would add to) with the first one."""
    block_n = max(16, min(2**14 // block_c, pixels or 2**14, triton.next_power_of_2(places or arguments["N"])))
    if not INTERPRETED:
        block_n = min(max(4096 // block_c, 16), 1024, pixels or 1024)
    with _card(arguments["x"]):
        if not INTERPRETED and arguments.get("counts") is None:
            tuned(kernel, block_c, pixels)[grid](**arguments, **COMPILE)
        else:
            kernel[grid](**arguments, BLOCK_C=block_c, BLOCK_N=block_n, **COMPILE)


def shapes(x: Tensor, size: Sequence[int]) -> tuple[int, dict[str, Any]]:
    """The number of (fine) pixels of an image, and the arguments that say where they are."""
    axes = len(size)
    strides = [0] * (3 - max(axes, 1)) + list(x.stride()[2:])
    fine = [1] * (3 - axes) + list(size) if axes else [1, 1, x.shape[2]]
    coarse = [1] * (3 - axes) + list(x.shape[2:]) if axes else [1, 1, 1]
    arguments = {"N": math.prod(fine), "x_b": x.stride(0), "s_c": x.stride(1), "AXES": axes, "C": x.shape[1]}
    for i in range(3):
        arguments |= {f"s_{i}": strides[i], f"F{i}": fine[i] if axes else 1, f"G{i}": coarse[i]}
    return math.prod(fine), arguments


def common(inputs: Inputs, spec: Spec, size: Sequence[int]) -> tuple[int, dict[str, Any]]:
    """What all kernels of a pass are given."""
    x, target, weights = inputs[:3]
    pixels, arguments = shapes(x, size)
    soft = target.ndim == 3 and target.is_floating_point()
    strides = target.stride() if target.ndim == 3 else (target.stride(0), 0, target.stride(1))
    arguments |= {"x": x, "target": target, "weights": weights, "ignore_index": spec.ignore_index, "SOFT": soft}
    arguments |= dict(zip(("t_b", "t_c", "t_n"), strides, strict=True))
    arguments |= dict(zip(("w_b", "w_n"), (0, 0) if weights is None else weights.stride(), strict=True))
    for name, value in (("gamma", spec.gamma), ("smoothing", spec.smoothing)):
        high = float(np.float32(value))  # floats arrive in 32 bits; the rest comes after
        arguments |= {name: high, f"{name}_low": value - high}
    arguments |= {
        "SMOOTH": spec.smoothing != 0,
        "GAMMA": {0.0: 0, 2.0: 2}.get(spec.gamma, 1),
        "POWER": spec.power,
        "TERMS": ("none", "image", "map").index(spec.pixelwise),
        "REGION": spec.region,
        "PER_IMAGE": True,
        "WIDE": tl.float64 if x.dtype == torch.float64 else tl.float32,
    }
    return pixels, arguments


def tables(inputs: Inputs, spec: Spec) -> tuple[Tensor | None, Tensor | None]:
    """Class weights, and their product with alpha; dense [C], for sigmoid [2, C]."""
    shape = (2, inputs.logits.shape[1]) if spec.sigmoid else (inputs.logits.shape[1],)
    weights, alpha = (None if t is None else t.expand(shape).contiguous() for t in inputs[3:])
    if weights is None or alpha is None:
        return weights, alpha if weights is None else weights
    return weights, weights * alpha


def blocks(x: Tensor, spec: Spec, pixels: int) -> tuple[int, bool, int]:
    """Classes in a tile, whether there are several tiles, and pixels for each program of the forward."""
    block_c = triton.next_power_of_2(x.shape[1])
    if spec.sigmoid:
        block_c, tiled = min(block_c, 32), False
    else:
        tiled = block_c > LARGEST_TILE
        block_c = TILE if tiled else block_c
    most = triton.next_power_of_2(pixels)
    if INTERPRETED:
        per_program = min(max(16, 2**14 // block_c) * (1 if tiled else 4), max(16, most))
    elif tiled:
        per_program = 64
    else:
        wanted = triton.next_power_of_2(max(1, len(x) * pixels // PROGRAMS))
        per_program = min(max(wanted, 16384 // block_c, 16), max(16384, 16384 // block_c))
    return block_c, tiled, per_program


def check_labels(inputs: Inputs, spec: Spec) -> None:
    """Refuse labels that name no class, where looking costs no wait; elsewhere they make the loss NaN."""
    target = inputs.target
    if target.is_floating_point() or not readable(target):
        return
    valid = target.long() != spec.ignore_index
    if inputs.pixel_weights is not None:
        weights = inputs.pixel_weights
        valid &= (weights if target.ndim == 2 else weights[:, None]) != 0
    labels = torch.where(valid, target, 0).long()
    if spec.sigmoid:
        check_yes_or_no(labels, spec)
    else:
        check_range(labels, inputs.logits.shape[1], spec)


def forward(inputs: Inputs, spec: Spec, size: Sequence[int]) -> Found:
    """What `walk.forward` gives."""
    check_labels(inputs, spec)
    x = inputs.logits
    pixels, arguments = common(inputs, spec, size)
    block_c, tiled, per_program = blocks(x, spec, pixels)
    batch, classes = x.shape[:2]
    channels, dtype = classes if spec.sigmoid else 1, wide_dtype(x)
    grid = (triton.cdiv(pixels, per_program), batch, triton.cdiv(classes, block_c) if spec.sigmoid else 1)

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x.device)

    by_class = empty(batch, grid[0], 3 + spec.sigmoid, classes) if spec.region else None
    scalars = empty(batch, grid[0], grid[2], 3) if spec.region or spec.pixelwise == "image" else None
    term_map = empty(batch, channels, pixels) if spec.pixelwise == "map" else None
    class_weights, factors = tables(inputs, spec)
    arguments |= {"class_weights": class_weights, "factors": factors, "by_class": by_class, "scalars": scalars}
    arguments |= {"term_map": term_map, "counts": None, "sizes": None, "bad": None, "scale": None}
    arguments |= {"PIXELS": per_program, "TILED": tiled}
    kernel = sigmoid_forward if spec.sigmoid else softmax_forward
    launch(kernel, grid, block_c, arguments, per_program)
    if scalars is None:
        return Found(None, term_map)
    terms, weight, number = (t.clone() for t in scalars.sum((1, 2), dtype=torch.float64).to(dtype).unbind(1))  # [B]
    sums = None
    if by_class is not None:
        of_class = by_class.sum(1, dtype=torch.float64).to(dtype)
        parts = [part.clone(memory_format=torch.contiguous_format) for part in of_class.unbind(1)]
        sums = Sums(parts[0], parts[1], parts[2], parts[3] if spec.sigmoid else number[:, None])
    return Found(sums, terms, weight) if spec.pixelwise == "image" else Found(sums, term_map)


def backward(inputs: Inputs, spec: Spec, size: Sequence[int], by: Upstream) -> Tensor:
    """The gradient of `walk.backward`."""
    by_terms, by_inter, by_pred = by
    spec = replace(spec, pixelwise="none" if by_terms is None else spec.pixelwise, region=by_pred is not None)
    _, arguments = common(inputs, spec, size)
    if by_terms is not None and spec.pixelwise == "image":
        by_terms = by_terms.contiguous()
    region = {"by_inter": by_inter, "by_pred": by_pred}
    arguments |= {name: None if by is None else by.contiguous() for name, by in region.items()}
    return gradient(inputs, spec, size, arguments | {"by_terms": by_terms, "by_loss": None, "table": None})


def gradient(inputs: Inputs, spec: Spec, size: Sequence[int], arguments: dict[str, Any]) -> Tensor:
    """Run the backward for logits as fine as the target, or the two passes for coarse ones."""
    x, pixels, by_terms = inputs.logits, arguments["N"], arguments["by_terms"]
    strides = list(by_terms.stride()) if spec.pixelwise == "map" else [0, 0, 0]
    strides[1] *= spec.sigmoid  # one term for all classes of a softmax
    arguments |= dict(zip(("u_b", "u_c", "u_n"), strides, strict=True))
    block_c, tiled, _ = blocks(x, spec, pixels)
    batch, classes = x.shape[:2]
    grad = torch.empty_like(x)
    arguments |= {"grad": grad, "saved": None, "factors": tables(inputs, spec)[1], "g_b": grad.stride(0)}
    arguments |= {"g_c": grad.stride(1), "g_n": grad.stride(2), "TILED": tiled}
    if size and not spec.sigmoid:
        saved = torch.empty((batch, 4, pixels), dtype=wide_dtype(x), device=x.device)
        arguments |= {"grad": None, "saved": saved}
    kernel = sigmoid_backward if spec.sigmoid else softmax_backward

    def grid(meta: dict[str, Any]) -> tuple[int, int, int]:
        tiles = triton.cdiv(classes, meta["BLOCK_C"]) if spec.sigmoid else 1
        return triton.cdiv(pixels, meta["BLOCK_N"]), batch, tiles

    if not (size and spec.sigmoid):
        launch(kernel, grid, block_c, arguments, None)
    if size:
        for name in ("TILED", "g_n"):
            del arguments[name]
        strides = [0] * (3 - len(size)) + list(grad.stride()[2:])
        arguments |= {"grad": grad, "SIGMOID": spec.sigmoid} | {f"g_{i}": strides[i] for i in range(3)}
        for i in range(3):
            fine, coarse = arguments[f"F{i}"], arguments[f"G{i}"]
            arguments[f"K{i}"] = triton.cdiv(2 * fine, coarse) if fine > 1 or coarse > 1 else 1
        places = math.prod(x.shape[2:])

        def over_places(meta: dict[str, Any]) -> tuple[int, int, int]:
            return triton.cdiv(places, meta["BLOCK_N"]), batch, triton.cdiv(classes, meta["BLOCK_C"])

        tile = min(triton.next_power_of_2(classes), 32)
        launch(coarse_backward, over_places, tile, arguments, None, places=places)
    return grad


def lovasz_forward(
    inputs: Inputs, spec: Spec, size: Sequence[int], per_image: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, truth, pixels and the table of slopes, as the operator of `levels`."""
    check_labels(inputs, spec)
    x, weights = inputs.logits, inputs.pixel_weights
    pixels, arguments = common(inputs, spec, size)
    block_c, tiled, per_program = blocks(x, spec, pixels)
    batch, classes = x.shape[:2]
    rows, dtype = batch if per_image else 1, wide_dtype(x)
    scale = None
    if weights is not None:
        # Weights are counted as integers: in the largest power of two at which their sum stays below 2**62.
        total = weights.sum(dtype=torch.float64)
        scale = torch.exp2(torch.floor(61 - torch.log2(torch.where(total > 0, total, 1))))
    wide = scale is not None or batch * pixels >= 2**31
    counts = torch.zeros((rows, classes, SLOTS), dtype=torch.int64 if wide else torch.int32, device=x.device)
    sizes = torch.zeros((rows, classes, 2), dtype=torch.int64, device=x.device)
    bad = torch.zeros(1, dtype=torch.int32, device=x.device)
    arguments |= {"class_weights": None, "factors": None, "by_class": None, "scalars": None, "term_map": None}
    arguments |= {"counts": counts, "sizes": sizes, "bad": bad, "scale": scale, "PER_IMAGE": per_image}
    arguments |= {"PIXELS": per_program, "TILED": tiled}
    grid = (triton.cdiv(pixels, per_program), batch, triton.cdiv(classes, block_c) if spec.sigmoid else 1)
    launch(sigmoid_forward if spec.sigmoid else softmax_forward, grid, block_c, arguments, per_program)
    loss, truth, number = torch.empty((3, rows, classes), dtype=dtype, device=x.device).unbind(0)
    table = torch.empty((rows, classes, SLOTS), dtype=dtype, device=x.device)
    block = 65536 if INTERPRETED else 2048
    with _card(x):
        level_sums[(rows * classes,)](
            counts, sizes, bad, scale, loss, truth, number, table, WIDE=arguments["WIDE"], BLOCK=block, **COMPILE
        )
    return loss.clone(), truth.clone(), number.clone(), table


def lovasz_backward(
    inputs: Inputs, spec: Spec, size: Sequence[int], per_image: bool, by_loss: Tensor, table: Tensor
) -> Tensor:
    """The gradient by the logits from that by the loss of each set and class."""
    _, arguments = common(inputs, spec, size)
    arguments |= {"by_terms": None, "by_inter": None, "by_pred": None, "by_loss": by_loss.contiguous(), "table": table}
    return gradient(inputs, spec, size, arguments | {"PER_IMAGE": per_image})
