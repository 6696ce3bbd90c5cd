"""Colours into indices, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from segkit.errors import DataError
from segkit.labels._masks import check_mask, smallest_dtype

Color = tuple[int, int, int]


def colors_to_index(
    rgb: np.ndarray, colors: Mapping[Color, int], *, unknown: Literal["error"] | int = "error"
) -> np.ndarray:
    """Turn a colour-coded mask into class indices, exactly: no nearest colour, no tolerance.

    Args:
        rgb: [H, W, 3], uint8 or uint16, red first.
        colors: (r, g, b) -> index. Several colours may share an index.
        unknown: the index of any other colour, or ``"error"`` to refuse it.

    Returns:
        [H, W], the smallest of uint8, uint16, int32 and int64 that holds all indices.

    Raises:
        DataError: a colour is not in ``colors``; names the commonest, how often and where first.
        ValueError: the array is not [H, W, 3], or ``colors`` is empty.

    Example:
        >>> rgb = np.array([[[0, 0, 255], [9, 9, 9]]], dtype=np.uint8)
        >>> colors_to_index(rgb, {(0, 0, 255): 4}, unknown=255)
        array([[  4, 255]], dtype=uint8)
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype.kind != "u":
        raise ValueError(
            f"colors_to_index: `rgb` must be an unsigned integer array [H, W, 3], got {rgb.dtype} {list(rgb.shape)}. "
            "If it has an alpha channel, pass rgb[..., :3]."
        )
    _check_colors("colors_to_index", colors)
    known = np.array(sorted(_pack(np.array(list(colors), dtype=np.int64))))
    index_of = {int(_pack(np.array(color, dtype=np.int64))): index for color, index in colors.items()}
    other = -1 if unknown == "error" else int(unknown)
    values = np.array([*(index_of[code] for code in known.tolist()), other], dtype=np.int64)

    slot = _places(rgb, known)  # of a colour among the known ones; of others the last slot of `values`
    missing = slot == len(known)
    if unknown == "error" and missing.any():
        strange, counts = np.unique(rgb[missing], axis=0, return_counts=True)
        commonest = tuple(strange[counts.argmax()].tolist())
        row, column = np.argwhere(missing)[0].tolist()
        raise DataError(
            f"colors_to_index: every colour must be in `colors`, got {len(strange)} other(s) on {int(missing.sum())} "
            f"pixels, the commonest {commonest}, the first at row {row}, column {column}. "
            "Add it to `colors`, or pass unknown=255 to ignore such pixels."
        )
    return values.astype(smallest_dtype(values[:-1] if unknown == "error" else values))[slot]


def index_to_colors(mask: np.ndarray, colors: Mapping[Color, int]) -> np.ndarray:
    """Paint class indices in their colours: the inverse of `colors_to_index`.

    Args:
        mask: [H, W], any integer dtype.
        colors: (r, g, b) in [0, 256) -> index, as for `colors_to_index`. Of several colours with one index, the first.

    Returns:
        [H, W, 3] uint8, red first.

    Raises:
        DataError: an index has no colour.

    Example:
        >>> index_to_colors(np.array([[1, 0]]), {(0, 0, 0): 0, (255, 0, 0): 1}).tolist()
        [[[255, 0, 0], [0, 0, 0]]]
    """
    check_mask("index_to_colors", mask)
    _check_colors("index_to_colors", colors)
    color_of: dict[int, Color] = {}
    for color, index in colors.items():
        color_of.setdefault(index, color)
    if mask.dtype in (np.uint8, np.uint16):  # counted and looked up, not sorted
        place, present = mask, np.flatnonzero(np.bincount(mask.ravel()))
        row = present
    else:
        present, inverse = np.unique(mask, return_inverse=True)
        place, row = inverse.reshape(mask.shape), np.arange(len(present))
    without = [index for index in present.tolist() if index not in color_of]
    if without:
        raise DataError(
            f"index_to_colors: every index must have a colour in `colors`, got {without} without. "
            f"Add it, for instance (255, 255, 255): {without[0]}."
        )
    palette = np.zeros((int(row.max(initial=0)) + 1, 3), dtype=np.uint8)
    palette[row] = np.array([color_of[index] for index in present.tolist()], dtype=np.uint8).reshape(-1, 3)
    return palette.take(place, axis=0)


def _places(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each pixel's colour stands among the sorted codes of `known`; ``len(known)`` where it does not."""
    if rgb.dtype == np.uint8 and rgb.size > 1 << 18:  # a table of all colours pays from a quarter of a megapixel on
        codes = (rgb[..., 0].astype(np.intp) << 16) | (rgb[..., 1].astype(np.intp) << 8) | rgb[..., 2]
        table = np.full(1 << 24, len(known), np.uint8 if len(known) < 256 else np.uint16)
        inside = (known >> 32) < 256, (known >> 16 & 0xFFFF) < 256, (known & 0xFFFF) < 256
        able = np.flatnonzero(np.logical_and.reduce(inside))
        bytes_of = known[able]
        table[(bytes_of >> 32) << 16 | (bytes_of >> 16 & 0xFF) << 8 | (bytes_of & 0xFF)] = able
        return table.take(codes)
    codes = _pack(rgb)
    slot = np.searchsorted(known, codes).clip(max=len(known) - 1)
    slot[known[slot] != codes] = len(known)
    return slot


def _pack(rgb: np.ndarray) -> np.ndarray:
    """The last axis of three channels as one number; 16 bits a channel."""
    wide = rgb.astype(np.int64)
    return (wide[..., 0] << 32) | (wide[..., 1] << 16) | wide[..., 2]


def _check_colors(function: str, colors: Mapping[Color, int]) -> None:
    bad = [color for color in colors if not (isinstance(color, tuple) and len(color) == 3)]
    if bad or not colors:
        raise ValueError(
            f"{function}: `colors` must map (r, g, b) to an index, got {bad[0]!r} as a key."
            if bad
            else f"{function}: `colors` must name at least one colour, got none."
        )
