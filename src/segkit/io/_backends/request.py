"""What a backend is, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from segkit.io._headers.info import Header


@dataclass(frozen=True)
class Request:
    """What to read of the stored samples: rows and columns `window` = (top, left, height, width), and `channels`.

    Example:
        >>> Request((0, 0, 2, 3), (0,)).shape
        (2, 3, 1)
    """

    window: tuple[int, int, int, int]
    channels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array to return."""
        return self.window[2], self.window[3], len(self.channels)


@runtime_checkable
class Backend(Protocol):
    """A reader that promises to give stored samples exactly, or to say beforehand why it cannot.

    Subclassing is not needed: any object with these members will do. Hand it to ``backend=`` of `read_image`,
    `read_mask` or `open_image`. Make it picklable if worker processes are to use it. One for a format that segkit does
    not know has a further method ``header(source, page, level)``, which gives a `Header`.

    Attributes:
        name: how messages call it.

    Example:
        >>> class Zeros:
        ...     name = "zeros"
        ...
        ...     def refuses(self, header):
        ...         return "" if header.info.format == "PNG" else "it reads PNG only"
        ...
        ...     def read(self, header, request):
        ...         return np.zeros(request.shape, header.info.dtype)
        >>> isinstance(Zeros(), Backend)
        True
    """

    name: str

    def refuses(self, header: Header) -> str:
        """Why this backend would not give the stored samples of this page; "" if it would, proven by the header."""
        ...

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples [H, W, C] of `request`: dtype of ``header.info.dtype``, RGB order, native byte order."""
        ...


def crop(whole: np.ndarray, request: Request) -> np.ndarray:
    """The part of a whole [H, W, C] image that was asked for."""
    top, left, height, width = request.window
    part = whole[top : top + height, left : left + width]
    if request.channels != tuple(range(whole.shape[2])):
        part = part[..., list(request.channels)]
    return part
