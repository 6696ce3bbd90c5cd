"""The rows of a PNG, inflated here: exactly as many bytes as the header promises, never more and never fewer."""

from __future__ import annotations

import zlib

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.request import Request
from segkit.io._headers.info import Header

# First row, first column and the steps of the seven passes of an interlaced PNG (W3C PNG, section 8.2).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def _row_bytes(header: Header, width: int) -> int:
    return 1 + (width * header.info.channels * header.info.bits_per_sample + 7) // 8


def rows_of(header: Header, request: Request) -> int:
    """How many rows from the top must be decoded: down to the window's last one, or all where they are interlaced."""
    return header.info.height if header.detail.interlaced else request.window[0] + request.window[2]


def inflate_rows(header: Header, height: int) -> bytes:
    """Filter byte and packed samples of the first `height` rows. What follows in the stream is not inflated.

    Raises:
        ImageReadError: the data are damaged or end early; Pillow would fill the missing rows with zeros, in silence.
    """
    info = header.info
    if header.detail.interlaced:
        sizes = [(-(-(info.height - y) // dy), -(-(info.width - x) // dx)) for y, x, dy, dx in PASSES]
        need = sum(rows * _row_bytes(header, columns) for rows, columns in sizes if rows > 0 and columns > 0)
    else:
        need = height * _row_bytes(header, info.width)
    whole = memoryview(header.source.read_all())
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(b"".join(whole[start : start + n] for start, n in header.detail.idat), need)
        if not stream.eof:  # the checksum at the end may not have been looked at yet
            stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ImageReadError(header.path, f"its pixel data are damaged: {error}", "copy or export it again") from error
    if len(data) < need or not (stream.eof or stream.unconsumed_tail):
        reason = f"its pixel data end after {len(data)} of {need} bytes"
        raise ImageReadError(header.path, reason, "it is truncated: copy or export it again")
    return data


def unfiltered(header: Header, rows: bytes, height: int) -> np.ndarray | None:
    """Samples [H, W, C] straight from the rows if none of them is filtered, as in most masks; else None.

    Only for 8 bits and fewer of one channel, where the bytes are the samples.
    """
    info = header.info
    if header.detail.interlaced or info.channels != 1 or info.bits_per_sample > 8:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(height, -1)
    if table[:, 0].any():
        return None
    packed, bits = table[:, 1:], info.bits_per_sample
    if bits == 8:
        return packed[..., None]
    spread = packed[..., None] >> np.arange(8 - bits, -1, -bits, dtype=np.uint8) & ((1 << bits) - 1)
    samples = spread.reshape(height, -1)[:, : info.width, None]
    # Shades of 2 and 4 bits are spread over 0..255, as every PNG reader does.
    return samples * (255 // ((1 << bits) - 1)) if info.photometric != "palette" and bits in (2, 4) else samples
