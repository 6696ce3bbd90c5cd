"""What hangs together in a mask: the objects, and which of them is nearest."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from segkit.transforms._objects.distances import distance_to, needed


def parts(region: np.ndarray) -> tuple[np.ndarray, int]:
    """The parts of a region [H, W] or [D, H, W], numbered from 1; neighbours by sides, edges and corners."""
    if region.ndim == 2:
        number, found = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
        return found, number - 1
    found, number = needed("scipy.ndimage").label(region, np.ones((3,) * region.ndim))
    return found, number


def objects(labels: np.ndarray, left_out: Sequence[int | None]) -> tuple[np.ndarray, list[int]]:
    """The parts of all classes but some, numbered from 1, int32; and the class of each, that of 0 first."""
    found, classes = np.zeros(labels.shape, np.int32), [0]
    for label in np.unique(labels).tolist():
        if label in left_out:
            continue
        mine, number = parts(labels == label)
        found[mine > 0] = mine[mine > 0] + (len(classes) - 1)
        classes += [label] * number
    return found, classes


def nearest(found: np.ndarray, number: int, spacing: Sequence[float] | None) -> np.ndarray:
    """The number of the nearest object at each pixel, 0 where there is none."""
    if number < 2:
        return np.full_like(found, number)
    if found.ndim > 2 or (spacing is not None and len(set(spacing)) > 1):
        place = needed("scipy.ndimage").distance_transform_edt(
            found == 0, sampling=spacing, return_distances=False, return_indices=True
        )
        closest: np.ndarray = found[tuple(place)]
        return closest
    closest, least = np.zeros_like(found), np.full(found.shape, np.inf, np.float32)
    for k in range(1, number + 1):  # of equally near ones the first
        distance = distance_to(found == k)
        closest[distance < least] = k
        np.minimum(least, distance, out=least)
    return closest


def two_nearest(found: np.ndarray, number: int, spacing: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """The distances to the nearest object and to the one after it; infinite where there is none."""
    first, second = (np.full(found.shape, np.inf, np.float32) for _ in range(2))
    for k in range(1, number + 1):
        distance = distance_to(found == k, spacing)
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    return first, second
