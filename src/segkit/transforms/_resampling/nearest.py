"""The source pixel nearest to each output pixel's place, by an exact float64 map, and where there is none to show."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._resampling import by_torch
from segkit.transforms._resampling.affine import Affine
from segkit.transforms._resampling.geometry import EPSILON, Geometry, Rect, Size, looks_inside, single_affine
from segkit.transforms._resampling.indices import Indices

_LIMIT = 32_767  # OpenCV's maps are made of 16-bit integers inside


def look_up(pixels: Tensor, geometry: Geometry, fill: float) -> tuple[Tensor, Tensor | None]:
    """Pixels [..., H, W] at their nearest places, and True [h, w] where that is the fill (None: nowhere)."""
    if pixels.device.type != "cpu" or pixels.requires_grad:
        return by_torch.look_up(pixels, geometry, fill)
    top, left, bottom, right = geometry.shown
    anything = top < bottom and left < right
    shown = pixels[..., top:bottom, left:right] if anything else pixels
    places = Indices(geometry.stages, geometry.size, (top, left))
    if places.apart:
        moved = _by_rows_and_columns(shown, *places(slice(0, geometry.size[0])))
        hidden = outside(geometry)
        return fill_where(moved, hidden, fill), hidden
    if max(*shown.shape[-2:], *geometry.size) >= _LIMIT:
        return by_torch.look_up(pixels, geometry, fill)
    pixels = shown
    planes = _bits(pixels)
    moved = pixels.new_full((len(planes), *geometry.size), fill)
    found = _bits(moved)
    seen = _Hidden(geometry)
    for rows in places.blocks():
        column, row = places(rows)
        map_x, map_y = column.numpy(), row.numpy()
        for plane, out in zip(planes, found, strict=True):  # what lies beyond the edge stays as it is: filled
            cv2.remap(plane, map_x, map_y, cv2.INTER_NEAREST, dst=out[rows], borderMode=cv2.BORDER_TRANSPARENT)
        seen.see(rows, (column, row))
    moved = moved.reshape(*pixels.shape[:-2], *geometry.size)
    return fill_where(moved, seen.found if geometry.clips or not anything else None, fill), seen.found


def outside(geometry: Geometry, device: torch.device | None = None, *, whole: bool = False) -> Tensor | None:
    """True [height, width] where the output shows nothing of the source; None: nowhere.

    Args:
        geometry: the map.
        device: where the answer is wanted.
        whole: the source's own edge is no question, because whole pixels were moved.
    """
    hidden = _Hidden(geometry, whole=whole)
    for rows in hidden.blocks:
        hidden.see(rows)
    return hidden.found if hidden.found is None or device is None else hidden.found.to(device)


def fill_where(pixels: Tensor, outside: Tensor | None, fill: float) -> Tensor:
    """The same pixels [..., h, w], with `fill` where outside; written in place unless a gradient needs them."""
    if outside is None:
        return pixels
    if pixels.requires_grad:
        return pixels.masked_fill(outside, fill)
    if pixels.device.type != "cpu" or pixels.dtype == torch.bfloat16 or not pixels.is_contiguous():
        return pixels.masked_fill_(outside, fill)
    planes = _bits(pixels)
    filled = np.full(planes.shape[1:], fill, pixels.numpy().dtype).view(planes.dtype)
    where = outside.numpy().view(np.uint8)
    for plane in planes:  # 8 times as fast as NumPy's copyto, 40 times as masked_fill_
        cv2.copyTo(filled, where, plane)
    return pixels


class _Hidden:
    """Finds the output pixels that show nothing: beyond the source, or cut away in between.

    Attributes:
        found: True [height, width] there, once `see` was called for all blocks; None: nowhere.
        blocks: the rows to `see`, one after the other.
    """

    def __init__(self, geometry: Geometry, *, whole: bool = False) -> None:
        onto_source = single_affine(geometry.stages)
        covered = onto_source is not None and looks_inside(onto_source, geometry.size, geometry.shown)
        frames = [] if whole or covered else [(geometry.stages, geometry.shown)]
        self.found: Tensor | None = None
        self._bent: list[tuple[Indices, Rect]] = []  # frames whose edges are not straight
        for stages, rect in [*frames, *geometry.clips]:
            affine = single_affine(stages)
            if affine is None:
                self._bent.append((Indices(stages, geometry.size, rect[:2]), rect))
                continue
            beyond = _beyond(affine, geometry.size, rect)
            self.found = beyond if self.found is None else self.found.logical_or_(beyond)
        self._source = self._bent[0][0] if onto_source is None and self._bent and not whole else None
        if self._bent and self.found is None:
            self.found = torch.zeros(geometry.size, dtype=torch.bool)
        self.blocks = self._bent[0][0].blocks() if self._bent else []

    def see(self, rows: slice, places: tuple[Tensor, Tensor] | None = None) -> None:
        """Note the pixels of these rows; `places`, their indices in what is visible of the source, save some work."""
        if self.found is None:
            return
        for indices, rect in self._bent:
            known = places if indices is self._source else None
            _note_beyond(self.found[rows], *(known or indices(rows)), rect)


def _beyond(affine: Affine, size: Size, rect: Rect) -> Tensor:
    """True [height, width] where an affine map leads beyond the rectangle: in each row, before and after a stretch."""
    height, width = size
    top, left, bottom, right = rect
    rows = np.arange(height, dtype=np.float64)
    first, last = np.zeros(height), np.full(height, float(width))
    for a, b, c, low, high in (
        (affine.xx, affine.xy, affine.dx, left, right),
        (affine.yx, affine.yy, affine.dy, top, bottom),
    ):
        offset = rows * b + (c + 0.5 + EPSILON)
        a = a if abs(a) > 1e-30 else 1e-30  # nothing changes along the row: all of it, or nothing
        enters, leaves = ((edge - offset) / a for edge in ((low, high) if a > 0 else (high, low)))
        np.maximum(first, np.ceil(enters), out=first)
        np.minimum(last, np.ceil(leaves), out=last)
    last = np.maximum(last, first)
    kind = np.uint16 if width < 1 << 16 else np.uint64
    start, stop = (np.minimum(each, width).astype(kind)[:, None] for each in (first, last))
    # Below zero, an unsigned number is larger than any length: one comparison finds both ends.
    return torch.from_numpy(np.arange(width, dtype=kind) - start >= stop - start)


def _note_beyond(found: Tensor, column: Tensor, row: Tensor, rect: Rect) -> None:
    """Set what lies beyond the rectangle; the indices are counted from its top left."""
    top, left, bottom, right = rect
    noted = found.numpy()
    for places, side in ((column, right - left), (row, bottom - top)):
        # As bits, floats of at least 0 are in order, and negative ones beyond them all: one comparison finds both ends.
        noted |= places.numpy().view(np.uint32) >= np.float32(max(side, 0)).view(np.uint32)


def _by_rows_and_columns(pixels: Tensor, column: Tensor, row: Tensor) -> Tensor:
    rows = row[:, 0].clamp(0, pixels.shape[-2] - 1).to(torch.int64)
    columns = column[0].clamp(0, pixels.shape[-1] - 1).to(torch.int64)
    if pixels.dtype == torch.bfloat16:
        return pixels.index_select(-2, rows).index_select(-1, columns)
    return torch.from_numpy(pixels.numpy().take(rows.numpy(), axis=-2).take(columns.numpy(), axis=-1))


def _bits(pixels: Tensor) -> np.ndarray:
    """[planes, H, W] in a dtype of OpenCV with as many bytes: looking up copies bits, whatever they mean."""
    planes = pixels.contiguous().reshape(-1, *pixels.shape[-2:])
    bits: np.ndarray = planes.view(torch.int16 if planes.dtype == torch.bfloat16 else planes.dtype).numpy()
    return bits.view({1: np.uint8, 2: np.uint16, 4: np.float32, 8: np.float64}[bits.itemsize])
