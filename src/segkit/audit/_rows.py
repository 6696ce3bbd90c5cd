"""The row that one pair of files leaves behind: small and of fixed size, so that memory stays flat."""

from __future__ import annotations

import numpy as np

__all__ = ["ROW"]

ROW = np.dtype(
    [
        # the image
        ("image_ok", "?"),  # decoded, so that the numbers below mean something
        ("height", "u4"),
        ("width", "u4"),
        ("channels", "u2"),
        ("dtype", "S8"),
        ("orientation", "u1"),
        ("levels", "f4"),  # largest value of the scale: 255, 65535, 4095; 0 for floats
        ("constant", "?"),
        ("non_finite", "u4"),
        ("p01", "f4"),  # percentiles of the grey values, stored units
        ("p50", "f4"),
        ("p99", "f4"),
        ("mean", "f4"),
        ("std", "f4"),
        ("clipped_high", "f4"),  # share of the pixels that have the largest value of the scale, or of the image
        ("clipped_low", "f4"),
        ("sharp", "f4"),  # log2 of the detail at full size over that at half size
        ("coarse_sharp", "f4"),  # the same from half to quarter size
        # the mask
        ("mask_ok", "?"),
        ("ignored", "f4"),  # share of the pixels
        ("classes", "u2"),  # how many labels are not the ignored one
    ]
)
