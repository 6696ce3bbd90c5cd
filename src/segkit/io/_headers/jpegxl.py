"""JPEG XL: size, depth and channels from the first bits of the codestream."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

BARE, BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
HEAD = 4096  # bytes in which the header ends, unless the names of its channels are made to be long


class _Bits:
    """Bits of a string, the lowest of each byte first; beyond the end they are an error."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        if count > self.left:
            raise ValueError("its header has no end")
        taken = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return taken

    def choose(self, *choices: tuple[int, int]) -> int:
        """One of four numbers, each an offset and a number of bits to add."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)


class _Depth(NamedTuple):
    bits: int
    floating: bool


def parse_jpegxl(source: Source) -> Header:
    """The header of a still image, bare or in boxes.

    Raises:
        ImageReadError: malformed, animated, or with channels of different depth.
    """
    bits = _Bits(_codestream(source)[2:])
    try:
        height, width = _size(bits)
        orientation, depth, extra, channels = _metadata(bits)
    except ValueError as error:
        raise ImageReadError(source.path, str(error), "convert it to PNG or TIFF, or copy it again") from None
    kinds = {
        _Depth(8, False): "uint8",
        _Depth(16, False): "uint16",
        _Depth(16, True): "float16",
        _Depth(32, True): "float32",
    }
    if depth not in kinds or extra not in ([], [(0, depth)]):
        reason = f"its {depth.bits}-bit samples or its {len(extra)} extra channels are unusual"
        raise ImageReadError(source.path, reason, "convert it to PNG or TIFF")
    info = ImageInfo(
        "JPEG XL",
        height,
        width,
        channels + len(extra),
        np.dtype(kinds[depth]),
        depth.bits,
        "minisblack" if channels == 1 else "rgb",
        compression="jpegxl",
        orientation=orientation,
        level_shapes=((height, width),),
    )
    return Header(info, source, alpha="straight" if extra else "none")


def _codestream(source: Source) -> bytes:
    """The first bytes of the codestream, which boxes may cut into parts."""
    if source.pread(0, 2) == BARE:
        return source.pread(0, min(HEAD, source.size))
    position = 0
    for _ in range(1024):
        length, kind = struct.unpack(">I4s", source.pread(position, 8))
        head = 8
        if length == 1:
            (length,), head = struct.unpack(">Q", source.pread(position + 8, 8)), 16
        end = source.size if length == 0 else position + length
        if end > source.size or end < position + head:
            raise ImageReadError(source.path, f"its box {kind!r} runs beyond the end of the file", "copy it again")
        if kind in (b"jxlc", b"jxlp"):
            start = position + head + (4 if kind == b"jxlp" else 0)
            return source.pread(start, max(0, min(HEAD, end - start)))
        position = end
        if position + 8 > source.size:
            break
    raise ImageReadError(source.path, "it has no JPEG XL codestream", "it is damaged: copy or export it again")


def _size(bits: _Bits) -> tuple[int, int]:
    eighths = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if eighths else bits.choose((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    numerator, denominator = RATIOS[bits.take(3)]
    return height, height * numerator // denominator if numerator else side()


def _metadata(bits: _Bits) -> tuple[int, _Depth, list[tuple[int, _Depth]], int]:
    """Orientation, depth, (type, depth) of extra channels, and the number of colours."""
    if bits.take(1):
        return 1, _Depth(8, False), [], 3
    orientation = 1
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)
        if bits.take(2):
            raise ValueError("it is an animation, or has a preview")
    depth = _depth(bits)
    bits.take(1)
    extra = []
    for _ in range(bits.choose((0, 0), (1, 0), (2, 4), (1, 12))):
        if bits.take(1):
            extra.append((0, _Depth(8, False)))
            continue
        kind = bits.choose((0, 0), (1, 0), (2, 4), (18, 6))
        extra.append((kind, _depth(bits)))
        if bits.choose((0, 0), (3, 0), (4, 0), (1, 3)) or kind:
            raise ValueError("it has channels that are not alpha, or of another size")
        bits.take(8 * bits.choose((0, 0), (0, 4), (16, 5), (48, 10)))
        bits.take(1)
    bits.take(1)
    grey = not bits.take(1) and not bits.take(1) and bits.choose((0, 0), (1, 0), (2, 4), (18, 6)) == 1
    return orientation, depth, extra, 1 if grey else 3


def _depth(bits: _Bits) -> _Depth:
    if bits.take(1):
        width = bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
        return _Depth(width, True)
    return _Depth(bits.choose((8, 0), (10, 0), (12, 0), (1, 6)), False)
