"""Masks: the stored samples of one channel, or colours looked up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.request import Backend
from segkit.io._headers.info import Header
from segkit.io._headers.parse import parse
from segkit.io._headers.source import Source
from segkit.io._read import Window, naming, read_header


@naming("read_mask")
def read_mask(
    path: str | os.PathLike[str],
    *,
    colors: Mapping[tuple[int, int, int], int] | None = None,
    window: Window | None = None,
    page: int = 0,
    backend: str | Backend = "auto",
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
        header = parse(source, page, backend=backend)
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
                "colors must be {(r, g, b): index} with 0..255 and indices 0..65535, got "
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
