"""The middle lines of a region."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from segkit.transforms._objects.distances import distance_to, needed
from segkit.transforms._objects.parts import parts


def lines_of(region: np.ndarray, radius: int, spacing: Sequence[float] | None) -> np.ndarray:
    """The middle lines of a region, ``radius`` wider to each side, within it."""
    lines = _thinned(region) if region.ndim == 2 else _thinned_volume(region)
    # Peeling takes a square of 2 x 2 away altogether: what has lost its line gets its innermost pixel back.
    found, number = parts(region)
    for lost in np.flatnonzero(np.bincount(found[lines], minlength=number + 1)[1:] == 0) + 1:
        inside = np.full(region.shape, np.inf) if region.all() else distance_to(~region, spacing)
        lines.flat[np.argmax(np.where(found == lost, inside, -1))] = True
    reach = np.ones((2 * radius + 1,) * region.ndim, np.uint8)
    if region.ndim == 2:
        wide = cv2.dilate(lines.astype(np.uint8), reach) > 0
    else:
        wide = needed("scipy.ndimage").binary_dilation(lines, reach) if radius else lines
    both: np.ndarray = wide & region
    return both


def _thinned_volume(region: np.ndarray) -> np.ndarray:
    lines: np.ndarray = needed("skimage.morphology").skeletonize(region) > 0
    return lines


def _thinned(region: np.ndarray) -> np.ndarray:
    """A region peeled from all sides at once, down to lines one pixel wide that hang together as it did."""
    rest = np.pad(region, 1).astype(np.uint8)
    before = -1
    while before != (before := int(rest.sum())):
        for peel in _PEELS:
            rest[1:-1, 1:-1] &= ~peel[_neighbours(rest)] & 1
    return rest[1:-1, 1:-1].astype(bool)


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
