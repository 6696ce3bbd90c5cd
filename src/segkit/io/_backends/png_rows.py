"""The rows of a PNG, inflated here: exactly as many bytes as the header promises, never more and never fewer."""

from __future__ import annotations

import zlib

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.request import Request, crop
from segkit.io._headers.info import Header
from segkit.io._headers.png import minimal_png, verify_data

# First row, first column and the steps of the seven passes of an interlaced PNG (W3C PNG, section 8.2).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SUB, UP = 1, 2  # filters that are sums along a row and down a column; 0 is none, and those above need a decoder
# libdeflate takes 0.4 to 0.6 of zlib's time, but inflates all rows or none (benchmarks/bench_decoders.py).
WORTH_ALL = 0.6


def _row_bytes(header: Header, width: int) -> int:
    return 1 + (width * header.info.channels * header.info.bits_per_sample + 7) // 8


def rows_of(header: Header, request: Request) -> int:
    """How many rows from the top must be inflated: down to the window's last one, or all where they are interlaced."""
    return header.info.height if header.detail.interlaced else request.window[0] + request.window[2]


def inflate_rows(header: Header, height: int) -> memoryview:
    """Filter byte and packed samples of the first `height` rows.

    Raises:
        ImageReadError: the data are damaged or end early; Pillow would fill the missing rows with zeros, in silence.
    """
    info = header.info
    if header.detail.interlaced:
        sizes = [(-(-(info.height - y) // dy), -(-(info.width - x) // dx)) for y, x, dy, dx in PASSES]
        need = total = sum(rows * _row_bytes(header, columns) for rows, columns in sizes if rows > 0 and columns > 0)
    else:
        need, total = (rows * _row_bytes(header, info.width) for rows in (height, info.height))
    verify_data(header)
    whole = memoryview(header.source.read_all())
    stored = b"".join(whole[start : start + n] for start, n in header.detail.idat)
    if need >= WORTH_ALL * total:
        data = _inflate_all(stored, total)
        if data is not None:
            return memoryview(data)[:need]
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
    return memoryview(data)


def _inflate_all(stored: bytes, total: int) -> bytes | bytearray | None:
    """All rows by libdeflate; None where it refuses, for zlib to say why or to stop where the rows end."""
    import imagecodecs

    try:
        data: bytes | bytearray = imagecodecs.deflate_decode(stored, out=total)
    except Exception:  # damaged, more in it than the rows, or a build without libdeflate
        return None
    return data if len(data) == total else None


def read_rows(header: Header, request: Request) -> np.ndarray:
    """The stored samples of `request`, from the rows that it needs.

    Sums of bytes are undone here, which is several times as fast as any decoder and knows where the window begins: most
    masks are not filtered at all, and OpenCV writes nothing but sums along the row. What predicts from several
    neighbours goes to libpng, from the last row on that stands by itself.
    """
    top, left, height, width = request.window
    bottom, size = top + height, _row_bytes(header, header.info.width)
    rows = np.frombuffer(inflate_rows(header, bottom), np.uint8).reshape(bottom, size)
    alone = np.flatnonzero(rows[: top + 1, 0] <= SUB)
    first = int(alone[-1]) if len(alone) else 0
    needed = rows[first:]
    samples = _unfiltered(header, needed, left + width)
    if samples is None:
        samples = _by_libpng(header, needed)
    return crop(samples, Request((top - first, left, height, width), request.channels))


def _unfiltered(header: Header, rows: np.ndarray, columns: int) -> np.ndarray | None:
    """Samples [H, W, C] of rows of which the first stands by itself, up to a column; None if they need a decoder."""
    info, filters = header.info, rows[:, 0]
    if filters.max() > UP:
        return None
    packed = rows[:, 1 : _row_bytes(header, columns)]
    pixel, sums = max(1, info.channels * info.bits_per_sample // 8), filters == SUB
    if sums.all():
        packed = _added(packed, pixel)
    elif filters.any():
        packed = packed.copy()
        if sums.any():
            packed[sums] = _added(packed[sums], pixel)
        for row in np.flatnonzero(filters[1:] == UP) + 1:
            packed[row] += packed[row - 1]
    return _unpacked(header, packed)[:, :columns]


def _added(packed: np.ndarray, pixel: int) -> np.ndarray:
    """Rows of which each byte is added to the one `pixel` bytes before it."""
    import imagecodecs

    sums: np.ndarray = imagecodecs.delta_decode(packed.reshape(len(packed), -1, pixel), axis=1)
    return sums.reshape(packed.shape)


def _unpacked(header: Header, packed: np.ndarray) -> np.ndarray:
    """Samples [H, W, C] from the bytes of rows without filters."""
    info = header.info
    bits = info.bits_per_sample
    if bits == 8:
        return packed.reshape(len(packed), -1, info.channels)
    if bits == 16:
        return np.ascontiguousarray(packed).view(">u2").astype(np.uint16).reshape(len(packed), -1, info.channels)
    spread = packed[..., None] >> np.arange(8 - bits, -1, -bits, dtype=np.uint8) & ((1 << bits) - 1)
    samples = spread.reshape(len(packed), -1, 1)
    # Shades of 2 and 4 bits are spread over 0..255, as every PNG reader does.
    return samples * (255 // ((1 << bits) - 1)) if info.photometric != "palette" and bits in (2, 4) else samples


def _by_libpng(header: Header, rows: np.ndarray) -> np.ndarray:
    import imagecodecs

    info = header.info
    data = minimal_png(header, as_grey=info.photometric == "palette", rows=rows.reshape(-1).data, height=len(rows))
    return _unspread(header, imagecodecs.png_decode(data).reshape(len(rows), info.width, info.channels))


def read_interlaced(header: Header, request: Request) -> np.ndarray:
    """The stored samples of `request` of an interlaced PNG, which is decoded whole."""
    import imagecodecs

    info = header.info
    verify_data(header)
    # libpng warns on stderr; libspng does not.
    whole = imagecodecs.spng_decode(minimal_png(header, as_grey=info.photometric == "palette"))
    return crop(_unspread(header, whole.reshape(info.height, info.width, info.channels)), request)


def _unspread(header: Header, samples: np.ndarray) -> np.ndarray:
    """What a decoder gave, without the spreading of bits and indices over 0..255 that every one of them does."""
    bits = header.info.bits_per_sample
    spread = bits == 1 or (header.info.photometric == "palette" and bits < 8)
    return samples // (255 // ((1 << bits) - 1)) if spread else samples
