"""JPEG 2000: the boxes, and a walk over the parts of the codestream, which must all be there."""

from __future__ import annotations

import struct

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

MAX_PARTS = 1 << 20
MAX_COMPONENTS = 16384
CMYK = 12  # colour space
TILE_PART, DATA, END = b"\xff\x90", b"\xff\x93", b"\xff\xd9"


def _bad(
    source: Source, reason: str, hint: str = "the file is damaged or truncated: copy or export it again"
) -> ImageReadError:
    return ImageReadError(source.path, reason, hint)


def parse_jp2(source: Source) -> Header:
    """JPEG 2000, as a bare codestream or in its boxes; components of one depth and size.

    Raises:
        ImageReadError: malformed, or components that differ.
    """
    start, palette, colorspace, icc = 0, False, 0, None
    boxed = source.pread(0, 4) != b"\xff\x4f\xff\x51"
    if boxed:
        start, palette, colorspace, icc = _jp2_boxes(source)
    head = source.pread(start, 42)
    if head[:4] != b"\xff\x4f\xff\x51":
        raise _bad(source, "it has no JPEG 2000 codestream")
    _, _, x1, y1, x0, y0, *_, count = struct.unpack(">HHIIIIIIIIH", head[4:42])
    width, height = x1 - x0, y1 - y0
    if not (width > 0 and height > 0 and 1 <= count <= MAX_COMPONENTS):
        raise _bad(source, f"its header says {width} x {height} pixels and {count} components")
    sizes = source.pread(start + 42, 3 * count)
    components = {sizes[i : i + 3] for i in range(0, 3 * count, 3)}
    depth, dx, dy = components.pop()
    if boxed and colorspace not in (0, CMYK, 16, 17, 18):
        raise _bad(source, f"its colour space {colorspace} is unusual", "convert it to TIFF")
    bits, signed = (depth & 0x7F) + 1, depth >> 7
    if components or dx != 1 or dy != 1 or bits > 16 or palette:
        reason = "its components differ, are subsampled, a palette, or deeper than 16 bits"
        raise _bad(source, reason, "convert it to TIFF")
    size = 8 if bits <= 8 else 16
    if colorspace == CMYK and count == 4:
        photometric = "cmyk"
    else:
        photometric = "rgb" if count in (3, 4) else "minisblack"
    info = ImageInfo(
        "JP2" if boxed else "J2K",
        height,
        width,
        count,
        np.dtype(f"int{size}" if signed else f"uint{size}"),
        bits,
        photometric,
        compression="jpeg2000",
        icc=icc,
        level_shapes=((height, width),),
    )
    alpha = "straight" if count in (2, 4) and photometric != "cmyk" else "none"
    return Header(info, source, _codestream_end(source, start), alpha=alpha)


def _jp2_boxes(source: Source) -> tuple[int, bool, int, bytes | None]:
    position, palette, colorspace, icc = 0, False, 0, None
    for _ in range(1024):
        length, kind = struct.unpack(">I4s", source.pread(position, 8))
        head = 8
        if length == 1:
            (length,), head = struct.unpack(">Q", source.pread(position + 8, 8)), 16
        elif length == 0:
            length = source.size - position
        if length < head or position + length > source.size:
            raise _bad(source, f"its box {kind!r} runs beyond the end of the file")
        if kind == b"jp2c":
            return position + head, palette, colorspace, icc
        palette |= kind == b"pclr"
        if kind == b"colr" and length >= head + 7:
            method = source.pread(position + head, 1)[0]
            if method == 1:
                (colorspace,) = struct.unpack(">I", source.pread(position + head + 3, 4))
            elif length <= 1 << 22:
                icc = source.pread(position + head + 3, length - head - 3)
        position += head if kind == b"jp2h" else length  # the header box holds other boxes
    raise _bad(source, "it has no JPEG 2000 codestream")


def _codestream_end(source: Source, start: int) -> int:
    """The offset behind the end marker. What follows it is not part of the image; decoders fill in what is missing.

    Raises:
        ImageReadError: a part is cut off, a tile is missing, or the parts do not follow each other.
    """
    right, low, x0, y0, width, height, left, top = struct.unpack(">8I", source.pread(start + 8, 32))
    if not width or not height or left > x0 or top > y0:
        raise _bad(source, f"its tiles are {width} x {height}")
    tiles = -(-(right - left) // width) * -(-(low - top) // height)
    position = start + 2
    while (marker := source.pread(position, 2)) != TILE_PART:
        if marker[0] != 0xFF:
            raise _bad(source, f"its main header is malformed at byte {position}")
        position += 2 + struct.unpack(">H", source.pread(position + 2, 2))[0]
    seen: set[int] = set()
    for _ in range(MAX_PARTS):
        marker = source.pread(position, 2) if position + 2 <= source.size else b""
        if marker == END:
            break
        if marker != TILE_PART:
            raise _bad(source, f"its end is missing at byte {position}")
        tile, length = struct.unpack(">HI", source.pread(position + 4, 6))
        seen.add(tile)
        if length == 0:  # until the end, which neither headers nor data of packets can hold
            rest = source.pread(position, source.size - position)
            found = rest.find(END, max(rest.find(DATA), 0))
            length = found if found >= 0 else len(rest)
        if length < 14 or position + length > source.size:
            raise _bad(source, f"its tile {tile} runs beyond the end of the file")
        position += length
    if len(seen) < tiles:
        raise _bad(source, f"it holds {len(seen)} of its {tiles} tiles")
    return position + 2


def minimal_jp2(header: Header) -> bytes:
    """The file as far as its codestream goes."""
    whole = header.source.read_all()
    return whole if header.detail >= len(whole) else whole[: header.detail]
