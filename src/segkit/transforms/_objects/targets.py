"""Targets made of a mask [..., H, W], or with three numbers as ``spacing`` of a volume [..., D, H, W]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._objects.distances import distance_to
from segkit.transforms._objects.lines import lines_of
from segkit.transforms._objects.parts import nearest, objects, two_nearest

Spacing = Sequence[float] | None
MOST = 2**15 - 1  # objects of an image, beside 16 bits for the class of each


def skeleton(
    mask: Tensor,
    *,
    radius: int = 1,
    background: int | None = 0,
    spacing: Spacing = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """The centre lines of each class, a few pixels wide: class numbers on them, `ignore_index` everywhere else.

    Args:
        mask: [..., H, W], integers.
        radius: the lines reach so many pixels to each side of the centre, but never beyond their own class.
        background: a class without centre lines; None if every class has them.
        spacing: three numbers for volumes [..., D, H, W], which need scikit-image: length of a voxel along each axis.
        ignore_index: label of pixels that count nowhere.

    Returns:
        [..., H, W] in the dtype of `mask`: with `ignore_index` off the lines, it is a target of its own, on which a
        loss measures how much of each line was found.

    Example:
        >>> mask = torch.zeros(9, 9, dtype=torch.uint8)
        >>> mask[:, 3:6] = 1
        >>> skeleton(mask, radius=0)[4].tolist()
        [255, 255, 255, 255, 1, 255, 255, 255, 255]

    Source: Kirchhoff et al. 2024 (Skeleton Recall Loss); thinning by Zhang and Suen 1984, in 3-D Lee et al. 1994.
    """
    labels, axes = _labels("skeleton", mask, spacing)
    limits = np.iinfo(labels.dtype) if labels.dtype != bool else np.iinfo(np.uint8)
    if not limits.min <= ignore_index <= limits.max:
        raise ValueError(
            f"skeleton: `ignore_index` must fit into the dtype of `mask`, {mask.dtype}, as it marks pixels off lines, "
            f"got {ignore_index}. Pass mask.long(), or ignore_index=255."
        )
    lines = np.full_like(labels, ignore_index)
    for place in np.ndindex(labels.shape[:-axes]):
        for label in np.unique(labels[place]):
            if label not in (background, ignore_index):
                lines[place][lines_of(labels[place] == label, radius, spacing)] = label
    return torch.from_numpy(lines).to(mask.device)


def distance_maps(
    mask: Tensor, *, num_classes: int, spacing: Spacing = None, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """For each class, how far every pixel lies from its border: positive outside the class, negative inside.

    Args:
        mask: [..., H, W], integers.
        num_classes: C; labels from C on are refused.
        spacing: length of a pixel along H and W, 1 and 1 if None; three numbers for volumes [..., D, H, W]. Volumes
            and oblong pixels need SciPy.
        ignore_index: pixels with this label are 0 in all maps and belong to no class.

    Returns:
        float32 [..., C, H, W], Euclidean distances to the nearest pixel of the class, or the shortest side of a pixel
        minus the distance to the nearest pixel of another; 0 everywhere for a class that is not there.

    Raises:
        ValueError: the mask holds another label.

    Example:
        >>> distance_maps(torch.tensor([[0, 0, 1, 1, 1]]), num_classes=2)[1].tolist()
        [[2.0, 1.0, 0.0, -1.0, -2.0]]

    Source: Kervadec et al. 2019 (boundary loss), their signed map.
    """
    labels, axes = _labels("distance_maps", mask, spacing)
    wrong = np.setdiff1d(labels, [*range(num_classes), ignore_index])
    if len(wrong):
        raise ValueError(
            f"distance_maps: `mask` must hold labels in [0, {num_classes}) or {ignore_index}, got "
            f"{wrong[:8].tolist()}. Remap them (segkit.labels.remap), or give the right num_classes."
        )
    side = 1 if spacing is None else min(spacing)
    maps = np.zeros((*labels.shape[:-axes], num_classes, *labels.shape[-axes:]), np.float32)
    for place in np.ndindex(labels.shape[:-axes]):
        ignored = labels[place] == ignore_index
        for label in range(num_classes):
            inside = labels[place] == label
            if not inside.any():
                continue
            signed = distance_to(inside, spacing)
            if not inside.all():
                signed -= np.where(inside, distance_to(~inside, spacing) - side, 0)
            maps[place][label] = np.where(ignored, 0, signed)
    return torch.from_numpy(maps).to(mask.device)


def component_regions(
    mask: Tensor, *, background: int | None = 0, spacing: Spacing = None, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Which object is nearest to each pixel: its number times 65,536 plus its class; 0 where there is no object.

    Args:
        mask: [..., H, W], integers in [0, 65536).
        background: a class without objects; None if every class has them.
        spacing: length of a pixel along H and W, 1 and 1 if None; three numbers for volumes [..., D, H, W]. Volumes
            and oblong pixels need SciPy.
        ignore_index: label of pixels that count nowhere, and are not objects.

    Returns:
        int32 [..., H, W], for `losses.functional.component_dice_ce`. An object is what hangs together, by sides and
        corners, and has one class; the numbers of an image begin at 1.

    Raises:
        ValueError: an image has more than 32,767 objects, or a label that does not fit.

    Example:
        >>> component_regions(torch.tensor([[0, 1, 0, 0, 0, 2]]))[0].tolist()  # 1 of class 1, 2 of class 2
        [65537, 65537, 65537, 65537, 131074, 131074]

    Source: Jaus et al. 2024 (CC-Metrics), for the objects of all classes at once; of equally near ones the first.
    """
    labels, axes = _labels("component_regions", mask, spacing)
    regions = np.zeros(labels.shape, np.int32)
    for place in np.ndindex(labels.shape[:-axes]):
        found, classes = objects(labels[place], (background, ignore_index))
        if len(classes) > MOST + 1 or not 0 <= min(classes) <= max(classes) < 2**16:
            raise ValueError(
                f"component_regions: `mask` must have at most {MOST:,} objects with labels in [0, 65536), got "
                f"{len(classes) - 1:,} of labels up to {max(classes)}. Remove the specks from the mask, or remap it."
            )
        closest = nearest(found, len(classes) - 1, spacing)
        regions[place] = closest * 2**16 + np.array(classes, np.int32)[closest]
    return torch.from_numpy(regions).to(mask.device)


