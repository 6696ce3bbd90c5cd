"""JPEGs whose data stop early though the end marker stands: decoders paint the rest grey, and do not tell."""

from __future__ import annotations

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.pillow_plugins import decode
from segkit.io._headers.info import Header

WEIGHTS = np.array([299, 587, 114], np.int32)  # of RGB in lightness, in thousandths
MIDDLE = 128 * 1000  # a block without coefficients
# Codes that a scan could go on with; FF, which would begin a marker, is not among them.
MORE = bytes((37 * i + 11) % 255 for i in range(4096))


def refuse_early_end(header: Header, data: bytes, pixels: np.ndarray) -> None:
    """Raise ImageReadError if decoding `data` to `pixels` [H, W, C] ran out of data.

    What is missing comes out as blocks of middle grey, and the last block is among them. A picture may end in middle
    grey by itself, so only then it is decoded once more with further codes before its end: a decoder that has all it
    needs skips them.
    """
    if pixels.dtype != np.uint8 or not _grey(pixels[-1:, -1:]):  # the last pixel decides nearly always
        return
    height, width = pixels.shape[:2]
    if not _grey(pixels[(height - 1) // 8 * 8 :, (width - 1) // 8 * 8 :]):
        return
    if not np.array_equal(decode("JPEG", data), decode("JPEG", data[:-2] + MORE + data[-2:])):
        reason = "its data end early, though its end marker stands"
        raise ImageReadError(header.path, reason, "it was cut and then closed: get it again, or cut the good part out")


def _grey(part: np.ndarray) -> bool:
    # Colour may reach over from the block above, since it is interpolated; lightness, which is mostly green, may not.
    samples = part.reshape(-1, part.shape[2] if part.ndim == 3 else 1).astype(np.int32)
    lightness = samples @ WEIGHTS if samples.shape[1] == 3 else samples * WEIGHTS.sum()
    return bool(abs(lightness - MIDDLE).max() <= 2 * WEIGHTS.sum())
