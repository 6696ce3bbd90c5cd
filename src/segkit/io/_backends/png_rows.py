"""The rows of a PNG, inflated here: exactly as many bytes as the header promises, never more and never fewer."""

from __future__ import annotations

import zlib

from segkit.errors import ImageReadError
from segkit.io._backends.request import Request
from segkit.io._headers.info import Header
from segkit.io._headers.png import verify_data

# First row, first column and the steps of the seven passes of an interlaced PNG (W3C PNG, section 8.2).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def row_bytes(header: Header, width: int) -> int:
    """Bytes of a row of so many pixels, with that of its filter."""
    return 1 + (width * header.info.channels * header.info.bits_per_sample + 7) // 8


def rows_of(header: Header, request: Request) -> int:
    """How many rows from the top must be inflated: down to the window's last one, or all where they are interlaced."""
    return header.info.height if header.detail.interlaced else request.window[0] + request.window[2]


def deflated(header: Header) -> bytes:
    """The stream of the pixel data, put together from its chunks, whose checksums are right.

    Raises:
        ImageReadError: one is not.
    """
    verify_data(header)
    whole = memoryview(header.source.read_all())
    return b"".join(whole[start : start + n] for start, n in header.detail.idat)


def inflate_rows(header: Header, height: int) -> bytes:
    """Filter byte and packed samples of the first `height` rows.

    Raises:
        ImageReadError: the data are damaged or end early; Pillow would fill the missing rows with zeros, in silence.
    """
    info = header.info
    if header.detail.interlaced:
        sizes = [(-(-(info.height - y) // dy), -(-(info.width - x) // dx)) for y, x, dy, dx in PASSES]
        need = sum(rows * row_bytes(header, columns) for rows, columns in sizes if rows > 0 and columns > 0)
    else:
        need = height * row_bytes(header, info.width)
    stored = deflated(header)
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(stored, need)
        if not stream.eof:  # the checksum at the end may not have been looked at yet
            stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ImageReadError(header.path, f"its pixel data are damaged: {error}", "copy or export it again") from error
    if len(data) < need or not (stream.eof or stream.unconsumed_tail):
        reason = f"its pixel data end after {len(data)} of {need} bytes"
        raise ImageReadError(header.path, reason, "it is truncated: copy or export it again")
    return data
