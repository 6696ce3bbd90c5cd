"""Reading: the header decides, a backend decodes, and what comes back is checked against what the header promised."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.request import Backend, Request, backends, describe
from segkit.io._display import changes_channels, display, upright, upright_size, window_in_stored
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.parse import parse
from segkit.io._source import Source

__all__ = ["explain_backends", "image_info", "read_header", "read_image", "read_mask"]

Window = tuple[int, int, int, int]


def read_image(
    path: str | os.PathLike[str],
    *,
    window: Window | None = None,
    channels: Sequence[int] | None = None,
    page: int = 0,
    level: int = 0,
    samples: Literal["display", "stored"] = "display",
    backend: str = "auto",
    orientation: Literal["apply", "ignore"] | None = None,
    max_pixels: int = 2**29,
) -> np.ndarray:
    """The pixels of an image file, [H, W, C], in their stored dtype.

    What is in the file is what comes back, or an error: never fewer channels, fewer bits, other colours or another
    orientation in silence. Every backend gives the same array or refuses.

    Args:
        path: a file, or an fsspec address such as ``s3://bucket/scan.tif``.
        window: (top, left, height, width) of the part to read. A TIFF decodes only the blocks it touches.
        channels: which channels, in this order; all by default.
        page: page of a multi-page TIFF, counted from 0.
        level: resolution of a pyramid, 0 is the full one.
        samples: "display" is what a person would see: palettes become RGB(A), miniswhite is inverted, CMYK and YCbCr
            become RGB, 1, 2 and 4 bits fill 0..255. "stored" is the very samples of the file: indices, 1-bit as 0/1.
        backend: "auto", "opencv", "pillow", "tifffile", or the name of one that you registered.
        orientation: whether to turn the image as EXIF says. None: "apply" for display, "ignore" for stored samples.
        max_pixels: more pixels than this are refused before anything is allocated.

    Returns:
        Array [H, W, C], always with its channel axis: RGB order, native byte order, the file's dtype.

    Raises:
        ImageReadError: damaged, unsupported, too large, or beyond the chosen backend; with the reason and what to do.
        ValueError: an argument does not fit the image.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("bands.tif", np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
        >>> read_image("bands.tif").shape
        (2, 3, 4)
        >>> read_image("bands.tif", window=(1, 1, 1, 2), channels=[3]).tolist()
        [[[19], [23]]]
    """
    with Source(path) as source:
        header = parse(source, page, level)
        return read_header(
            header,
            window=window,
            channels=channels,
            samples=samples,
            backend=backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )


def read_header(
    header: Header,
    *,
    window: Window | None,
    channels: Sequence[int] | None,
    samples: str,
    backend: str,
    orientation: str | None,
    max_pixels: int,
) -> np.ndarray:
    """`read_image` for a file that is open and whose header is known."""
    info = header.info
    if samples not in ("display", "stored"):
        raise ValueError(f"read_image: samples must be 'display' or 'stored', got {samples!r}. Choose one of them.")
    if orientation not in ("apply", "ignore", None):
        raise ValueError(
            f"read_image: orientation must be 'apply', 'ignore' or None, got {orientation!r}. Choose one of them."
        )
    if orientation is None:
        orientation = "apply" if samples == "display" else "ignore"
    turn = info.orientation if orientation == "apply" else 1
    size = upright_size(info.height, info.width, turn)
    shown = window_in_stored(_window(window, size), size, turn)
    if info.format in ("TIFF", "BigTIFF") and window is not None:
        _limit(header, shown[2] * shown[3], max_pixels)
        _limit(header, math.prod(header.detail.tile), max(max_pixels, 2**29))  # a block is decoded whole
    else:
        _limit(header, info.height * info.width, max_pixels)
    reader = choose(header, backend)
    try:
        pixels = _pixels(header, reader, shown, channels, samples)
        return upright(pixels, turn)
    except MemoryError as error:
        reason = "it does not fit into memory"
        raise ImageReadError(header.path, reason, "read a window of it, or use a machine with more memory") from error


def _pixels(
    header: Header, reader: Backend, window: Window, channels: Sequence[int] | None, samples: str
) -> np.ndarray:
    count = header.info.channels
    mixes = samples == "display" and changes_channels(header)
    wanted = tuple(range(count)) if mixes or channels is None else _channels(channels, count)
    stored = _decode(header, Request(window, wanted), reader)
    if samples == "display":
        stored = display(stored, header)
        if mixes and channels is not None:
            stored = stored[..., list(_channels(channels, stored.shape[2]))]
    return stored


def _decode(header: Header, request: Request, reader: Backend) -> np.ndarray:
    try:
        stored = reader.read(header, request)
    except (ImageReadError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        if "emory" in text:  # OpenCV's and the codecs' own way of saying it
            raise MemoryError(text) from error
        reason = f"{reader.name} cannot decode it: {type(error).__name__}: {text}"
        raise ImageReadError(header.path, reason, "the file is damaged: copy or export it again") from error
    if stored.shape != request.shape or stored.dtype != header.info.dtype:
        reason = (
            f"{reader.name} gave {stored.shape} {stored.dtype}, but the header promises {request.shape} "
            f"{header.info.dtype}"
        )
        raise ImageReadError(header.path, reason, "try another backend")
    stored = np.ascontiguousarray(stored)
    return stored if stored.flags.writeable else stored.copy()  # a user may draw on it, and torch wants it so


def choose(header: Header, backend: str) -> Backend:
    """The backend that reads this page: the named one, or for "auto" the first whose rules allow it."""
    known = backends(header)
    if backend == "auto":
        reasons = []
        for reader in known:
            reason = reader.refuses(header)
            if not reason:
                return reader
            reasons.append(f"{reader.name}: {reason}")
        raise ImageReadError(
            header.path, "no backend gives its samples unchanged: " + "; ".join(reasons), "convert it to PNG or TIFF"
        )
    for reader in known:
        if reader.name == backend:
            reason = reader.refuses(header)
            if reason:
                able = [other.name for other in known if not other.refuses(header)]
                hint = f"use backend={describe(able)}" if able else "convert it to PNG or TIFF"
                raise ImageReadError(header.path, reason, hint)
            return reader
    names = ["auto", *(reader.name for reader in known)]
    raise ValueError(f"read_image: backend must be {describe(names)}, got {backend!r}. Choose one of them.")


def read_mask(
    path: str | os.PathLike[str],
    *,
    colors: Mapping[tuple[int, int, int], int] | None = None,
    window: Window | None = None,
    page: int = 0,
    backend: str = "auto",
    orientation: Literal["apply", "ignore"] = "apply",
    max_pixels: int = 2**29,
) -> np.ndarray:
    """The class of each pixel, [H, W], as integers.

    Stored samples are read: a palette gives its indices, a 1-bit image 0 and 1. Nothing is scaled or inverted.

    Args:
        path: a file, or an fsspec address.
        colors: for masks that are coloured pictures: {(r, g, b): index}. With it, colours decide, also in a palette.
        window: (top, left, height, width) of the part to read.
        page: page of a multi-page TIFF, counted from 0.
        backend: as in `read_image`.
        orientation: "apply" turns the mask as EXIF says, as the image it belongs to is turned.
        max_pixels: more pixels than this are refused.

    Returns:
        Array [H, W], integer: the file's dtype; with `colors` the smallest unsigned dtype for the indices.

    Raises:
        ImageReadError: it has several channels and no `colors` were given, a colour is not listed, or it is damaged.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_mask
        >>> write_mask("mask.png", np.array([[0, 1], [2, 255]], np.uint8))
        >>> read_mask("mask.png").tolist()
        [[0, 1], [2, 255]]
    """
    with Source(path) as source:
        header = parse(source, page)
        stored = read_header(
            header,
            window=window,
            channels=None,
            samples="stored" if colors is None else "display",
            backend=backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )
    if stored.dtype.kind not in "ui":
        reason = f"its samples are {stored.dtype}, but a mask holds integers"
        raise ImageReadError(header.path, reason, "convert it to integer classes first")
    stored = _without_opaque_alpha(stored, header)
    if colors is not None:
        return _index_of_colors(stored, colors, header.path)
    if stored.shape[2] != 1:
        reason = f"it has {stored.shape[2]} channels ({header.info.photometric}), but a mask has one class per pixel"
        hint = "if its colours stand for classes, pass colors={(r, g, b): index, ...}"
        raise ImageReadError(header.path, reason, hint)
    return stored[..., 0]


def _without_opaque_alpha(stored: np.ndarray, header: Header) -> np.ndarray:
    if stored.shape[2] in (2, 4) and header.info.photometric in ("minisblack", "rgb", "palette"):
        last = stored[..., -1]
        if stored.dtype.kind == "u" and bool((last == np.iinfo(stored.dtype).max).all()):
            return stored[..., :-1]
    return stored


def _index_of_colors(rgb: np.ndarray, colors: Mapping[tuple[int, int, int], int], path: str) -> np.ndarray:
    if rgb.dtype != np.uint8 or rgb.shape[2] != 3:
        reason = f"colors were given, but it has {rgb.shape[2]} channels of {rgb.dtype} instead of 3 of uint8"
        hint = "leave colors out if its samples are classes already; write it without transparency"
        raise ImageReadError(path, reason, hint)
    for color, index in colors.items():
        if len(color) != 3 or not all(0 <= int(v) <= 255 for v in color) or not 0 <= int(index) <= 65535:
            raise ValueError(
                "read_mask: colors must be {(r, g, b): index} with 0..255 and indices 0..65535, got "
                f"{color!r}: {index!r}. Correct this entry."
            )
    known = sorted((int(r) << 16 | int(g) << 8 | int(b), int(index)) for (r, g, b), index in colors.items())
    keys = np.array([key for key, _ in known], np.uint32)
    dtype = np.uint8 if max(index for _, index in known) <= 255 else np.uint16
    values = np.array([index for _, index in known], dtype)
    packed = rgb[..., 0].astype(np.uint32) << 16 | rgb[..., 1].astype(np.uint32) << 8 | rgb[..., 2]
    place = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
    unknown = keys[place] != packed
    if unknown.any():
        row, column = (int(v[0]) for v in np.nonzero(unknown))
        reason = (
            f"the colour {tuple(int(v) for v in rgb[row, column])} at row {row}, column {column} is not among `colors` "
            f"({int(unknown.sum())} such pixels)"
        )
        raise ImageReadError(path, reason, "add the colour; many of them mean that the mask was blurred or resized")
    return values[place]


def image_info(path: str | os.PathLike[str]) -> ImageInfo:
    """What the header of an image file says, without decoding a pixel.

    Args:
        path: a file, or an fsspec address.

    Returns:
        The facts about the first page, with the number of pages and of resolution levels.

    Raises:
        ImageReadError: no known format, or the header is damaged.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("bands.tif", np.zeros((2, 3, 13), np.uint16))
        >>> info = image_info("bands.tif")
        >>> info.format, info.height, info.width, info.channels, info.bits_per_sample
        ('TIFF', 2, 3, 13, 16)
    """
    with Source(path) as source:
        return parse(source, survey=True).info


def explain_backends(path: str | os.PathLike[str]) -> list[tuple[str, bool, str]]:
    """Which backends give the stored samples of a file, and what would be wrong with the others.

    Args:
        path: a file, or an fsspec address.

    Returns:
        (backend, verdict, reason) for each: the verdict is True if it reads the file exactly, else the reason says
        why it would not. The first True is what ``backend="auto"`` takes.

    Raises:
        ImageReadError: no known format, or the header is damaged.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("deep.png", np.zeros((2, 3, 3), np.uint16))
        >>> dict((name, reason) for name, verdict, reason in explain_backends("deep.png") if not verdict)["pillow"]
        'Pillow cuts 16-bit colour to 8 bits'
    """
    with Source(path) as source:
        header = parse(source)
        return [(reader.name, not (reason := reader.refuses(header)), reason) for reader in backends(header)]


def _window(window: Window | None, size: tuple[int, int]) -> Window:
    if window is None:
        return 0, 0, *size
    if len(window) != 4:
        raise ValueError(f"read_image: window must be (top, left, height, width), got {window!r}. Give four numbers.")
    top, left, height, width = (int(v) for v in window)
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"read_image: window must be (top, left, height, width) inside {size[0]} x {size[1]}, got {tuple(window)}. "
            "Clip it to the image first."
        )
    return top, left, height, width


def _channels(channels: Sequence[int], count: int) -> tuple[int, ...]:
    wanted = tuple(int(c) for c in channels)
    if not wanted or not all(0 <= c < count for c in wanted):
        raise ValueError(f"read_image: channels must be among 0..{count - 1}, got {wanted}. Count from 0.")
    return wanted


def _limit(header: Header, pixels: int, most: int) -> None:
    if pixels > most:
        reason = f"it has {pixels} pixels, more than max_pixels={most}"
        raise ImageReadError(header.path, reason, "read a window of it, or raise max_pixels if you trust the file")
