"""What is measured on one image. Each number means the same for any dtype, so that the set can judge it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

__all__ = ["grey_of", "measure_image"]


def measure_image(image: np.ndarray, row: Any, *, bits: int) -> None:
    """Fill the image's part of `row` (a record of `ROW`) from `image` [H, W, C]."""
    row["image_ok"] = True
    row["height"], row["width"], row["channels"] = image.shape
    row["dtype"] = str(image.dtype).encode()
    floating = image.dtype.kind == "f"
    row["levels"] = 0 if floating else min(2.0**bits - 1, float(np.iinfo(image.dtype).max)) if bits else 1
    if floating:
        finite = np.isfinite(image)
        bad = image.size - int(np.count_nonzero(finite))
        row["non_finite"] = bad
        if bad:
            image = np.where(finite, image, 0)
    first = image[:1, :1]
    row["constant"] = bool((image == first).all()) if (image[0] == first).all() else False
    grey = grey_of(image)
    _brightness(grey, row)
    row["sharp"], row["coarse_sharp"] = _sharpness(grey)


def grey_of(image: np.ndarray) -> np.ndarray:
    """The brightness of an image [H, W, C]: uint8 for uint8, else float32; [H, W]. Alpha does not count."""
    channels = image.shape[2]
    if image.dtype == bool:
        image = image.astype(np.uint8)
    if channels == 4 or channels == 2:
        image = image[..., : channels - 1]  # an alpha channel; losing a fourth band does no harm here
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        image = image.astype(np.float32)
    if image.shape[2] == 1:
        grey = image[..., 0]
    elif image.shape[2] == 3:
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    else:
        grey = image.mean(2, dtype=np.float32)
    return np.ascontiguousarray(grey) if grey.dtype == np.uint8 else grey.astype(np.float32)


def _brightness(grey: np.ndarray, row: Any) -> None:
    if grey.dtype == np.uint8:
        counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).reshape(-1).astype(np.float64)
        values = np.arange(256.0)
        share = counts / counts.sum()
        mean = float(share @ values)
        std = float(share @ (values - mean) ** 2) ** 0.5
        cumulative = share.cumsum()
        low, middle, high = (float(np.searchsorted(cumulative, q - 1e-9)) for q in (0.01, 0.5, 0.99))
        used = counts.nonzero()[0]
        top, bottom = float(share[used[-1]]), float(share[used[0]])
    else:
        # Every value of at most 2**18 pixels on a regular grid: percentiles need no more.
        step = max(1, int((grey.size / 2**18) ** 0.5))
        seen = grey[::step, ::step]
        mean, std = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
        low, middle, high = np.percentile(seen, (1, 50, 99)).tolist()
        top, bottom = float((seen == seen.max()).mean()), float((seen == seen.min()).mean())
    row["p01"], row["p50"], row["p99"], row["mean"], row["std"] = low, middle, high, mean, std
    row["clipped_high"], row["clipped_low"] = top, bottom


def _sharpness(grey: np.ndarray) -> tuple[float, float]:
    """How much detail there is at full over half size, and at half over quarter size, as log2 of the energies.

    The ratio does not depend on brightness or contrast: noise gives about +2, a natural picture about 0, and a
    blurred one goes towards -4, since half of a smooth picture is as smooth but twice as steep (Laplacian: 4 times).
    """
    energies = []
    for _ in range(3):
        if min(grey.shape) < 8:
            return 0.0, 0.0
        energies.append(_detail(grey))
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return float(np.log2(energies[0] / energies[1])), float(np.log2(energies[1] / energies[2]))


def _detail(grey: np.ndarray) -> float:
    depth = cv2.CV_16S if grey.dtype == np.uint8 else cv2.CV_32F
    second = cv2.Laplacian(grey, depth)[1:-1, 1:-1]
    energy = float(cv2.norm(second, cv2.NORM_L2)) ** 2 / second.size
    # Without the smallest number, an empty picture would divide zero by zero.
    return max(energy, 1e-12)
