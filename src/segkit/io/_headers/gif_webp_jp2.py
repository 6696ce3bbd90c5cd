"""GIF, WebP and JPEG 2000: the blocks, chunks and boxes around the coded picture."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.exif import orientation_of_exif
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

MAX_BLOCKS = 1 << 20


def _bad(
    source: Source, reason: str, hint: str = "the file is damaged or truncated: copy or export it again"
) -> ImageReadError:
    return ImageReadError(source.path, reason, hint)


def parse_gif(source: Source) -> Header:
    """A GIF: its first frame can be read, whose samples are palette indices.

    Raises:
        ImageReadError: malformed or truncated, or the first frame covers only a part of the picture.
    """
    width, height, flags = struct.unpack("<HHB", source.pread(6, 5))
    position = 13
    palette = b""
    if flags & 0x80:
        palette = source.pread(position, 3 << (flags & 7) + 1)
        position += len(palette)
    frames, pieces, first = 0, 0, (0, 0, 0, 0, 0)
    for _ in range(MAX_BLOCKS):
        # A missing trailer harms nobody once a frame is whole.
        if (position == source.size and frames) or (kind := source.pread(position, 1)[0]) == 0x3B:
            break
        if kind == 0x2C:
            frame = struct.unpack("<HHHHB", source.pread(position + 1, 9))
            position += 10
            if frame[4] & 0x80:
                local = source.pread(position, 3 << (frame[4] & 7) + 1)
                position += len(local)
                palette = local if frames == 0 else palette
            first = frame if frames == 0 else first
            frames += 1
            position += 1  # the code size
        elif kind == 0x21:
            position += 2
        else:
            raise _bad(source, f"its block {kind:#04x} at byte {position} is unknown")
        while length := source.pread(position, 1)[0]:
            position += 1 + length
            pieces += 1
            if pieces > MAX_BLOCKS:
                raise _bad(source, f"its data lie in more than {MAX_BLOCKS} pieces")
        position += 1
    else:
        raise _bad(source, f"it has more than {MAX_BLOCKS} blocks")
    if not frames or not width or not height:
        raise _bad(source, "it has no picture")
    if first[:4] != (0, 0, width, height):
        reason = f"its first frame covers {first[2]} x {first[3]} of {width} x {height} pixels"
        raise _bad(source, reason, "save the frame that you need as PNG")
    colors = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    info = ImageInfo(
        "GIF",
        height,
        width,
        1,
        np.dtype(np.uint8),
        8,
        "palette" if len(colors) else "minisblack",
        compression="lzw",
        pages=frames,
        level_shapes=((height, width),),
    )
    return Header(info, source, None, palette=colors if len(colors) else None)


@dataclass(frozen=True)
class WebpChunks:
    """(offset, length) of the coded picture and of its alpha plane; length 0: none."""

    picture: tuple[int, int]
    alpha: tuple[int, int]


def parse_webp(source: Source) -> Header:
    """A WebP; of an animation the first frame can be read, on its canvas.

    Raises:
        ImageReadError: malformed or truncated.
    """
    (size,) = struct.unpack("<I", source.pread(4, 4))
    if size + 8 > source.size:
        raise _bad(source, f"it holds {source.size} of {size + 8} bytes")
    position, orientation, icc = 12, 1, None
    picture = alpha = (0, 0)
    has_alpha = animated = False
    frames = 0
    canvas: tuple[int, int] | None = None
    width = height = 0
    for _ in range(MAX_BLOCKS):
        if position + 8 > size + 8:
            break
        kind, length = struct.unpack("<4sI", source.pread(position, 8))
        start = position + 8
        if start + length > source.size:
            raise _bad(source, f"its chunk {kind!r} runs beyond the end of the file")
        if kind == b"VP8X" and length >= 10:
            flags, sides = source.pread(start, 1)[0], source.pread(start + 4, 6)
            canvas = 1 + int.from_bytes(sides[3:], "little"), 1 + int.from_bytes(sides[:3], "little")
            has_alpha = bool(flags & 0x10)
            animated = bool(flags & 2)
        elif kind == b"VP8 " and not picture[1] and length >= 10:
            data = source.pread(start, 10)
            if data[3:6] != b"\x9d\x01\x2a" or data[0] & 1:
                raise _bad(source, "its picture does not start with a key frame")
            width, height = (v & 0x3FFF for v in struct.unpack_from("<HH", data, 6))
            picture = start, length
        elif kind == b"VP8L" and not picture[1] and length >= 5:
            mark, bits = struct.unpack("<BI", source.pread(start, 5))
            if mark != 0x2F or bits >> 29:
                raise _bad(source, "its lossless picture has an unknown signature")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
            picture = start, length
            has_alpha |= bool(bits >> 28 & 1)
        elif kind == b"ALPH" and not picture[1]:
            alpha, has_alpha = (start, length), True
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF" and length <= 1 << 20:
            orientation = orientation_of_exif(source.pread(start, length))
        elif kind == b"ICCP" and length <= 1 << 22:
            icc = source.pread(start, length)
        position = start + length + length % 2
    if animated and frames and canvas:
        (height, width), picture = canvas, (0, 0)
    elif not picture[1] or not width or not height or (canvas or (height, width)) != (height, width):
        raise _bad(source, "it has no picture of the size that its header says")
    info = ImageInfo(
        "WebP",
        height,
        width,
        4 if has_alpha else 3,
        np.dtype(np.uint8),
        8,
        "rgb",
        compression="webp",
        pages=max(frames, 1),
        orientation=orientation,
        icc=icc,
        level_shapes=((height, width),),
    )
    return Header(info, source, WebpChunks(picture, alpha), alpha="straight" if has_alpha else "none")


def minimal_webp(header: Header) -> bytes:
    """The same picture without metadata."""
    whole, chunks, info = header.source.read_all(), header.detail, header.info
    parts = [whole[start - 8 : start + length] + b"\0" * (length % 2) for start, length in (chunks.picture,)]
    if chunks.alpha[1]:
        start, length = chunks.alpha
        sides = (info.width - 1).to_bytes(3, "little") + (info.height - 1).to_bytes(3, "little")
        extended = b"VP8X" + struct.pack("<II", 10, 0x10) + sides
        parts = [extended, whole[start - 8 : start + length] + b"\0" * (length % 2), *parts]
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


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
    if not (width > 0 and height > 0 and 1 <= count <= 4):
        raise _bad(source, f"its header says {width} x {height} pixels and {count} components")
    components = {source.pread(start + 42 + 3 * i, 3) for i in range(count)}
    depth, dx, dy = components.pop()
    if boxed and colorspace not in (0, 16, 17, 18):
        raise _bad(source, f"its colour space {colorspace} is unusual", "convert it to TIFF")
    if components or dx != 1 or dy != 1 or depth & 0x80 or depth > 15 or palette:
        raise _bad(source, "its components differ, are signed, subsampled or a palette", "convert it to TIFF")
    if source.pread(source.size - 2, 2) != b"\xff\xd9" and not boxed:
        raise _bad(source, "its end is missing")
    bits = depth + 1
    info = ImageInfo(
        "JP2" if boxed else "J2K",
        height,
        width,
        count,
        np.dtype(np.uint8 if bits <= 8 else np.uint16),
        bits,
        "minisblack" if count < 3 else "rgb",
        compression="jpeg2000",
        icc=icc,
        level_shapes=((height, width),),
    )
    return Header(info, source, colorspace, alpha="straight" if count in (2, 4) else "none")


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
            if source.pread(position + length - 2, 2) != b"\xff\xd9":
                raise _bad(source, "its codestream has no end")
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
