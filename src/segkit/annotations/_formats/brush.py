"""Label Studio's brush: a stream of bits, for the RGBA values of an image, row by row.

32 bits: how many values; 5: the bits of a value, less one; 4 times 4: the bits that four kinds of lengths take, less
one. Then blocks until all values are there: 1 bit: is it a run; 2: which kind of length; the length, less one; then
one value for a run, or as many as it is long. Only alpha counts, and any alpha above 0 is painted: brushes have soft
edges.
"""

from __future__ import annotations

import numpy as np

from segkit.errors import DataError

__all__ = ["brush_lengths"]


def brush_lengths(data: list[int]) -> np.ndarray:
    """The lengths of runs, zeros first and along the rows, of the pixels that were painted.

    Raises:
        DataError: the stream is damaged or ends too early.
    """
    try:
        raw = bytes(data)
    except (TypeError, ValueError):
        wrong = [v for v in data if not isinstance(v, int) or not 0 <= v < 256] if isinstance(data, list) else data
        raise DataError(f"its rle must be a list of bytes, got {wrong!r:.60}") from None
    bits = _Bits(raw)
    total, word = bits.take(32), bits.take(5) + 1
    sizes = [bits.take(4) + 1 for _ in range(4)]
    if total % 4:
        raise DataError(f"its rle must hold four values for each pixel, got {total} values")
    edges: list[int] = []  # where painted pixels begin and end, in turn
    at = 0
    while at < total:
        head = bits.take(3)
        length = bits.take(sizes[head & 3]) + 1
        if at + length > total:
            raise DataError(f"its rle must hold {total} values, got a block that ends at {at + length}")
        first, last = at // 4, (at + length) // 4  # the pixels whose alpha, the last of four, lies in this block
        if head & 4:
            pieces = [(first, last)] if bits.take(word) and last > first else []
        else:
            painted = bits.words(length, word)[(3 - at) % 4 :: 4] != 0
            changes = np.flatnonzero(np.diff(painted.astype(np.int8), prepend=0, append=0)) + first
            pieces = list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))
        for piece in pieces:
            edges += piece
        at += length
    return np.diff(np.array(edges, np.int64), prepend=0, append=total // 4)


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, count: int) -> int:
        """A number of at most 32 bits."""
        byte, shift = divmod(self._at, 8)
        piece = self._raw[byte : byte + 5]
        if 8 * len(piece) < shift + count:
            raise DataError("its rle ends too early")
        self._at += count
        return int.from_bytes(piece, "big") >> (8 * len(piece) - shift - count) & ((1 << count) - 1)

    def words(self, count: int, size: int) -> np.ndarray:
        """Several numbers of the same size."""
        byte, shift = divmod(self._at, 8)
        end = self._at + count * size
        if end > 8 * len(self._raw):
            raise DataError("its rle ends too early")
        bits = np.unpackbits(np.frombuffer(self._raw[byte : -(-end // 8)], np.uint8))[shift : shift + count * size]
        self._at = end
        return bits.reshape(count, size) @ (1 << np.arange(size - 1, -1, -1, dtype=np.int64))
