"""Apply a geometry to an image and its mask: exactly where no interpolation is needed, otherwise once.

The image is bilinear, blurred beforehand by just as much as the map shrinks it; the mask takes the nearest pixel of a
float64 map. Both agree on what lies outside: where the mask gets its fill, the image gets its own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segkit.transforms import _opencv, _sampling
from segkit.transforms._geometry import Geometry, coordinates, corners, covers, linear_part, nearest, single_matrix


def resample_image(image: Tensor, geometry: Geometry, fill: float = 0, *, antialias: bool = True) -> Tensor:
    """The image [..., C, H, W] after `geometry`, in its own dtype."""
    moved = _moved_whole(image, geometry, fill)
    if moved is None:
        if image.dtype == torch.bool:  # between True and False there is nothing to interpolate
            moved = _look_up(image, geometry)
        else:
            sigma = _blur_for(geometry) if antialias else (0.0, 0.0)
            on_cpu = image.device.type == "cpu" and not image.requires_grad
            sample = _opencv.sample if on_cpu and _opencv.takes(geometry) else _sampling.sample
            moved = sample(image, geometry, sigma)
        outside = _outside(geometry, image.device, source=True)
    else:
        outside = _outside(geometry, image.device, source=False)
    return moved if outside is None else moved.masked_fill_(outside, fill)


def resample_mask(mask: Tensor, geometry: Geometry, fill: int) -> Tensor:
    """The mask [..., H, W] after `geometry`: each pixel takes the value of the pixel that covers its place."""
    moved = _moved_whole(mask, geometry, fill)
    whole = moved is not None
    if moved is None:
        moved = _look_up(mask, geometry)
    outside = _outside(geometry, mask.device, source=not whole)
    return moved if outside is None else moved.masked_fill_(outside, fill)


def _moved_whole(pixels: Tensor, geometry: Geometry, fill: float) -> Tensor | None:
    """The result if every output pixel is one source pixel (crops, pads, flips, right angles), else None."""
    whole = single_matrix(geometry.stages)
    if whole is None or not np.array_equal(whole, whole.round()):
        return None
    (xx, xy, x), (yx, yy, y) = whole[:2].astype(int).tolist()
    if (abs(xx), abs(yy), xy, yx) == (0, 0, xy, yx) and abs(xy) == abs(yx) == 1:
        pixels, (xx, x, yy, y) = pixels.transpose(-1, -2), (yx, y, xy, x)
    elif not (abs(xx) == abs(yy) == 1 and xy == yx == 0):
        return None
    columns, at_x = _overlap(xx, x, geometry.size[1], pixels.shape[-1])
    rows, at_y = _overlap(yy, y, geometry.size[0], pixels.shape[-2])
    piece = pixels[..., rows, columns]
    flipped = [axis for axis, sign in ((-2, yy), (-1, xx)) if sign < 0]
    if piece.shape[-2:] == geometry.size:
        if flipped:
            return piece.flip(flipped).contiguous()
        # A copy of the window lets the rest of a large image go; what is left whole stays the very tensor.
        untouched = piece.shape == pixels.shape and xy == yx == 0 and not geometry.clips
        return piece if untouched else piece.clone(memory_format=torch.contiguous_format)
    moved = pixels.new_full((*pixels.shape[:-2], *geometry.size), fill)
    moved[..., at_y, at_x] = piece.flip(flipped) if flipped else piece
    return moved


def _overlap(sign: int, offset: int, length: int, available: int) -> tuple[slice, slice]:
    """Those of the source indices sign * i + offset, i in [0, length), that exist: a slice of source and of output."""
    first = offset if sign > 0 else offset - length + 1
    low, high = max(0, first), min(available, first + length)
    high = max(low, high)
    start = low - first if sign > 0 else first + length - high
    return slice(low, high), slice(start, start + high - low)


def _look_up(pixels: Tensor, geometry: Geometry) -> Tensor:
    """The nearest source pixel of each output pixel; places outside take the pixel at the edge."""
    x, y = coordinates(geometry.stages, geometry.size, pixels.device)
    column = nearest(x).clamp_(0, geometry.source[1] - 1)
    row = nearest(y).clamp_(0, geometry.source[0] - 1)
    if column.shape[0] == 1 and row.shape[1] == 1:
        return pixels.index_select(-2, row[:, 0]).index_select(-1, column[0])
    return pixels.flatten(-2)[..., row * geometry.source[1] + column]


def _outside(geometry: Geometry, device: torch.device, *, source: bool) -> Tensor | None:
    """True [height, width] where the output shows nothing of the source (or of a frame in between); None: nowhere."""
    frames = list(geometry.clips)
    whole = single_matrix(geometry.stages)
    if source and (whole is None or not covers(geometry.source, *corners(whole, geometry.size))):
        frames.append((geometry.stages, geometry.source))
    outside = None
    for stages, frame in frames:
        x, y = coordinates(stages, geometry.size, device)
        column, row = nearest(x), nearest(y)
        beyond = (column < 0) | (column >= frame[1]) | (row < 0) | (row >= frame[0])
        outside = beyond if outside is None else outside | beyond
    return outside if outside is None else outside.expand(geometry.size)


def _blur_for(geometry: Geometry) -> tuple[float, float]:
    """Standard deviations (vertical, horizontal) in source pixels that keep finer detail than the output can show away.

    An output pixel that spans m source pixels needs a blur of about m / 2, and the bilinear look-up already blurs by
    the same amount as m = 1 does; variances add up.
    """
    horizontal, vertical = np.hypot(*linear_part(geometry.stages).T)  # source pixels per output pixel, along each axis
    return float(0.5 * max(vertical**2 - 1, 0) ** 0.5), float(0.5 * max(horizontal**2 - 1, 0) ** 0.5)
