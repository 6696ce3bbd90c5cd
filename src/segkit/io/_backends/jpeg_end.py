"""JPEGs whose data stop early though the end marker is there: decoders paint the rest grey, and do not tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segkit.errors import ImageReadError

WEIGHTS = np.array([299, 587, 114], np.int32)  # of RGB in lightness, in thousandths
MIDDLE = 128 * 1000  # a block without coefficients
MIDDLES = [1 << bits - 1 for bits in range(9, 17)]  # of more than 8 bits
# Codes that a scan could go on with; FF, which would begin a marker, is not among them. Bits that are set refine every
# coefficient that a progressive scan still asks about.
MORE = b"\xfe" * 64 + bytes((37 * i + 11) % 255 for i in range(4096))


def refuse_early_end(
    path: str,
    data: bytes,
    pixels: np.ndarray,
    decode: Callable[[bytes], np.ndarray],
    *,
    several: bool,
    what: str = "its",
    block: int = 8,
) -> None:
    """Raise ImageReadError if decoding `data` to `pixels` [H, W, C] ran out of data.

    What a single scan lacks comes out as blocks of middle grey, and the last block is among them. An image may end in
    middle grey by itself, so only then it is decoded once more with further codes before its end: a decoder that has
    all it needs skips them. What the last of several scans lacks (bits of coefficients, one of the colours) shows
    nowhere in an image, so they are always decoded twice.

    Args:
        path: for the message.
        data: a whole JPEG.
        pixels: what came of it.
        decode: what makes pixels of data, in silence.
        several: whether it has several scans, `has_several_scans`.
        what: whose data they are, for the message.
        block: size of what is missing at the least: 8 where blocks are coded, 1 for lossless JPEG.
    """
    if not several:
        if not _grey(pixels[-1:, -1:]):  # the last pixel decides nearly always
            return
        height, width = pixels.shape[:2]
        if not _grey(pixels[(height - 1) // block * block :, (width - 1) // block * block :]):
            return
    more = decode(data[:-2] + MORE + data[-2:])
    if not np.array_equal(more, pixels) and not np.array_equal(more, decode(data)):  # another decoder rounds otherwise
        reason = f"{what} data end early, though the end marker is there"
        raise ImageReadError(path, reason, "it was cut and then closed: get it again, or cut the good part out")


def _grey(part: np.ndarray) -> bool:
    if part.dtype != np.uint8:
        return bool((part == part.flat[0]).all()) and int(part.flat[0]) in MIDDLES
    # Colour may reach over from the block above, since it is interpolated; lightness, which is mostly green, may not.
    samples = part.reshape(-1, part.shape[2] if part.ndim == 3 else 1).astype(np.int32)
    lightness = samples @ WEIGHTS if samples.shape[1] == 3 else samples * WEIGHTS.sum()
    return bool(abs(lightness - MIDDLE).max() <= 2 * WEIGHTS.sum())
