"""The Lovász extension of the Jaccard loss, in linear time.

With errors e = |truth - p| of one class, the loss is the mean over all levels t in (0, 1] of the Jaccard loss of the
set of pixels whose error is at least t. Only how many pixels lie above each level counts, so instead of sorting we
round the errors to 65,536 levels and count. The extension is 1-Lipschitz in the largest change of an error, and
rounding changes none by more than half a step of 1/65,535: so much, at most, the loss is off, which is below 2**-16.

The gradient by an error is the slope of the Jaccard loss at its level: one table per class, read by level.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Upsample, Weights, choice, flatten, indices_of
from segkit.losses._engine.levels import sums_by_level
from segkit.losses._engine.reduce import Entries, Scope, reduce_entries, resolved
from segkit.losses._engine.route import sorts
from segkit.losses._engine.sort import by_sorting
from segkit.losses._engine.walk import warn_of_probabilities
from segkit.losses._engine.wanted import Spec
from segkit.losses._module import Loss
from segkit.losses._region import of_regions

__all__ = ["LovaszLoss", "lovasz"]


def lovasz(
    logits: Tensor,
    target: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "batch",
    classes: Literal["present", "all"] | Classes = "present",
    exact: bool = False,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """The Jaccard loss of each class, made convex in the errors ``|truth - p|`` (Lovász-softmax).

    Args:
        target: class indices, or 0 and 1, as for `cross_entropy`; soft targets are refused.
        pixel_weights: [B, *spatial], at least 0: how many pixels a pixel counts for; 0 is the same as ignored.
        upsample: as for `cross_entropy`; not together with ``exact``.
        scope: the sets of the whole ``"batch"``, or of each ``"image"``.
        classes: those ``"present"`` in the truth (of the image or batch), ``"all"``, or a list of them.
        exact: sort the errors instead of rounding them to 65,536 levels.
        process_group: ranks that share the mean over images; for scope ``"image"`` only.

    All else is as for `region_loss`.

    Returns:
        A scalar or [B, C], in [0, 1], within 2**-16 of the exact loss. The slope by an error is that of its level, and
        0 below half of the first: an error so near to the edge between two levels that rounding decides, as at a margin
        of 12 between logits, may have the slope of either. Pass ``exact=True`` where single pixels matter.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # every error is 1/2: so is the loss
        >>> lovasz(logits, torch.tensor([[0, 1]]))
        tensor(0.5000)

    Source: Berman et al. 2018. For sigmoid modes the errors are of probabilities; there the hinge of logits.
    """
    function = "lovasz"
    choice(function, "scope", scope, ("image", "batch"))
    choice(function, "reduction", reduction, ("mean", "sum", "none"))
    if isinstance(classes, str):
        choice(function, "classes", classes, ("present", "all"))
    if process_group is not None and scope == "batch":
        raise ValueError(
            f"{function}: `process_group` must be None for scope 'batch': sets of pixels do not add up over ranks. "
            "Pass scope='image', or average the losses of the ranks."
        )
    flat = flatten(function, logits, target, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)
    if flat.inputs.target.is_floating_point():
        raise TypeError(
            f"{function}: `target` must hold class indices, got {flat.inputs.target.dtype}. Soft targets have no set."
        )
    spec = Spec(function, mode != "multiclass", flat.ignore_index)
    if exact and flat.size:
        raise ValueError(f"{function}: `exact` must be False with upsample='bilinear'. Interpolate the logits first.")
    by_image = scope == "image"
    warn_of_probabilities(flat.inputs.logits, spec)
    if exact or sorts(flat.inputs.logits, flat.size, by_image):
        loss, truth, pixels = by_sorting(flat.inputs, spec, by_image)
    else:
        loss, truth, pixels = sums_by_level(flat.inputs, spec, flat.size, by_image)
    chosen = None if isinstance(classes, str) else indices_of(function, classes, flat.inputs.logits.shape[1])
    if chosen is not None:
        loss, truth, pixels = (t[:, list(chosen)] for t in (loss, truth, pixels))
    entries = Entries(scope, chosen, class_weights=of_regions(flat), every=chosen is not None or classes == "all")
    return reduce_entries(loss, entries.weights(truth, pixels), reduction, resolved(process_group))


class LovaszLoss(Loss):
    """`functional.lovasz` as a module; see there for the options.

    Example:
        >>> import torch
        >>> LovaszLoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(0.5000)
    """

    _function = staticmethod(lovasz)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "batch",
        classes: Literal["present", "all"] | Classes = "present",
        exact: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
