"""BMP: a header, perhaps a palette, and rows from the bottom up."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

MAX_RUN_PIXELS = 1 << 24  # run lengths are walked in Python
# Red, green and blue of pixels that say nothing about them.
PLAIN: dict[int, tuple[int, ...]] = {
    16: (0x7C00, 0x3E0, 0x1F),
    24: (0xFF0000, 0xFF00, 0xFF),
    32: (0xFF0000, 0xFF00, 0xFF),
}


@dataclass(frozen=True)
class BmpLayout:
    """Bits per pixel, where the rows begin, the bytes of each, whether the first is the top, masks of the channels."""

    depth: int
    offset: int
    stride: int
    downwards: bool
    masks: tuple[int, ...]


def parse_bmp(source: Source) -> Header:
    """A Windows bitmap.

    Raises:
        ImageReadError: malformed, truncated, or of a kind whose readers disagree.
    """

    def bad(reason: str, hint: str = "the file is damaged or truncated: copy or export it again") -> ImageReadError:
        return ImageReadError(source.path, reason, hint)

    (offset, size) = struct.unpack("<II", source.pread(10, 8)) if source.size >= 54 else (0, 0)
    if size == 12:
        width, height, planes, depth = struct.unpack("<HHHH", source.pread(18, 8))
        compression = used = 0
    elif size in (40, 52, 56, 64, 108, 124) and 14 + size <= source.size:
        width, height, planes, depth, compression, _, _, _, used, _ = struct.unpack("<iiHHIIiiII", source.pread(18, 36))
    else:
        raise bad(f"its header of {size} bytes is no known BMP header")
    if width <= 0 or height == 0 or planes != 1:
        raise bad(f"its header says {width} x {height} pixels and {planes} planes")
    run_length = {1: 8, 2: 4}.get(compression)
    if run_length:
        if depth != run_length or height < 0:
            raise bad(f"run lengths of kind {compression} do not go with {depth} bits, or from the top down")
        compression = 0
    place = 14 + size
    masks = PLAIN.get(depth, ())
    if compression in (3, 6) and size != 64 and depth in (16, 32):
        count = 4 if compression == 6 or size >= 56 else 3  # red, green, blue and perhaps alpha
        masks = struct.unpack(f"<{count}I", source.pread(54, 4 * count))
        masks = masks if masks[-1] else masks[:-1]
        place = max(place, 54 + 4 * count)
    elif compression != 0:
        raise bad(f"its compression {compression} is unknown", "save it without compression")
    colors = used or (1 << depth if depth <= 8 else 0)
    palette = None
    channels = 3
    if depth in (1, 4, 8) and not compression:
        if colors > 1 << depth:
            raise bad(f"it has {colors} colours for {depth} bits")
        width_of_color = 3 if size == 12 else 4
        table = np.frombuffer(source.pread(place, colors * width_of_color), np.uint8).reshape(-1, width_of_color)
        palette, channels = table[:, 2::-1], 1
    elif not masks or not all(_is_run(mask, depth) for mask in masks) or sum(masks) != _union(masks):
        kinds = ", ".join(f"{mask:x}" for mask in masks)
        raise bad(f"{depth} bits per pixel with the masks {kinds} are unusual", "save it with 24 bits per pixel")
    else:
        channels = len(masks)
    if run_length:
        _check_runs(source, offset, width, height, depth)
        offset = source.size  # checked already, and not of a size that the header tells
    stride = (width * depth + 31) // 32 * 4
    if offset < place or (not run_length and offset + stride * abs(height) > source.size):
        raise bad(f"it holds {source.size - offset} of {stride * abs(height)} bytes of pixels")
    info = ImageInfo(
        "BMP",
        abs(height),
        width,
        channels,
        np.dtype(np.uint8),
        depth if palette is not None else 8,
        "palette" if palette is not None else "rgb",
        level_shapes=((abs(height), width),),
    )
    layout = BmpLayout(depth, offset, stride, height < 0, masks)
    return Header(info, source, layout, palette=palette, alpha="straight" if channels == 4 else "none")


def _is_run(mask: int, depth: int) -> bool:
    """Whether the bits of a mask lie side by side, at most 8 of them, inside a pixel."""
    bits = mask // (mask & -mask) if mask else 0
    return 0 < bits < 256 and not bits & (bits + 1) and mask < 1 << depth


def _union(masks: tuple[int, ...]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def masked_samples(header: Header) -> np.ndarray:
    """The samples [H, W, C] of a BMP without palette: fewer than 8 bits are spread over 0..255, rounded down."""
    info, layout = header.info, header.detail
    data = np.frombuffer(header.source.read_all(), np.uint8, layout.stride * info.height, layout.offset)
    each = layout.depth // 8
    rows = data.reshape(info.height, layout.stride)[:, : info.width * each].reshape(info.height, info.width, each)
    words = rows.astype(np.uint32) @ np.array([1 << 8 * i for i in range(each)], np.uint32)
    out = np.empty((info.height, info.width, info.channels), np.uint8)
    for channel, mask in enumerate(layout.masks):
        top = mask // (mask & -mask)
        out[..., channel] = (words // np.uint32(mask & -mask) & np.uint32(top)) * np.uint32(255) // np.uint32(top)
    return out if layout.downwards else out[::-1]


def _check_runs(source: Source, offset: int, width: int, height: int, depth: int) -> None:
    """Run lengths must fill every row exactly and then end. Where they do not, each decoder goes its own way."""

    def bad(where: int, what: str) -> ImageReadError:
        reason = f"its run lengths {what} at byte {where}, which each decoder reads in its own way"
        return ImageReadError(source.path, reason, "save it without compression")

    if width * height > MAX_RUN_PIXELS:
        raise ImageReadError(source.path, f"{width * height} pixels in run lengths", "save it without compression")
    data = source.pread(offset, source.size - offset) if offset < source.size else b""
    position = row = column = 0
    while row < height:
        if position + 2 > len(data):
            raise bad(offset + position, "end early")
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            column += count
        elif value == 0:
            if column != width:
                raise bad(offset + position, f"fill {column} of {width} columns")
            row, column = row + 1, 0
        elif value == 1:
            if row != height - 1 or column != width:
                raise bad(offset + position, f"stop in row {row} of {height}")
            return
        elif value == 2:
            raise bad(offset + position, "skip pixels")
        else:
            column += value
            position += (value * depth // 8 + value * depth % 8 // 4 + 1) // 2 * 2
        if column > width:
            raise bad(offset + position, "leave the row")
    if data[position : position + 2] != b"\0\1":
        raise bad(offset + position, "do not end")
