"""Masks: the stored samples of one channel, or colours looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.request import Backend
from segkit.io._display import fills_already, grey_levels
from segkit.io._headers.info import Header
from segkit.io._headers.parse import parse
from segkit.io._headers.source import File, Source
from segkit.io._read import Window, naming, read_header, warn_of_others


@naming("read_mask")
def read_mask(
    path: File,
    *,
    colors: Mapping[tuple[int, int, int], int] | None = None,
    values: Literal["index", "grey"] | None = None,
    unknown: Literal["error"] | int = "error",
    window: Window | None = None,
    page: int | None = None,
    backend: str | Backend = "auto",
    orientation: Literal["apply", "ignore"] = "apply",
    max_pixels: int = 2**29,
) -> np.ndarray:
    """The class of each pixel, [H, W], as integers.

    Where an image can be read in two ways, labelling tools decide: a coloured palette gives its indices, a palette of
    greys the grey levels, one bit 0 and 1 with 1 for what is shown white. Three equal channels are one, and an alpha
    channel that hides nothing but black is left out. Float samples that are whole numbers become integers.

    Args:
        path: as in `read_image`.
        colors: for masks that are coloured pictures: {(r, g, b): index}. With it, colours decide, also in a palette.
        values: "index" gives the stored samples: indices of any palette, bits as they are, the red channel where the
            others are 0. "grey" gives the grey levels that are shown: one bit is 0 and 255. None is the rule above.
        unknown: class of pixels whose colour is not listed, or whose float sample is NaN; "error" refuses them.
        window: (top, left, height, width) of the part to read.
        page: page of a multi-page TIFF, counted from 0. By default the first, with a warning if there are others.
        backend: as in `read_image`.
        orientation: "apply" turns the mask as EXIF says, as the image it belongs to is turned.
        max_pixels: more pixels than this are refused.

    Returns:
        Array [H, W], integer: the file's dtype; from floats, and with `colors`, the smallest dtype for the values.

    Raises:
        ImageReadError: it has several channels and no `colors` were given, a colour is not listed, or it is damaged.
        ValueError: an argument does not fit.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_mask
        >>> write_mask("mask.png", np.array([[0, 1], [2, 255]], np.uint8))
        >>> read_mask("mask.png").tolist()
        [[0, 1], [2, 255]]
    """
    with Source(path) as source:
        return mask_of(
            parse(source, page, backend=backend),
            colors=colors,
            values=values,
            unknown=unknown,
            window=window,
            backend=backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )


def mask_of(
    header: Header,
    *,
    colors: Mapping[tuple[int, int, int], int] | None,
    values: str | None,
    unknown: str | int,
    **options: Any,
) -> np.ndarray:
    """`read_mask` for a file that is open and whose header is known."""
    if values not in (None, "index", "grey"):
        raise ValueError(f"values must be 'index', 'grey' or None, got {values!r}. Choose one of them.")
    if unknown != "error" and (isinstance(unknown, (bool, str)) or not 0 <= int(unknown) <= 65535):
        raise ValueError(f"unknown must be 'error' or a class of 0..65535, got {unknown!r}. 255 is ignored by default.")
    warn_of_others(header)
    shown = colors is not None or (values == "grey" and header.info.photometric != "palette")
    stored = read_header(header, channels=None, samples="display" if shown else "stored", **options)
    stored = _without_alpha(stored, header, shown)
    if colors is not None:
        return _index_of_colors(stored, colors, unknown, header.path)
    mask = _one_channel(stored, header, values)
    if mask.dtype.kind == "f":
        return _whole_numbers(mask, unknown, header.path)
    if mask.dtype.kind not in "ui":
        reason = f"its samples are {mask.dtype}, but a mask holds integers"
        raise ImageReadError(header.path, reason, "convert it to integer classes first")
    return mask if shown else _meant(mask, header, values)


def _without_alpha(samples: np.ndarray, header: Header, shown: bool) -> np.ndarray:
    """The samples without an alpha channel that is opaque, or transparent only where everything is 0 anyway."""
    kinds = ("minisblack", "rgb", "palette")
    if samples.shape[2] not in (2, 4) or header.info.photometric not in kinds or samples.dtype.kind != "u":
        return samples
    alpha, rest = samples[..., -1], samples[..., :-1]
    opaque = alpha == np.iinfo(samples.dtype).max
    hides = ~opaque & ((alpha != 0) | rest.any(axis=2))
    return samples if hides.any() else rest


def _one_channel(samples: np.ndarray, header: Header, values: str | None) -> np.ndarray:
    if samples.shape[2] == 1:
        return samples[..., 0]
    if samples.shape[2] == 3 and header.info.photometric == "rgb":
        if np.array_equal(samples[..., 0], samples[..., 1]) and np.array_equal(samples[..., 0], samples[..., 2]):
            return np.ascontiguousarray(samples[..., 0])
        if values == "index" and not samples[..., 1:].any():
            return np.ascontiguousarray(samples[..., 0])
    reason = f"it has {samples.shape[2]} channels ({header.info.photometric}), but a mask has one class per pixel"
    hint = "if its colours stand for classes, pass colors={(r, g, b): index, ...}"
    if samples.shape[2] == 3 and not samples[..., 1:].any():
        hint += ', if its red channel holds the classes, values="index"'
    raise ImageReadError(header.path, reason, hint)


def _meant(mask: np.ndarray, header: Header, values: str | None) -> np.ndarray:
    """Stored samples of one channel as the classes that they stand for."""
    info = header.info
    if info.photometric != "palette":
        if values == "index":
            # A PNG's shades of 2 and 4 bits come spread over 0..255.
            spread = 255 // ((1 << info.bits_per_sample) - 1) if fills_already(header) else 1
            return mask // spread if spread > 1 else mask
        return 1 - mask if info.photometric == "miniswhite" and info.bits_per_sample == 1 else mask
    levels = grey_levels(header.palette)
    if values == "index":
        return mask
    if levels is None:
        if values is None:
            return mask
        raise ImageReadError(header.path, "its palette is coloured", 'take its indices: values="index"')
    # The last colour, repeated, fills up many a table. Other indices that look alike differ on purpose.
    filling = int((np.append(levels[::-1] == levels[-1], False)).argmin())
    used = levels[: len(levels) - filling]
    if values is None and (len(np.unique(used)) < len(used) or len(used) < int(mask.max(initial=0))):
        return mask
    if int(mask.max(initial=0)) >= len(levels):
        reason = f"a pixel names colour {int(mask.max())}, but its palette has {len(levels)}"
        raise ImageReadError(header.path, reason, 'read its indices with values="index"')
    if values is None and info.bits_per_sample == 1:
        levels = (levels == levels.max()).astype(np.uint8)  # one bit is 0 and 1, white is 1
    return levels.take(mask)


def _whole_numbers(mask: np.ndarray, unknown: str | int, path: str) -> np.ndarray:
    """Float samples as integers of the smallest dtype that holds them."""
    mask = mask.astype(np.float64, copy=False)
    if unknown != "error":
        mask = np.where(np.isnan(mask), unknown, mask)
    whole = (mask == np.rint(mask)) & (abs(mask) < 2**53)
    if not whole.all():
        row, column = (int(v[0]) for v in np.nonzero(~whole))
        reason = f"its samples are floats, and {mask[row, column]:g} at row {row}, column {column} is not a class"
        hint = "a mask holds whole numbers: convert it to integer classes first"
        raise ImageReadError(path, reason, f"{hint}; unknown=255 ignores NaN" if np.isnan(mask).any() else hint)
    low, high = int(mask.min(initial=0)), int(mask.max(initial=0))
    kinds = ("uint8", "uint16", "int8", "int16", "int32", "int64")
    return mask.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))


def _index_of_colors(
    rgb: np.ndarray, colors: Mapping[tuple[int, int, int], int], unknown: str | int, path: str
) -> np.ndarray:
    if rgb.dtype == np.uint8 and rgb.shape[2] == 1:
        rgb = np.repeat(rgb, 3, axis=2)
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
    largest = max([index for _, index in known] + [0 if unknown == "error" else int(unknown)])
    values = np.array([index for _, index in known], np.uint8 if largest <= 255 else np.uint16)
    packed = rgb[..., 0].astype(np.uint32) << 16 | rgb[..., 1].astype(np.uint32) << 8 | rgb[..., 2]
    place = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
    missing = keys[place] != packed
    if unknown == "error" and missing.any():
        row, column = (int(v[0]) for v in np.nonzero(missing))
        reason = (
            f"the colour {tuple(int(v) for v in rgb[row, column])} at row {row}, column {column} is not among `colors` "
            f"({int(missing.sum())} such pixels)"
        )
        hint = "add the colour, or pass unknown=255; many of them mean that the mask was blurred or resized"
        raise ImageReadError(path, reason, hint)
    found = values[place]
    if unknown != "error":
        found[missing] = unknown
    return found
