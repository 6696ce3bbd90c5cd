"""Blur as the spectrum shows it, whatever the picture: how softened it is, and whether it was moved while exposed.

The detail of a sharp picture falls off like a power of the frequency. A blur multiplies this by its own curve, which
no picture has by itself: a bell where the lens was out of focus, and regular gaps where the camera moved.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

SIDE = 256  # of the part that is looked at
_LEAST = 64
_BINS = 128  # rings of the spectrum for one whole wave a pixel
_FIRST, _LAST = 3, _BINS // 2  # below is the picture's content, above are only corners
_FALL = 2.4  # power of the frequency by which natural pictures lose energy (Field 1987: 2 to 3)
_LAGS = 5, 50  # pixels that a motion may have; shorter ones are what neighbours have in common
_OTHERS = 40  # the deepest dip is compared with the one of this rank
_FLOOR = 1e-3  # of the deviation: below, detail of anything but bytes counts as noise


def spectrum(grey: np.ndarray, row: Any) -> None:
    """Fill `softness`, `trail` and where it leads in `row` from a part of the picture, [H, W], of at most `SIDE`.

    `softness` is the variance, in pixels squared, of the bell by which a sharp picture would have to be blurred to
    look like this; below zero for what is sharper than pictures are. `trail` is the depth of the deepest dip of the
    cepstrum over that of other dips: about 2 for anything, and above 4 where everything has an inverted ghost at one
    distance. NaN where there is too little to see.
    """
    row["softness"] = row["trail"] = np.nan
    side = min(SIDE, *grey.shape) // 16 * 16
    if side < _LEAST:
        return
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    part = grey[top : top + side, left : left + side].astype(np.float32)
    window, rings, ring_sizes, lags = _tables(side)
    deviation = float(part.std())
    if deviation <= 0:
        return
    # Rounding to whole levels is white noise of 1/12.
    unit = 1.0 if grey.dtype == np.uint8 else _FLOOR * deviation
    floor = float((window * window).sum()) * unit * unit / 12
    waves = np.fft.rfft2((part - part.mean()) * window)
    power = (waves.real**2 + waves.imag**2).astype(np.float32)  # half of it: the other half is the same
    heights: Any = cv2.log(power + np.float32(floor / 4))
    ring_sums = np.bincount(rings.reshape(-1), heights.reshape(-1), minlength=len(ring_sizes))
    row["softness"] = _softness(ring_sums / np.maximum(ring_sizes, 1) - np.log(floor))

    echoes = np.fft.irfft2(cv2.log(power + np.float32(floor)), s=(side, side))
    dips = -echoes[lags]
    deepest = int(dips.argmax())
    row["trail"] = dips[deepest] / max(float(np.partition(dips, -_OTHERS)[-_OTHERS]), 1e-4)
    y, x = int(lags[0][deepest]), int(lags[1][deepest])
    row["trail_length"] = np.hypot(y - side if y > side // 2 else y, x)


def _softness(profile: np.ndarray) -> float:
    """The s of log power = a - 2.4 log f - 4 pi^2 s f^2, from the lowest ring to where only noise is left."""
    noise = (profile[_FIRST:_LAST] <= 0.6).nonzero()[0]
    end = _FIRST + int(noise[0]) if noise.size else _LAST
    if end - _FIRST < 4:
        # Nothing but the widest waves: blurred beyond measure if there is plenty of those, else empty.
        return 99.0 if profile[_FIRST] > 3 else float("nan")
    frequency = np.arange(_FIRST, end) / _BINS
    square = frequency**2 - (frequency**2).mean()
    height = profile[_FIRST:end] + _FALL * np.log(frequency)
    return float(-(square @ height) / (square @ square) / (4 * np.pi**2))


@lru_cache(maxsize=8)
def _tables(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """For one size: the window, the ring of each frequency of half a spectrum, their sizes, and the lags looked at."""
    edge = np.hanning(side).astype(np.float32)
    frequency = np.fft.fftfreq(side)
    rings = (np.hypot(frequency[:, None], frequency[None, : side // 2 + 1]) * _BINS).round().astype(np.int64)
    steps = (np.fft.fftfreq(side) * side).round()
    down, right = np.meshgrid(steps, steps, indexing="ij")
    distance = np.hypot(down, right)
    # Half of the plane: a ghost leads both ways.
    seen = (
        (distance >= _LAGS[0]) & (distance <= min(_LAGS[1], side // 2 - 2)) & ((right > 0) | (right == 0) & (down > 0))
    )
    return np.outer(edge, edge), rings, np.bincount(rings.reshape(-1)), seen.nonzero()
