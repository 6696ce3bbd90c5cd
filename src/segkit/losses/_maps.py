"""Losses against maps made from the truth beforehand, in the loader: distances to the boundary, and skeletons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Upsample, Weights, flatten
from segkit.losses._engine.reduce import Absent, Entries, Scope, nonzero
from segkit.losses._engine.wanted import Sums
from segkit.losses._module import Loss
from segkit.losses._region import region_formula

__all__ = ["BoundaryLoss", "SkeletonRecallLoss", "boundary", "skeleton_recall"]


def boundary(
    logits: Tensor,
    distance_maps: Tensor,
    *,
    mode: Mode = "multiclass",
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    upsample: Upsample | None = None,
    classes: Classes | None = None,
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """Mean over pixels of probability times signed distance to the class's true boundary.

    Args:
        distance_maps: the logits' shape, floating point: distance to the boundary of each class in pixels (or any
            unit), negative inside, positive outside; 0 where the class is not in the image.
            From `transforms.DistanceMaps`.
        pixel_weights: [B, *spatial], at least 0; 0 leaves a pixel out: pass ``(mask != 255).float()``.

    All else is as for `region_loss`.

    Returns:
        A scalar or [B, C]; negative where the prediction lies inside the truth.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # p = 1/2
        >>> maps = torch.tensor([[[-1.0, 3.0], [1.0, -3.0]]])
        >>> boundary(logits, maps, classes=[0])  # (-1 + 3) / 2 pixels / 2
        tensor(0.5000)

    Source: Kervadec et al. 2019. Use it beside a region loss, with a weight that grows over the epochs.
    """
    function = "boundary"
    if not distance_maps.is_floating_point():
        raise TypeError(f"{function}: `distance_maps` must be floating point, got {distance_maps.dtype}.")
    flat = flatten(
        function, logits, distance_maps, mode, IGNORE_INDEX, class_weights, pixel_weights, upsample, shares=False
    )
    # Every class of an image with pixels counts, whatever the sign of its distances.
    entries = Entries("image", classes, every=True)
    return region_formula(lambda s: s.intersection / s.pixels.clamp_min(1e-7), flat, entries, reduction, process_group)


class BoundaryLoss(Loss):
    """`functional.boundary` as a module; see there for the options.

    Example:
        >>> BoundaryLoss()(
        ...     torch.zeros(1, 2, 2), torch.tensor([[[-1.0, 3.0], [1.0, 1.0]]])
        ... )  # p = 1/2: the mean of 2/4 and 2/4
        tensor(0.5000)
    """

    _function = staticmethod(boundary)

    def _one_pixel(self, logits: Tensor, target: Tensor) -> None:
        """The call of `_try_out`, with maps."""
        super()._one_pixel(logits, logits.new_zeros((*logits.shape[:2], 2 if self._options["upsample"] else 1)))

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        classes: Classes | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


def skeleton_recall(
    logits: Tensor,
    skeleton: Tensor,
    *,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    pixel_weights: Tensor | None = None,
    labelled: Tensor | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> Tensor:
    """One minus the share of the true skeleton that is found: 1 - sum(p s) / sum(s), for thin structures.

    Args:
        skeleton: the skeleton of the target, in any form a target has: class indices (or 0 and 1) on the skeleton, and
            `ignore_index` off it, [B, *spatial], as `transforms.SkeletonTarget` makes it; or one plane of 0 and 1
            for each class.
        classes: which classes count; usually all but the background.

    All else is as for `region_loss`.

    Example:
        >>> logits = torch.tensor([[[0.0, 9.0], [0.0, -9.0]]])
        >>> skeleton_recall(logits, torch.tensor([[1, 255]]), classes=[1])  # half of the one skeleton pixel is found
        tensor(0.5000)

    Source: Kirchhoff et al. 2024, without the tube around the skeleton (dilate it in the loader if you want one).
    """
    function = "skeleton_recall"
    if mode == "multiclass" and skeleton.shape == logits.shape and not skeleton.is_floating_point():
        skeleton = skeleton.to(torch.float32)  # planes, which may all be 0: not a one-hot target
    flat = flatten(function, logits, skeleton, mode, ignore_index, class_weights, pixel_weights, upsample, labelled)

    def missed(s: Sums) -> Tensor:
        return 1 - s.intersection / nonzero(s.truth)

    return region_formula(missed, flat, Entries(scope, classes, absent), reduction, process_group)


class SkeletonRecallLoss(Loss):
    """`functional.skeleton_recall` as a module; see there for the options.

    Example:
        >>> SkeletonRecallLoss(classes=[1])(torch.zeros(1, 2, 3), torch.tensor([[255, 1, 255]]))
        tensor(0.5000)
    """

    _function = staticmethod(skeleton_recall)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
