"""The landmarks of a picture, by which near duplicates are looked for: a few spots that stand out, and the whole."""

from __future__ import annotations

import cv2
import numpy as np

SPOTS = 10
LANDMARK = np.dtype([("place", "u1", (SPOTS, 2)), ("spots", "i1", (SPOTS, 8, 8)), ("whole", "i1", (16, 16))])


def landmarks_of(thumb: np.ndarray) -> np.void:
    """The landmarks of a thumb, uint8 [THUMB, THUMB], as a record of `LANDMARK`. Missing ones are zero."""
    record = np.zeros(1, LANDMARK)[0]
    picture = thumb.astype(np.float32)
    fine = cv2.GaussianBlur(picture, (0, 0), 1.5)
    stand_out = np.abs(cv2.GaussianBlur(picture, (0, 0), 2.5) - cv2.GaussianBlur(picture, (0, 0), 5))
    margin, radius = 12, 12
    inner = stand_out[margin:-margin, margin:-margin]
    peak = (inner == cv2.dilate(inner, np.ones((7, 7), np.uint8))) & (inner > 1)
    y, x = peak.nonzero()
    order = np.argsort(-inner[y, x], kind="stable")[:SPOTS]
    for place, (row, column) in enumerate(zip(y[order] + margin, x[order] + margin, strict=True)):
        patch = fine[row - radius : row + radius, column - radius : column + radius]
        record["place"][place] = row, column
        record["spots"][place] = _normal(cv2.resize(patch, (8, 8), interpolation=cv2.INTER_AREA))
    small = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA)
    record["whole"] = _normal(small - cv2.GaussianBlur(small, (0, 0), 3))
    return record


def _normal(patch: np.ndarray) -> np.ndarray:
    """Without brightness and contrast, as int8; zero where there is no contrast."""
    patch = patch - patch.mean()
    size = float(np.sqrt((patch * patch).mean()))
    return (
        np.zeros(patch.shape, np.int8) if size < 0.5 else (patch * (40 / size)).clip(-127, 127).round().astype(np.int8)
    )
