"""Index masks as NumPy arrays: what is one, and which dtype holds its values."""

from __future__ import annotations

import numpy as np


def smallest_dtype(values: np.ndarray) -> type[np.generic]:
    """The smallest of uint8, uint16, int32 and int64 that holds all values."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low >= 0 and high < 2**16:
        return np.uint8 if high < 2**8 else np.uint16
    return np.int32 if low >= -(2**31) and high < 2**31 else np.int64


def check_mask(function: str, mask: np.ndarray, axes: int | None = 2) -> None:
    """Raise unless `mask` is an array of integers with so many axes."""
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "iub":
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(f"{function}: `mask` must be a NumPy array of an integer dtype, got {kind}.")
    if axes is not None and mask.ndim != axes:
        raise ValueError(f"{function}: `mask` must be [H, W], got {list(mask.shape)}. Drop other axes of length 1.")
