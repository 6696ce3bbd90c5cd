"""Online hard example mining: the loss of the hardest pixels, and of no other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Ignored, Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._cross_entropy import check_smoothing
from segkit.losses._engine import walk
from segkit.losses._engine.operator import pixel_sums, with_gradient
from segkit.losses._engine.reduce import nonzero, resolved, sum_over_ranks, weighted_mean
from segkit.losses._engine.route import all_count, choose
from segkit.losses._engine.streamed.blocks import wide_dtype
from segkit.losses._engine.streamed.labels import not_ignored
from segkit.losses._engine.tracing import in_plain_sight, readable, unwrapped
from segkit.losses._engine.wanted import Flat, Inputs, Spec
from segkit.losses._module import Loss
from segkit.mining import hard_mask

__all__ = ["OHEMCrossEntropyLoss", "ohem_cross_entropy"]


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    keep_ratio: float | None = None,
    min_kept: int | None = None,
    threshold: float | None = None,
    scope: str = "batch",
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Cross-entropy of the hardest pixels only; the others have no loss and no gradient.

    Args:
        ignore_index: label of pixels that count nowhere, not in the quota either.
        class_weights: as for `cross_entropy`; the pixels are chosen by their weighted loss.
        keep_ratio: share in (0, 1] of the pixels that count to keep, rounded up (nnU-Net's top-k rounds down); 0.25 if
            nothing else is given.
        min_kept: keep at least as many pixels.
        threshold: keep the pixels whose *loss* is above it (0.7 as a probability is -log 0.7 = 0.357).
        scope: choose in the whole ``"batch"``, or in each ``"image"``.
        reduction: ``"mean"`` over the pixels kept (weighted), ``"sum"``, or ``"none"``: the map, 0 where not kept.
        process_group: ranks that share the mean. Each chooses among its own pixels.

    All else is as for `cross_entropy`.

    Example:
        >>> logits = torch.tensor([[[0.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]]])
        >>> ohem_cross_entropy(logits, torch.tensor([[1, 0, 0, 0]]), keep_ratio=0.25)  # the one hard pixel: log 2
        tensor(0.6931)

    Source: Shrivastava et al. 2016, on pixels. The selection is `mining.hard_mask`, without a sort.
    """
    function = "ohem_cross_entropy"
    check(function, keep_ratio, min_kept, threshold)
    smoothing = check_smoothing(function, label_smoothing, mode)
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    return hardest(flat, keep_ratio, min_kept, threshold, scope, smoothing, reduction, process_group)[0]


def check(function: str, keep_ratio: float | None, min_kept: int | None, threshold: float | None) -> None:
    """Refuse what would keep nothing."""
    if keep_ratio is not None and not 0 < keep_ratio <= 1:
        raise ValueError(f"{function}: `keep_ratio` must be in (0, 1], got {keep_ratio}.")
    least = 1 if keep_ratio is None and threshold is None else 0
    if min_kept is not None and min_kept < least:
        raise ValueError(f"{function}: `min_kept` must be at least {least}, got {min_kept}.")


