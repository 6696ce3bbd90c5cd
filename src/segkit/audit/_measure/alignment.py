"""How well a mask lies on its image, and where it would lie better."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from segkit.audit._measure.mask import as_bytes

_SMALL = 400  # edge of the pictures that are laid over each other


def measure_alignment(grey: np.ndarray, mask: np.ndarray, row: Any, *, ignore_index: int | None) -> None:
    """Where the mask's boundaries lie best on the image's edges, by correlation over all shifts.

    Both are shrunk to at most 400 pixels; the borders of ignored pixels are no boundaries.
    """
    if min(mask.shape) < 32 or row["classes"] < 2:
        return
    # By a whole factor, which is three times as fast as by any other; what is left over at two borders is not seen.
    step = -(-max(mask.shape) // _SMALL)
    size = (max(8, mask.shape[1] // step), max(8, mask.shape[0] // step))
    height, width = size[1] * step, size[0] * step
    mask, grey = mask[:height, :width], grey[:height, :width]
    height, width = mask.shape
    boundary = np.zeros((height, width), np.uint8)
    m = as_bytes(mask)
    boundary[:, 1:] = cv2.compare(m[:, 1:], m[:, :-1], cv2.CMP_NE)
    boundary[1:] = cv2.bitwise_or(boundary[1:], cv2.compare(m[1:], m[:-1], cv2.CMP_NE))
    if ignore_index is not None and row["ignored"] > 0:
        boundary[cv2.dilate((mask == ignore_index).view(np.uint8), np.ones((3, 3), np.uint8)) > 0] = 0
    lines: Any = cv2.resize(boundary, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 1)
    slopes: Any = cv2.magnitude(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    usual, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(slopes))
    steep: Any = np.minimum(slopes, np.float32(usual + 3 * deviation + 1e-6))  # no single bright edge decides
    # Wide waves of brightness say nothing about where a boundary is.
    steep = cv2.subtract(steep, cv2.blur(steep, (17, 17)))
    lines = cv2.subtract(lines, cv2.blur(lines, (17, 17)))
    # Zeros for the largest shift, and on to a size with small factors: a prime one takes thirty times as long.
    down, right = (cv2.getOptimalDFTSize(edge + _reach(edge)) - edge for edge in (size[1], size[0]))
    padded = [cv2.copyMakeBorder(x, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0) for x in (steep, lines)]
    spectra = [cv2.dft(x) for x in padded]
    product = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
    match = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    ry, rx = _reach(size[1]), _reach(size[0])
    window = np.roll(match, (ry, rx), (0, 1))[: 2 * ry + 1, : 2 * rx + 1]  # shifts -r to r
    # Of what most shifts give: along a straight boundary many fit, and their own spread would hide them.
    spread = 1.4826 * float(np.median(np.abs(window - np.median(window))))
    if spread <= 0:
        return
    y, x = np.unravel_index(int(window.argmax()), window.shape)
    row["shift_y"], row["shift_x"] = (y - ry) * step, (x - rx) * step
    near = int(step == 1)  # a boundary may be drawn one pixel beside the edge
    # The last digits of OpenCV's float32 depend on where its buffers lie; equal files get equal numbers.
    here = float(window[ry - near : ry + near + 1, rx - near : rx + near + 1].max())
    row["fit_here"], row["fit_best"] = round(here / spread, 3), round(float(window[y, x]) / spread, 3)


def _reach(edge: int) -> int:
    """The largest shift that is looked for: a fifth of the picture."""
    return max(4, edge // 5)
