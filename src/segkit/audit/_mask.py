"""What is measured on one mask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

__all__ = ["count_labels", "measure_mask"]


def measure_mask(mask: np.ndarray, row: Any, *, ignore_index: int | None) -> dict[int, int]:
    """Fill the mask's part of `row` from `mask` [H, W]; pixels of each label, the ignored one left out."""
    row["mask_ok"] = True
    counts = count_labels(mask)
    ignored = 0 if ignore_index is None else counts.pop(ignore_index, 0)
    row["ignored"] = ignored / mask.size
    row["classes"] = min(len(counts), 65535)
    return counts


def count_labels(mask: np.ndarray) -> dict[int, int]:
    """Label -> pixels, in increasing order of label."""
    if mask.dtype == np.uint8 and mask.size <= 1 << 24:  # float32 counts are exact up to here
        counts = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256]).reshape(-1)
        present = counts.nonzero()[0]
        return dict(zip(present.tolist(), counts[present].astype(int).tolist(), strict=True))
    labels, pixels = np.unique(mask, return_counts=True)
    return dict(zip(labels.tolist(), pixels.tolist(), strict=True))