def hardest(
    flat: Flat,
    keep_ratio: float | None,
    min_kept: int | None,
    threshold: float | None,
    scope: str,
    smoothing: float,
    reduction: Reduction,
    process_group: Any,
) -> tuple[Tensor, Tensor]:
    """The loss of the hardest pixels, and how many these are (a tensor, so that nothing waits for it)."""
    choice(flat.function, "reduction", reduction, ("mean", "sum", "none"))
    if keep_ratio is None and min_kept is None and threshold is None:
        keep_ratio = 0.25
    inputs = flat.inputs
    spec = Spec(flat.function, flat.mode != "multiclass", flat.ignore_index, smoothing=smoothing, pixelwise="map")
    pixel_weights, class_weights, process_group = inputs.pixel_weights, inputs.class_weights, resolved(process_group)
    if pixel_weights is not None and flat.mode == "multilabel":  # each channel is chosen by itself
        of_pixels = pixel_weights if pixel_weights.ndim == 3 else pixel_weights[:, None]
        pixel_weights = of_pixels.expand(inputs.target.shape).flatten(1)
    labels = None if inputs.target.is_floating_point() else inputs.target.flatten(1)
    seen = in_plain_sight(inputs.logits) and (labels is None or in_plain_sight(labels)) and readable(inputs.logits)
    plain = labels is None or (seen and all_count(inputs, spec, 2 if spec.sigmoid else inputs.logits.shape[1]))
    valid = None if plain or labels is None else not_ignored(labels, flat.ignore_index)
    if pixel_weights is not None:
        there = pixel_weights != 0
        valid = there if valid is None else valid & there

    def select(losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The losses [B, 1, N], 0 where they are left out, in place; where that is, and how many are kept."""
        kept = hard_mask(
            losses.detach().flatten(1),
            keep_ratio=keep_ratio,
            min_kept=min_kept,
            threshold=threshold,
            scope=scope,
            valid=valid,
        )
        number = count(kept)
        left_out = kept.logical_not_()
        # In place, and not of a view, whose gradient would be copied.
        return losses.masked_fill_(left_out.view(losses.shape), 0).flatten(1), left_out, number

    def divisor(left_out: Tensor, number: Tensor, dtype: torch.dtype) -> Tensor:
        """What a mean divides by: numbers that add up to it."""
        if pixel_weights is None and (class_weights is None or labels is None):
            return number.to(dtype)
        weight = ~left_out if pixel_weights is None else pixel_weights.masked_fill(left_out, 0)
        if class_weights is not None and labels is not None:
            known = labels.long().masked_fill(left_out, 0)
            if class_weights.ndim == 1:
                weight = weight * class_weights[known]
            else:  # of a no and of a yes in each channel
                yes = known.view(inputs.target.shape)
                weight = weight * torch.where(yes == 1, class_weights[1, :, None], class_weights[0, :, None]).flatten(1)
        return weight.to(dtype)

    numbers: list[Tensor] = []

    def make(inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The loss and its gradient: the map of losses becomes that by the terms."""
        found, buffer = walk.forward(inputs, spec, flat.size, route.keep)
        assert found.terms is not None
        of_pixels = found.terms.shape
        losses, left_out, number = select(found.terms)
        numbers.append(number)
        below = nonzero(divisor(left_out, number, losses.dtype).sum()) if reduction == "mean" else losses.new_ones(())
        loss = losses.sum() / below
        slope = losses.fill_(1).div_(below).masked_fill_(left_out, 0).view(of_pixels)
        del left_out  # a byte a pixel
        return loss, walk.backward(inputs, spec, flat.size, (slope, None, None), buffer)

    route = choose(inputs, spec, flat.size)
    wide = wide_dtype(inputs.logits) == inputs.logits.dtype  # else it is rounded when the scale of the loss is known
    if seen and wide and route.call == "function" and process_group is None and reduction != "none":
        return with_gradient(flat.source, inputs, make), numbers[0]
    found = pixel_sums(inputs, spec, flat.size, route)
    assert found.terms is not None
    losses, left_out, number = select(found.terms)
    if reduction == "none":
        return losses.view(flat.shape), number
    if reduction == "sum":
        return sum_over_ranks([losses.sum()], process_group)[0], number
    return weighted_mean(losses, divisor(left_out, number, losses.dtype), process_group), number


def count(kept: Tensor) -> Tensor:
    """How many are kept; where it costs no wait without the copy that a sum of bools makes, of 8 bytes each."""
    return torch.count_nonzero(kept) if readable(kept) and in_plain_sight(kept) else kept.sum()


class OHEMCrossEntropyLoss(Loss):
    """`functional.ohem_cross_entropy` as a module, which also tells how many pixels it kept: ``last_kept``.

    ``last_kept`` is a tensor on the device of the logits, -1 before the first call; reading it as a number waits for
    the device.

    Example:
        >>> loss = OHEMCrossEntropyLoss(keep_ratio=0.25)
        >>> value = loss(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8))
        >>> int(loss.last_kept)
        16
    """

    _function = staticmethod(ohem_cross_entropy)
    _shares = False  # it counts what it keeps
    last_kept: Tensor

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        keep_ratio: float | None = None,
        min_kept: int | None = None,
        threshold: float | None = None,
        scope: str = "batch",
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
        self.register_buffer("last_kept", torch.tensor(-1), persistent=False)

    def call(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None, options: dict[str, Any]) -> Tensor:
        """The function, with the options of one call; keeps the number of pixels."""
        name, options = type(self).__name__, dict(options)
        check(name, options["keep_ratio"], options["min_kept"], options["threshold"])
        mode, ignored, upsample = (options.pop(key) for key in ("mode", "ignore_index", "upsample"))
        labelled, smoothing = options.pop("labelled", None), options.pop("label_smoothing")
        flat = flatten(name, logits, target, mode, ignored, self.class_weights, pixel_weights, upsample, labelled)
        loss, kept = hardest(flat, smoothing=check_smoothing(name, smoothing, mode), **options)
        self.last_kept = kept if torch.compiler.is_compiling() else unwrapped(kept)
        return loss
