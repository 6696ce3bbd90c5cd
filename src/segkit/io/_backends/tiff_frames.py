"""Blocks of a TIFF that are images of their own (JPEG, JPEG 2000, WebP, LERC): whole, no larger than the block."""

from __future__ import annotations

import struct

from segkit.errors import ImageReadError
from segkit.io._headers.gif_webp import parse_webp
from segkit.io._headers.jp2 import parse_jp2
from segkit.io._headers.jpeg import has_several_scans, minimal_jpeg, parse_jpeg
from segkit.io._headers.jpegxl import parse_jpegxl
from segkit.io._headers.source import Source
from segkit.io._headers.tiff import TiffPage

PARSERS = {
    7: parse_jpeg, 33003: parse_jp2, 33005: parse_jp2, 34712: parse_jp2, 50001: parse_webp, 50002: parse_jpegxl,
}  # fmt: skip
LERC = 34887


def check_frame(path: str, page: TiffPage, number: int, stored: bytes) -> bool:
    """Refuse a coded block that is cut, or that holds more than its place: decoders fill in and cut off in silence.

    Returns:
        Whether it is a JPEG of several scans, whose last may be cut unseen.

    Raises:
        ImageReadError: names the block.
    """
    if page.compression not in PARSERS and page.compression != LERC:
        return False
    try:
        height, width, channels, several = _frame(page, stored)
    except ImageReadError as error:
        raise ImageReadError(path, f"its block {number}: {error.reason}", error.hint) from error
    row = number // page.grid[1] % page.grid[0]
    rows = page.block_rows(row)
    last = not page.tiled and row == page.grid[0] - 1  # some writers code the last strip as high as the others
    each = 1 if page.planar else page.samples
    # A lossless JPEG of a camera holds two columns side by side as two components.
    if height > (page.tile[0] if last else rows) or width * max(channels, each) > page.tile[1] * each:
        reason = f"its block {number} holds {height} x {width} pixels, but its place has {rows} x {page.tile[1]}"
        raise ImageReadError(path, reason, "the file is damaged: export it again")
    return several


def _frame(page: TiffPage, stored: bytes) -> tuple[int, int, int, bool]:
    if page.compression == LERC:
        if stored[:6] != b"Lerc2 " or len(stored) < 22:
            return 0, 0, 0, False  # another version, which its decoder checks
        version = struct.unpack_from("<i", stored, 6)[0]
        height, width = struct.unpack_from("<ii", stored, 14 if version >= 3 else 10)
        return height, width, 1, False
    header = PARSERS[page.compression](Source(stored))
    several = False
    if page.compression == 7:
        minimal_jpeg(header)  # every scan, and the end
        several = has_several_scans(header)
    return header.info.height, header.info.width, header.info.channels, several
