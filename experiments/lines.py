"""How good are thin lines: overlap, centre lines, and pieces and holes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

PATCH = 64  # pieces and holes are counted in patches, so that an error in one does not cancel another's
_EIGHT = np.ones((3, 3), int)


def measures(guess: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of bool images [N, H, W]: IoU, clDice (Shit et al. 2021), and the mean Betti errors of a patch of 64 x 64."""
    hit, either = (guess & truth).sum(), (guess | truth).sum()
    centre = [np.stack([skeletonize(image) for image in images]) for images in (guess, truth)]
    precision = (centre[0] & truth).sum() / max(1, centre[0].sum())
    sensitivity = (centre[1] & guess).sum() / max(1, centre[1].sum())
    wrong = [abs(np.subtract(betti(a), betti(b))) for a, b in zip(patches(guess), patches(truth), strict=True)]
    pieces, holes = np.mean(wrong, axis=0)
    return {
        "IoU": float(hit / max(1, either)),
        "clDice": float(2 * precision * sensitivity / max(1e-9, precision + sensitivity)),
        "pieces wrong": float(pieces),
        "holes wrong": float(holes),
    }


def patches(images: np.ndarray) -> list[np.ndarray]:
    """Cut into squares of `PATCH`."""
    _, height, width = images.shape
    return [
        image[y : y + PATCH, x : x + PATCH]
        for image in images
        for y in range(0, height, PATCH)
        for x in range(0, width, PATCH)
    ]


def betti(image: np.ndarray) -> tuple[int, int]:
    """Pieces (joined at corners too), and holes: pieces of the background, the outside being one of them."""
    outside = np.pad(~image, 1, constant_values=True)
    return int(ndimage.label(image, _EIGHT)[1]), int(ndimage.label(outside)[1]) - 1
