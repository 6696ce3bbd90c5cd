"""The source pixel nearest to each output pixel's place, by an exact float64 map, and where there is none to show."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._geometry import EPSILON, Geometry, Rect, Stage, coordinates, corners, covers, single_matrix

_LIMIT = 32_767  # OpenCV's maps are made of 16-bit integers inside


class Places:
    """Where a geometry looks, computed once for an image and its mask.

    Args:
        geometry: the map.
        device: where the pixels are.
    """

    def __init__(self, geometry: Geometry, device: torch.device) -> None:
        self.geometry = geometry
        self.device = device

    @cached_property
    def indices(self) -> tuple[Tensor, Tensor]:
        """Column and row of the nearest source pixel, whole numbers in float32 that broadcast to [height, width]."""
        return self._indices(self.geometry.stages)

    @cached_property
    def cut(self) -> Tensor | None:
        """True [height, width] where a frame in between left the picture out; None: nowhere."""
        cut = None
        for stages, rect in self.geometry.clips:
            beyond = _beyond(*self._indices(stages), rect)
            cut = beyond if cut is None else cut | beyond
        return None if cut is None else cut.expand(self.geometry.size)

    @cached_property
    def outside(self) -> Tensor | None:
        """True [height, width] where the output shows nothing of the source; None: nowhere."""
        matrix = single_matrix(self.geometry.stages)
        if matrix is not None and covers(self.geometry.shown, *corners(matrix, self.geometry.size)):
            return self.cut
        beyond = _beyond(*self.indices, self.geometry.shown).expand(self.geometry.size)
        return beyond if self.cut is None else beyond | self.cut

    def look_up(self, pixels: Tensor) -> Tensor:
        """Pixels [..., H, W] at the nearest places; beyond the edge, the pixel at the edge."""
        column, row = self.indices
        height, width = self.geometry.source
        if column.shape[0] == 1 and row.shape[1] == 1:
            rows = row[:, 0].clamp(0, height - 1).to(torch.int64)
            columns = column[0].clamp(0, width - 1).to(torch.int64)
            if pixels.device.type != "cpu" or pixels.requires_grad:
                return pixels.index_select(-2, rows).index_select(-1, columns)
            return torch.from_numpy(pixels.numpy().take(rows.numpy(), axis=-2).take(columns.numpy(), axis=-1))
        column, row = column.expand(self.geometry.size), row.expand(self.geometry.size)
        if pixels.device.type == "cpu" and not pixels.requires_grad and max(height, width, *column.shape) < _LIMIT:
            return _look_up_by_opencv(pixels, column, row)
        flat = row.clamp(0, height - 1).to(torch.int64) * width + column.clamp(0, width - 1).to(torch.int64)
        return pixels.flatten(-2)[..., flat]

    def _indices(self, stages: tuple[Stage, ...]) -> tuple[Tensor, Tensor]:
        # On the edge between two pixels, where rounding decides, it is always the later one.
        x, y = coordinates(stages, self.geometry.size, self.device)
        return (x + (0.5 + EPSILON)).floor_().to(torch.float32), (y + (0.5 + EPSILON)).floor_().to(torch.float32)


def fill_where(pixels: Tensor, outside: Tensor | None, fill: float) -> Tensor:
    """The same pixels [..., h, w], with `fill` where outside; written in place unless a gradient needs them."""
    if outside is None:
        return pixels
    if pixels.requires_grad:
        return pixels.masked_fill(outside, fill)
    if pixels.device.type != "cpu" or pixels.dtype == torch.bfloat16:
        return pixels.masked_fill_(outside, fill)
    array = pixels.numpy()  # several times faster than masked_fill_
    np.copyto(array, np.asarray(fill, array.dtype), where=outside.numpy())
    return pixels


def _beyond(column: Tensor, row: Tensor, rect: Rect) -> Tensor:
    top, left, bottom, right = rect
    if column.device.type != "cpu":
        return (column < left) | (column >= right) | (row < top) | (row >= bottom)
    x, y = column.numpy(), row.numpy()  # comparisons are several times faster there
    return torch.from_numpy((x < left) | (x >= right) | (y < top) | (y >= bottom))


# Looking up copies bits, so any dtype of OpenCV with as many bytes will do.
_BITS = {1: np.uint8, 2: np.uint16, 4: np.float32, 8: np.float64}


def _look_up_by_opencv(pixels: Tensor, column: Tensor, row: Tensor) -> Tensor:
    planes = pixels.contiguous().reshape(-1, *pixels.shape[-2:])
    bits = planes.view(torch.int16 if planes.dtype == torch.bfloat16 else planes.dtype).numpy()
    bits = bits.view(_BITS[bits.itemsize])
    found = np.empty((len(bits), *column.shape), bits.dtype)
    map_x, map_y = column.contiguous().numpy(), row.contiguous().numpy()
    for plane, out in zip(bits, found, strict=True):
        cv2.remap(plane, map_x, map_y, cv2.INTER_NEAREST, dst=out, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(found).view(pixels.dtype).reshape(*pixels.shape[:-2], *column.shape)
