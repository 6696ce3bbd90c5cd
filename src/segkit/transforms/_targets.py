"""What some losses need beside the mask, made in the loader: skeletons and distance maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._resampling.inputs import as_size, as_whole, check_pair


def skeleton(mask: Tensor, *, radius: int = 1, background: int | None = 0, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """The centre lines of each class, a few pixels wide: class numbers on them, `ignore_index` everywhere else.

    Args:
        mask: [..., H, W], integers.
        radius: the lines reach so many pixels to each side of the centre, but never beyond their own class.
        background: a class without centre lines; None if every class has them.
        ignore_index: label of pixels that count nowhere.

    Returns:
        [..., H, W] in the dtype of `mask`: with `ignore_index` off the lines, it is a target of its own, on which a
        loss measures how much of each line was found.

    Example:
        >>> mask = torch.zeros(9, 9, dtype=torch.uint8)
        >>> mask[:, 3:6] = 1
        >>> skeleton(mask, radius=0)[4].tolist()
        [255, 255, 255, 255, 1, 255, 255, 255, 255]

    Source: Kirchhoff et al. 2024 (Skeleton Recall Loss); thinning by Zhang and Suen 1984.
    """
    labels = mask.cpu().numpy()
    limits = np.iinfo(labels.dtype) if labels.dtype != bool else np.iinfo(np.uint8)
    if not limits.min <= ignore_index <= limits.max:
        raise ValueError(
            f"skeleton: `ignore_index` must fit into the dtype of `mask`, {mask.dtype}, since it stands off the lines, "
            f"got {ignore_index}. Pass mask.long(), or ignore_index=255."
        )
    lines = np.full_like(labels, ignore_index)
    reach = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    for place in np.ndindex(labels.shape[:-2]):
        for label in np.unique(labels[place]):
            if label in (background, ignore_index):
                continue
            region = labels[place] == label
            line = cv2.dilate(_thinned(region).astype(np.uint8), reach) > 0
            lines[place][line & region] = label
    return torch.from_numpy(lines).to(mask.device)


def distance_maps(mask: Tensor, *, num_classes: int, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """For each class, how far every pixel lies from its border: positive outside of the class, negative inside.

    Args:
        mask: [..., H, W], integers.
        num_classes: C; labels from C on are refused.
        ignore_index: pixels with this label are 0 in all maps and belong to no class.

    Returns:
        float32 [..., C, H, W], Euclidean distances in pixels to the nearest pixel of the class, or 1 minus the
        distance to the nearest pixel of another; 0 everywhere for a class that is not there.

    Raises:
        ValueError: the mask holds another label.

    Example:
        >>> distance_maps(torch.tensor([[0, 0, 1, 1, 1]]), num_classes=2)[1].tolist()
        [[2.0, 1.0, 0.0, -1.0, -2.0]]

    Source: Kervadec et al. 2019 (boundary loss), their signed map.
    """
    labels = mask.cpu().numpy()
    wrong = np.setdiff1d(labels, [*range(num_classes), ignore_index])
    if len(wrong):
        raise ValueError(
            f"distance_maps: `mask` must hold labels in [0, {num_classes}) or {ignore_index}, got "
            f"{wrong[:8].tolist()}. Remap them (segkit.labels.remap), or give the right num_classes."
        )
    maps = np.zeros((*labels.shape[:-2], num_classes, *labels.shape[-2:]), np.float32)
    for place in np.ndindex(labels.shape[:-2]):
        ignored = labels[place] == ignore_index
        for label in range(num_classes):
            inside = labels[place] == label
            if not inside.any():
                continue
            signed = _distance_to(inside)
            if not inside.all():
                signed -= np.where(inside, _distance_to(~inside) - 1, 0)
            maps[place][label] = np.where(ignored, 0, signed)
    return torch.from_numpy(maps).to(mask.device)


class _AddsTargets:
    """A transform that turns the mask into a dict of targets, the mask among them; it comes last in a row."""

    _adds: str
    moves = draws = False
    keeps_values = True

    def __call__(self, image: Tensor, mask: Any = None, *, generator: torch.Generator | None = None) -> Any:
        """The image, and a dict with the mask and what was made of it."""
        name = type(self).__name__
        if mask is None:
            raise ValueError(
                f"{name}: `mask` must be given, as the target is made from it, got None. Call it with a mask."
            )
        targets = dict(mask) if isinstance(mask, Mapping) else {"mask": mask}
        check_pair(name, image, targets["mask"])
        return image, {**targets, self._adds: self._target(targets["mask"])}

    def _target(self, mask: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not say what it makes: implement _target.")


class SkeletonTarget(_AddsTargets):
    """Beside the mask its skeleton, for `losses.skeleton_recall`: put it last.

    Args:
        radius: the lines reach so many pixels to each side of the centre.
        background: a class without centre lines; None if every class has them.
        ignore_index: label of pixels that count nowhere; the skeleton holds it wherever no line is.

    Returns:
        The image, and {"mask": the mask, "skeleton": `functional.skeleton` of it}.

    Example:
        >>> mask = torch.zeros(9, 9, dtype=torch.uint8)
        >>> mask[:, 3:6] = 1
        >>> _, targets = SkeletonTarget(radius=0)(torch.zeros(1, 9, 9), mask)
        >>> targets["skeleton"][4].tolist()
        [255, 255, 255, 255, 1, 255, 255, 255, 255]
    """

    _adds = "skeleton"

    def __init__(self, *, radius: int = 1, background: int | None = 0, ignore_index: int = IGNORE_INDEX) -> None:
        self.radius = as_whole("SkeletonTarget", "radius", radius, 0)
        self.background = background
        self.ignore_index = ignore_index

    def _target(self, mask: Tensor) -> Tensor:
        return skeleton(mask, radius=self.radius, background=self.background, ignore_index=self.ignore_index)

    def __repr__(self) -> str:
        return f"SkeletonTarget(radius={self.radius}, background={self.background}, ignore_index={self.ignore_index})"


class DistanceMaps(_AddsTargets):
    """Beside the mask its signed distance maps, for `losses.boundary`: put it last.

    Args:
        num_classes: C.
        ignore_index: label of pixels that count nowhere; their distance is 0.

    Returns:
        The image, and {"mask": the mask, "distance_maps": `functional.distance_maps` of it, float32 [..., C, H, W]}.

    Example:
        >>> image, targets = DistanceMaps(2)(torch.zeros(1, 1, 4), torch.tensor([[0, 0, 1, 1]]))
        >>> targets["distance_maps"][0].tolist()
        [[-1.0, 0.0, 1.0, 2.0]]
    """

    _adds = "distance_maps"

    def __init__(self, num_classes: int, *, ignore_index: int = IGNORE_INDEX) -> None:
        self.num_classes = as_size("DistanceMaps", num_classes, "num_classes")[0]
        self.ignore_index = ignore_index

    def _target(self, mask: Tensor) -> Tensor:
        return distance_maps(mask, num_classes=self.num_classes, ignore_index=self.ignore_index)

    def __repr__(self) -> str:
        return f"DistanceMaps(num_classes={self.num_classes}, ignore_index={self.ignore_index})"


def _distance_to(region: np.ndarray) -> np.ndarray:
    """Exact Euclidean distance of each pixel to the nearest pixel of the region."""
    height, width = region.shape
    memory = np.empty(height * (width + 15) + 16, np.float32)
    # OpenCV takes the root of a row with another last bit if the row begins elsewhere in a block of 64 bytes, and where
    # it begins is chance: rows that all begin one make every run give the same.
    first = -memory.ctypes.data % 64 // 4
    rows = memory[first : first + height * (-(-width // 16) * 16)].reshape(height, -1)[:, :width]
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, dst=rows)


def _thinned(region: np.ndarray) -> np.ndarray:
    """A region peeled from all sides at once, down to lines one pixel wide that hang together as it did."""
    rest = np.pad(region, 1).astype(np.uint8)
    before = -1
    while before != (before := int(rest.sum())):
        for peel in _PEELS:
            rest[1:-1, 1:-1] &= ~peel[_neighbours(rest)] & 1
    lines = rest[1:-1, 1:-1].astype(bool)
    # Peeling takes a square of 2 x 2 away altogether: what has lost its line gets its innermost pixel back.
    count, parts = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    for lost in np.flatnonzero(np.bincount(parts[lines], minlength=count)[1:] == 0) + 1:
        lines.flat[np.argmax(np.where(parts == lost, _distance_to(~region), -1))] = True
    return lines


def _neighbours(rest: np.ndarray) -> np.ndarray:
    """One bit for each of the eight neighbours, clockwise from the one above."""
    around = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    height, width = rest.shape[0] - 2, rest.shape[1] - 2
    code = np.zeros((height, width), np.uint8)
    for bit, (top, left) in enumerate(around):
        code |= rest[top : top + height, left : left + width] << bit
    return code


def _peel_table(first: bool) -> np.ndarray:
    """1 for each neighbourhood whose centre may go in this half step of Zhang and Suen."""
    table = np.zeros(256, np.uint8)
    for code in range(256):
        n = [code >> bit & 1 for bit in range(8)]  # above, then clockwise: n[0] north, n[2] east, n[4] south, n[6] west
        changes = sum(n[i] == 0 and n[(i + 1) % 8] == 1 for i in range(8))
        sides = (n[0] * n[2] * n[4], n[2] * n[4] * n[6]) if first else (n[0] * n[2] * n[6], n[0] * n[4] * n[6])
        table[code] = 2 <= sum(n) <= 6 and changes == 1 and sides == (0, 0)
    return table


_PEELS = (_peel_table(True), _peel_table(False))
