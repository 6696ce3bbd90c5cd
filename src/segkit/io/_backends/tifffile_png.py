"""PNG through imagecodecs: inflated by libdeflate, and unfiltered without a decoder where the rows allow it."""

from __future__ import annotations

import numpy as np

from segkit.io._backends.png_rows import deflated, inflate_rows, row_bytes
from segkit.io._backends.request import Request, crop
from segkit.io._headers.info import Header
from segkit.io._headers.png import minimal_png, verify_data

SUB, UP = 1, 2  # filters that are sums along a row and down a column; 0 is none, and those above need a decoder
# libdeflate takes 0.4 to 0.6 of zlib's time, but inflates all rows or none (benchmarks/bench_decoders.py).
WORTH_ALL = 0.6


def _inflated(header: Header, height: int) -> np.ndarray:
    """Filter byte and packed samples [height, bytes] of the first rows."""
    size, data = row_bytes(header, header.info.width), None
    if height >= WORTH_ALL * header.info.height:
        data = _inflate_all(deflated(header), header.info.height * size)
    if data is None:
        data = inflate_rows(header, height)
    return np.frombuffer(data, np.uint8)[: height * size].reshape(height, size)


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
    rows = _inflated(header, top + height)
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
    packed = rows[:, 1 : row_bytes(header, columns)]
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
