"""The source pixel nearest to each output pixel's place, by an exact float64 map, and where there is none to show."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._affine import Affine
from segkit.transforms._geometry import EPSILON, Geometry, Rect, Size, Stage, coordinates, looks_inside, single_affine

_LIMIT = 32_767  # OpenCV's maps are made of 16-bit integers inside
_BLOCK = 1 << 17  # places that are computed at a time, so that they stay in the cache


def look_up(pixels: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor | None]:
    """Pixels [..., H, W] at their nearest places, and True [h, w] where the output shows nothing (None: nowhere).

    What lies beyond the edge takes the pixel at the edge, until it is filled.
    """
    top, left, bottom, right = geometry.shown
    if top < bottom and left < right:
        pixels = pixels[..., top:bottom, left:right]
    places = _Indices(geometry.stages, geometry.size, pixels.device, (top, left))
    if places.apart:
        moved = _by_rows_and_columns(pixels, *places(slice(0, geometry.size[0])))
        return moved, outside(geometry, pixels.device)
    height, width = pixels.shape[-2:]
    if pixels.device.type != "cpu" or pixels.requires_grad or max(height, width, *geometry.size) >= _LIMIT:
        column, row = places(slice(0, geometry.size[0]))
        column, row = column.clamp(0, width - 1).to(torch.int64), row.clamp(0, height - 1).to(torch.int64)
        return pixels[..., row, column], outside(geometry, pixels.device)
    planes = _bits(pixels)
    found = np.empty((len(planes), *geometry.size), planes.dtype)
    hidden = _Hidden(geometry, pixels.device)
    for rows in places.blocks():
        column, row = places(rows)
        map_x, map_y = column.numpy(), row.numpy()
        for plane, out in zip(planes, found, strict=True):
            cv2.remap(plane, map_x, map_y, cv2.INTER_NEAREST, dst=out[rows], borderMode=cv2.BORDER_REPLICATE)
        hidden.see(rows, column, row)
    return torch.from_numpy(found).view(pixels.dtype).reshape(*pixels.shape[:-2], *geometry.size), hidden.found


def outside(geometry: Geometry, device: torch.device, *, whole: bool = False) -> Tensor | None:
    """True [height, width] where the output shows nothing of the source; None: nowhere.

    Args:
        geometry: the map.
        device: where the answer is wanted.
        whole: the source's own edge is no question, because whole pixels were moved.
    """
    hidden = _Hidden(geometry, device, whole=whole)
    if hidden.found is not None:
        places = _Indices(geometry.stages, geometry.size, device, geometry.shown[:2])
        for rows in places.blocks():
            hidden.see(rows, *places(rows))
    return hidden.found


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


class _Indices:
    """Column and row of the nearest source pixel, whole numbers in float32, for a block of output rows at a time.

    They are counted from `origin`, the (top, left) of what is visible there.

    Attributes:
        apart: the column depends on the output's column only, and the row on its row: [1, width] and [rows, 1].
    """

    def __init__(self, stages: tuple[Stage, ...], size: Size, device: torch.device, origin: tuple[int, int]) -> None:
        self.stages, self.size, self.device = stages, size, device
        # On the edge between two pixels, where rounding decides, it is always the later one.
        self._down, self._right = (0.5 + EPSILON - each for each in origin)
        affine = single_affine(stages)
        self.apart = affine is not None and affine.xy == affine.yx == 0
        self._axes: list[tuple[Tensor, Tensor]] | None = None
        self._place: Tensor | None = None
        if affine is not None and not self.apart:
            self._prepare(affine)

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor]:
        if self._axes is None:
            x, y = coordinates(self.stages, self.size, self.device, rows)
            return (x + self._right).floor_().to(torch.float32), (y + self._down).floor_().to(torch.float32)
        shape = rows.stop - rows.start, self.size[1]
        if self._place is None or self._place.shape != shape:
            self._place = torch.empty(shape, dtype=torch.float64, device=self.device)
            self._index = [torch.empty(shape, device=self.device) for _ in range(2)]
        for (across, down), index in zip(self._axes, self._index, strict=True):
            torch.add(across, down[rows], out=self._place)
            index.copy_(self._place.floor_())
        return self._index[0], self._index[1]

    def blocks(self) -> list[slice]:
        """Rows of the output, as many at a time as stay in the cache."""
        if self.device.type != "cpu":
            return [slice(0, self.size[0])]
        step = max(1, _BLOCK // self.size[1])
        return [slice(top, min(top + step, self.size[0])) for top in range(0, self.size[0], step)]

    def _prepare(self, affine: Affine) -> None:
        """An affine map is a sum of what the column and what the row gives: one addition a pixel, in reused memory."""
        x = torch.arange(self.size[1], dtype=torch.float64, device=self.device)[None]
        y = torch.arange(self.size[0], dtype=torch.float64, device=self.device)[:, None]
        parts = (affine.xx, affine.xy, affine.dx + self._right), (affine.yx, affine.yy, affine.dy + self._down)
        self._axes = [(x * a + c, y * b) for a, b, c in parts]


class _Hidden:
    """Finds, block by block, the output pixels that show nothing: beyond the source, or cut away in between."""

    def __init__(self, geometry: Geometry, device: torch.device, *, whole: bool = False) -> None:
        affine = single_affine(geometry.stages)
        covered = affine is not None and looks_inside(affine, geometry.size, geometry.shown)
        self._source = None if whole or covered else _sides(geometry.shown)
        self._frames = [
            (_Indices(stages, geometry.size, device, rect[:2]), _sides(rect)) for stages, rect in geometry.clips
        ]
        anything = self._source is not None or self._frames
        self.found = torch.zeros(geometry.size, dtype=torch.bool, device=device) if anything else None

    def see(self, rows: slice, column: Tensor, row: Tensor) -> None:
        """Note the pixels of these rows, whose indices in what is visible of the source are given."""
        if self.found is None:
            return
        if self._source is not None:
            _note_beyond(self.found[rows], column, row, self._source)
        for indices, sides in self._frames:
            _note_beyond(self.found[rows], *indices(rows), sides)


def _sides(rect: Rect) -> Size:
    top, left, bottom, right = rect
    return bottom - top, right - left


def _note_beyond(found: Tensor, column: Tensor, row: Tensor, sides: Size) -> None:
    """Set what lies beyond [0, height) and [0, width)."""
    height, width = sides
    if column.device.type != "cpu":
        found |= (column < 0) | (column >= width) | (row < 0) | (row >= height)
        return
    noted = found.numpy()
    for places, side in ((column, width), (row, height)):
        # As bits, floats of at least 0 are in order, and negative ones beyond them all: one comparison finds both ends.
        noted |= places.numpy().view(np.uint32) >= np.float32(side).view(np.uint32)


def _by_rows_and_columns(pixels: Tensor, column: Tensor, row: Tensor) -> Tensor:
    rows = row[:, 0].clamp(0, pixels.shape[-2] - 1).to(torch.int64)
    columns = column[0].clamp(0, pixels.shape[-1] - 1).to(torch.int64)
    if pixels.device.type != "cpu" or pixels.requires_grad or pixels.dtype == torch.bfloat16:
        return pixels.index_select(-2, rows).index_select(-1, columns)
    return torch.from_numpy(pixels.numpy().take(rows.numpy(), axis=-2).take(columns.numpy(), axis=-1))


def _bits(pixels: Tensor) -> np.ndarray:
    """[planes, H, W] in a dtype of OpenCV with as many bytes: looking up copies bits, whatever they mean."""
    planes = pixels.contiguous().reshape(-1, *pixels.shape[-2:])
    bits: np.ndarray = planes.view(torch.int16 if planes.dtype == torch.bfloat16 else planes.dtype).numpy()
    return bits.view({1: np.uint8, 2: np.uint16, 4: np.float32, 8: np.float64}[bits.itemsize])
