"""The pixels of a file in windows that fit into memory: one, the whole, for all but very large images.

Which windows is decided by the pixels and not by the file, so that equal pixels give equal numbers in any format.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from segkit import io

_LARGE = 2**26  # bytes of decoded samples: 64 MiB
_WINDOW = 2048
_CANVAS = 1024
_TIFF = ("TIFF", "BigTIFF")  # of these a window is read without the rest
Window = tuple[int, int, int, int]


class Pixels(NamedTuple):
    """The size of an image, every which of its pixels is kept for what needs the whole picture, and its windows."""

    height: int
    width: int
    step: int
    windows: Iterator[tuple[int, int, np.ndarray]]  # top, left, pixels [h, w, C] or [h, w]

    def canvas(self, dtype: np.dtype, value: Any = 0) -> np.ndarray:
        """Room for the kept pixels, [H, W]."""
        return np.full((-(-self.height // self.step), -(-self.width // self.step)), value, dtype)

    def keep(self, canvas: np.ndarray, top: int, left: int, window: np.ndarray) -> None:
        """Put the kept pixels of a window, [h, w], into their place."""
        small = window[:: self.step, :: self.step]
        canvas[top // self.step :, left // self.step :][: small.shape[0], : small.shape[1]] = small


def pixels_of(
    info: io.ImageInfo, read: Callable[[Window | None], np.ndarray], *, step: int | None = None, cut: bool = True
) -> Pixels:
    """The windows of an image.

    Args:
        info: its header.
        read: the pixels of a window of the upright image; of all when None.
        step: every which pixel is kept; by default all where one window does, else so many that they are few.
        cut: whether a window can be read without the rest, if the format allows it.
    """
    height, width = info.upright_size
    whole = None
    if cut and info.format in _TIFF and height * width * max(info.channels, 4) * info.dtype.itemsize > _LARGE:
        each = _weight(read((0, 0, 1, 1)))
    else:
        whole = read(None)
        height, width = whole.shape[:2]
        each = _weight(whole[:1, :1])
    large = height * width * each > _LARGE
    step = step or (-(-max(height, width) // _CANVAS) if large else 1)
    side = max(_WINDOW // step, 1) * step if large else max(height, width)

    def windows() -> Iterator[tuple[int, int, np.ndarray]]:
        for top in range(0, height, side):
            for left in range(0, width, side):
                window = top, left, min(side, height - top), min(side, width - left)
                yield top, left, read(window) if whole is None else whole[top : top + side, left : left + side]

    return Pixels(height, width, step, windows())


def _weight(pixel: np.ndarray) -> int:
    """Bytes of a pixel; a label counts as one, so that equal labels come in equal windows whatever their type."""
    return pixel.nbytes if pixel.ndim == 3 else 1


class Digest:
    """128 bits of an image that comes in windows: equal for equal windows, and else not.

    A sum of all bytes, and a strong hash of every sixteenth row: two images that differ have one of them different but
    for one chance in 2**32, and then only if those rows are the same. A strong hash of everything takes a quarter of
    the time of decoding.
    """

    def __init__(self) -> None:
        self._sum, self._rows = 0, hashlib.sha256()

    def add(self, window: np.ndarray) -> None:
        """Go on with the next window."""
        window = np.ascontiguousarray(window)
        self._sum = zlib.crc32(window.data, self._sum)
        self._rows.update(np.ascontiguousarray(window[::16]).data)

    def of(self, height: int, width: int, kind: str) -> np.ndarray:
        """The digest of an image of this size and kind, uint64 [2]."""
        self._rows.update(f"{kind} {height} {width} {self._sum}".encode())
        return np.frombuffer(self._rows.digest()[:16], "<u8")