def border_weights(
    mask: Tensor,
    *,
    weight: float = 10.0,
    sigma: float = 5.0,
    background: int = 0,
    spacing: Spacing = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """The weight of each pixel: more in the narrow background between two objects, 1 elsewhere, 0 where ignored.

    Args:
        mask: [..., H, W], integers.
        weight: added where two objects nearly touch.
        sigma: how far from both the weight reaches, in pixels (or the unit of `spacing`).
        background: the class between the objects.
        spacing: length of a pixel along H and W, 1 and 1 if None; three numbers for volumes [..., D, H, W]. Volumes
            and oblong pixels need SciPy.
        ignore_index: label of pixels that count nowhere, and are not objects.

    Returns:
        float32 [..., H, W], the `pixel_weights` of every loss: 1 + weight exp(-(d1 + d2)^2 / (2 sigma^2)) in the
        background, with the distances to the nearest object and to the one after it.

    Example:
        >>> border_weights(torch.tensor([[1, 0, 1, 0, 0, 0]]), sigma=2.0).round(decimals=2)
        tensor([[1.0000, 7.0700, 1.0000, 2.3500, 1.1100, 1.0000]])

    Source: Ronneberger et al. 2015 (U-Net), whose balance of classes is `class_weights`.
    """
    labels, axes = _labels("border_weights", mask, spacing)
    weights = np.ones(labels.shape, np.float32)
    for place in np.ndindex(labels.shape[:-axes]):
        found, classes = objects(labels[place], (background, ignore_index))
        first, second = two_nearest(found, len(classes) - 1, spacing)
        more = weight * np.exp(-((first + second) ** 2) / (2 * sigma**2))
        weights[place] = np.where(labels[place] == background, 1 + more, labels[place] != ignore_index)
    return torch.from_numpy(weights).to(mask.device)


def _labels(function: str, mask: Tensor, spacing: Spacing) -> tuple[np.ndarray, int]:
    """The labels as an array, and how many of its last axes are an image."""
    axes = 2 if spacing is None else len(spacing)
    if spacing is not None and (axes not in (2, 3) or not all(0 < float(s) < np.inf for s in spacing)):
        raise ValueError(
            f"{function}: `spacing` must hold two or three lengths above 0, for [H, W] or [D, H, W], got {spacing!r}."
        )
    if mask.ndim < axes or mask.is_floating_point():
        raise ValueError(
            f"{function}: `mask` must hold integers [..., {'D, ' * (axes - 2)}H, W], got {mask.dtype} "
            f"{list(mask.shape)}."
        )
    return mask.cpu().numpy(), axes
