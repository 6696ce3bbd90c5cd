"""From stored samples to what a person would see, in plain NumPy: the same for every backend."""

from __future__ import annotations

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header

# orientation -> (transpose, then flip rows, then flip columns)
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An [H, W, C] image turned as its EXIF orientation says; contiguous unless it is upright already.

    Example:
        >>> upright(np.array([[[1], [2]]]), 6)[..., 0].tolist()
        [[1], [2]]
    """
    transpose, rows, columns = TURNS[orientation]
    if transpose:
        image = image.swapaxes(0, 1)
    if rows:
        image = image[::-1]
    if columns:
        image = image[:, ::-1]
    return np.ascontiguousarray(image) if orientation != 1 else image


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """(height, width) after turning.

    Example:
        >>> upright_size(2, 3, 6)
        (3, 2)
    """
    return (width, height) if TURNS[orientation][0] else (height, width)


def window_in_stored(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """A window of the upright image, as the window of stored samples that shows the same.

    Args:
        window: (top, left, height, width) in the upright image.
        size: (height, width) of the upright image.
        orientation: EXIF orientation.

    Example:
        >>> window_in_stored((0, 0, 1, 2), (4, 6), 3)
        (3, 4, 1, 2)
    """
    top, left, height, width = window
    transpose, rows, columns = TURNS[orientation]
    if rows:
        top = size[0] - top - height
    if columns:
        left = size[1] - left - width
    return (left, top, width, height) if transpose else (top, left, height, width)


def changes_channels(header: Header) -> bool:
    """Whether displaying mixes or adds channels, so that all stored ones are needed."""
    info = header.info
    if info.photometric in ("palette", "cmyk", "ycck", "cielab", "icclab"):
        return True
    if info.photometric == "miniswhite":  # the channels beside it are not inverted
        return info.channels > 1
    return info.photometric == "ycbcr" and not decoders_give_rgb(header)


def decoders_give_rgb(header: Header) -> bool:
    """Whether YCbCr is RGB already when it leaves the decoder, as in JPEG."""
    return header.info.compression in ("jpeg", "old-jpeg", "webp", "jpeg2000", "jpeg-lossless")


def display(stored: np.ndarray, header: Header) -> np.ndarray:
    """Stored samples [H, W, C] as they are meant to be seen.

    Palettes become RGB (RGBA where the palette is transparent, grey where all its colours are), miniswhite is inverted,
    fewer than 8 bits fill 0..255, CMYK and YCbCr become RGB. All else stays as it is.

    Raises:
        ImageReadError: it is not known how these samples look.
    """
    info = header.info
    if info.photometric == "palette":
        return _expand(stored, header)
    if info.photometric in ("cmyk", "ycck"):
        return _cmyk_to_rgb(stored, header)
    if info.photometric == "ycbcr" and not decoders_give_rgb(header):
        return _ycbcr_to_rgb(stored, header)
    if info.photometric not in ("minisblack", "miniswhite", "mask", "rgb", "ycbcr"):
        reason = f"it is not known how its {info.photometric} samples look"
        raise ImageReadError(header.path, reason, 'read them as they are with samples="stored"')
    if info.photometric == "miniswhite" and stored.dtype.kind == "u":
        top = np.array((1 << info.bits_per_sample) - 1, stored.dtype)
        stored = np.concatenate([top - stored[..., :1], stored[..., 1:]], axis=2)
    if info.bits_per_sample < 8 and stored.dtype == np.uint8 and not fills_already(header):
        full = (1 << info.bits_per_sample) - 1
        table = np.rint(np.arange(256) * (255 / full)).clip(0, 255).astype(np.uint8)
        return table.take(stored)
    return stored


def fills_already(header: Header) -> bool:
    """PNG says that fewer than 8 bits are shades between black and white, and all readers spread 2 and 4 bits."""
    return header.info.format in ("PNG", "APNG") and header.info.bits_per_sample in (2, 4)


def _expand(stored: np.ndarray, header: Header) -> np.ndarray:
    palette = header.palette
    if palette is None:
        raise ImageReadError(header.path, "its palette is missing", 'read its indices with samples="stored"')
    if stored.dtype.itemsize > 2:
        raise ImageReadError(header.path, "its palette is too deep", 'read its indices with samples="stored"')
    index = stored[..., 0]
    if index.size and int(index.max()) >= len(palette):
        reason = f"a pixel names colour {int(index.max())}, but its palette has {len(palette)}"
        raise ImageReadError(header.path, reason, 'read its indices with samples="stored"')
    colors = palette.take(index, axis=0)
    if grey_levels(palette) is not None:
        colors = colors[..., :1]
    return np.concatenate([colors, stored[..., 1:]], axis=2) if stored.shape[2] > 1 else colors


def grey_levels(palette: np.ndarray | None) -> np.ndarray | None:
    """The level of each entry of a palette that holds shades of grey only and no transparency; else None.

    Example:
        >>> grey_levels(np.array([[9, 9, 9], [0, 0, 0]], np.uint8)).tolist()
        [9, 0]
    """
    if palette is None or palette.shape[1] != 3 or (palette != palette[:, :1]).any():
        return None
    return palette[:, 0]


def _cmyk_to_rgb(stored: np.ndarray, header: Header) -> np.ndarray:
    if stored.dtype.kind != "u":
        raise ImageReadError(header.path, "its CMYK samples are not unsigned integers", 'use samples="stored"')
    top = (1 << header.info.bits_per_sample) - 1
    ink = stored[..., :4].astype(np.float64)
    light = ink if header.info.format == "JPEG" and header.detail.adobe_transform is not None else top - ink
    rgb = np.rint(light[..., :3] * light[..., 3:] / top).astype(stored.dtype)
    return np.concatenate([rgb, stored[..., 4:]], axis=2)


def _ycbcr_to_rgb(stored: np.ndarray, header: Header) -> np.ndarray:
    if stored.dtype != np.uint8 or stored.shape[2] != 3:
        raise ImageReadError(header.path, "its YCbCr samples are not three of 8 bits", 'use samples="stored"')
    (black, white, *_), (_, _, b0, b1, r0, r1) = header.detail.limits, header.detail.limits
    y, cb, cr = (stored[..., i].astype(np.float64) for i in range(3))
    y, cb, cr = (y - black) * 255 / (white - black), (cb - b0) * 127 / (b1 - b0), (cr - r0) * 127 / (r1 - r0)
    red, green, blue = header.detail.luma
    r = y + (2 - 2 * red) * cr
    b = y + (2 - 2 * blue) * cb
    g = (y - red * r - blue * b) / green
    return np.rint(np.stack([r, g, b], axis=2)).clip(0, 255).astype(np.uint8)
