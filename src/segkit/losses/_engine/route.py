"""The one road map: which way a call takes, and every question that decides it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from segkit._triton import triton_runs
from segkit.losses._engine.streamed.blocks import Block, blocks, wide_dtype
from segkit.losses._engine.tracing import in_plain_sight, looked_on, may_be_looked_at, transformed
from segkit.losses._engine.wanted import Inputs, Spec

FEW, LONG = 8, 2**13  # classes and pixels of a block whose classes are taken one by one: shorter ones are not worth it
SMALL = 2**16  # numbers of a block that has one-hot numbers of all classes
STEPS = 65535  # levels of the errors of Lovász
SLOTS = 2 * STEPS + 1  # (truth - p) from -1 to 1: a miss of a background pixel left of the middle, of the class right


class Cut(NamedTuple):
    """Blocks in groups, whose sums are wanted together; and whether probabilities lie where the gradient will."""

    groups: list[list[Block]]
    in_place: bool


class Route(NamedTuple):
    """How a call meets autograd, and what it leaves for the gradient (see `choose`)."""

    call: Literal["operator", "transformed", "forward", "at_once", "function"]
    keep: bool = False
    cut: Cut | None = None


def choose(inputs: Inputs, spec: Spec, size: Sequence[int], one_number: bool = False, by_image: bool = True) -> Route:
    """Which way a pass takes: the first row that is true. `code_for` says which code makes it.

    | call | where | its gradient |
    | --- | --- | --- |
    | ``operator`` | the graph is traced, a mode looks on, or a class wraps the logits | an operator, made anew |
    | ``transformed`` | a transform of `torch.func` runs | made anew |
    | ``at_once`` | a loss that is one number, torch's code, CPU, hard labels, blocks that can be `cut` | made with it |
    | ``forward`` | no gradient is wanted | |
    | ``function`` | else | from the kept probabilities where they can be (``keep``), else made anew |

    Args:
        inputs: checked and flat.
        spec: what the pass is asked for.
        size: what the logits are interpolated to; empty for logits as fine as the target.
        one_number: whether all that is wanted is one loss, whose slopes by the sums are known without a graph.
        by_image: whether that loss needs no sums of one image for another.
    """
    x = inputs.logits
    if not in_plain_sight(x):
        return Route("operator")
    if transformed():
        return Route("transformed")
    code = code_for(inputs, spec, size)
    gradient = x.requires_grad and torch.is_grad_enabled()
    if one_number and code == "hard" and x.device.type == "cpu" and x.numel():
        groups = cut(inputs, spec, size, by_image, gradient)
        if groups is not None:
            return Route("at_once", cut=groups)
    if not gradient:
        return Route("forward")
    return Route("function", keep=code == "hard" and not size and x.dtype == wide_dtype(x))


def code_for(inputs: Inputs, spec: Spec, size: Sequence[int]) -> Literal["kernels", "hard", "soft"]:
    """Which code makes a pass: the first row that is true.

    | code | where |
    | --- | --- |
    | ``kernels`` | Triton runs, and `fits`; they know no ``smaller``, and no weights for each channel |
    | ``hard`` | a softmax and one class a pixel (`by_index`) |
    | ``soft`` | a number for each class: soft targets, smoothing, sigmoid |
    """
    if runs_kernels(inputs.logits, size) and not spec.smaller and not by_channel(inputs):
        return "kernels"
    return "hard" if by_index(inputs, spec) else "soft"


def runs_kernels(x: Tensor, size: Sequence[int]) -> bool:
    """Whether the Triton kernels make the pass over logits."""
    return x.numel() > 0 and not transformed() and triton_runs(x.device) and fits(x, size)


def fits(x: Tensor, size: Sequence[int]) -> bool:
    """Whether the numbers of a pass fit into those of the kernels."""
    if len(x) > 65535 or len(size) > 3:
        return False
    if size and max(math.prod(size), math.prod(x.shape[2:])) >= 2**31:
        return False
    return all(2 * fine * coarse < 2**31 for fine, coarse in zip(size, x.shape[2:], strict=bool(size)))


def by_channel(inputs: Inputs) -> bool:
    """Whether each channel of a pixel has a weight of its own."""
    return inputs.pixel_weights is not None and inputs.pixel_weights.ndim == 3


def by_index(inputs: Inputs, spec: Spec) -> bool:
    """Whether class indices alone will do."""
    return not spec.sigmoid and inputs.target.ndim == 2 and spec.smoothing == 0


def cut(inputs: Inputs, spec: Spec, size: Sequence[int], by_image: bool, gradient: bool) -> Cut | None:
    """How to cut a pass; None if the gradient cannot be made before the whole pass, or what comes after it, is over."""
    x = inputs.logits
    pixels = inputs.target.shape[1]
    in_place = gradient and not size and x.dtype == wide_dtype(x)
    row = pixels // size[0] if len(size) > 1 else 1
    found = list(blocks(x.shape[0], x.shape[1], pixels, row, lean=not in_place))
    if gradient and x.dtype != wide_dtype(x):
        return None  # a gradient in half precision is rounded once, when the scale of the loss is known
    if not spec.region:
        return Cut([[block] for block in found], in_place)
    groups: dict[int, list[Block]] = {}
    for block in found:
        groups.setdefault(block.samples.start if by_image else 0, []).append(block)
    kept = max(map(len, groups.values()))  # blocks whose probabilities have to be there until the slopes are known
    if kept > 1 and not (by_image and (in_place or not gradient)):
        return None
    return Cut(list(groups.values()), in_place)


def all_count(inputs: Inputs, spec: Spec, classes: int) -> bool:
    """Whether each pixel counts, with weight 1, and has a label in range: one look, where looking costs no wait."""
    target = inputs.target
    if inputs.pixel_weights is not None or target.device.type != "cpu" or target.numel() == 0:
        return False
    low, high = (int(x) for x in torch.aminmax(target))
    return low >= 0 and high < classes and not low <= spec.ignore_index <= high


def sorts(x: Tensor, size: Sequence[int], by_image: bool) -> bool:
    """Whether Lovász sorts its errors: below as many as there are levels, this takes less memory than the tables.

    On the CPU it takes less time, too; over a whole batch only there. A compiled graph takes the same way, since slopes
    by level are other ones than those by sorting. A mode that looks on sees the one operator of the tables.
    """
    few_errors = len(size) == 0 and math.prod(x.shape[1:]) * (1 if by_image else len(x)) < STEPS
    if not torch.compiler.is_compiling() and looked_on():
        return False
    return few_errors and (by_image or (x.device.type == "cpu" and not runs_kernels(x, ())))


def plainly_here(x: Tensor) -> bool:
    """Whether nothing but the torch code on the CPU will see a tensor."""
    return may_be_looked_at(x) and not runs_kernels(x, ())


def few(shape: Sequence[int], device: torch.device) -> bool:
    """Whether the classes of a block [b, C, n] are better taken one by one: see `by_class`."""
    return shape[1] <= min(FEW, 4 * torch.get_num_threads()) and shape[2] >= LONG and device.type == "cpu"


def fits_one_hot(y: Tensor, classes: int) -> bool:
    """Whether labels [b, n] as one-hot numbers [b, C, n] take less time, and no memory that matters."""
    return classes <= FEW and y.numel() * classes <= SMALL and y.device.type == "cpu"
