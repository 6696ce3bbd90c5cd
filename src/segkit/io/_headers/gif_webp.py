"""GIF and WebP: the blocks and chunks around the coded image."""

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
        ImageReadError: malformed or truncated, or the first frame covers only a part of the image.
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
    """(offset, length) of the coded image and of its alpha plane; length 0: none."""

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
    has_alpha = animated = lossless = False
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
            picture, lossless = (start, length), True
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
        compression="webp-lossless" if lossless else "webp",
        pages=max(frames, 1),
        orientation=orientation,
        icc=icc,
        level_shapes=((height, width),),
    )
    return Header(info, source, WebpChunks(picture, alpha), alpha="straight" if has_alpha else "none")


def minimal_webp(header: Header) -> bytes:
    """The same image without metadata."""
    whole, chunks, info = header.source.read_all(), header.detail, header.info
    parts = [whole[start - 8 : start + length] + b"\0" * (length % 2) for start, length in (chunks.picture,)]
    if chunks.alpha[1]:
        start, length = chunks.alpha
        sides = (info.width - 1).to_bytes(3, "little") + (info.height - 1).to_bytes(3, "little")
        extended = b"VP8X" + struct.pack("<II", 10, 0x10) + sides
        parts = [extended, whole[start - 8 : start + length] + b"\0" * (length % 2), *parts]
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
