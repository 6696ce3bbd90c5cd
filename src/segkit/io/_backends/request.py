"""What a backend is, which ones there are, and who reads what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segkit.io._headers.info import Header

__all__ = ["Backend", "Request", "backends", "register_backend"]


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


class Backend(Protocol):
    """A reader that promises to give stored samples exactly, or to say beforehand why it cannot.

    Subclassing is not needed: any object with these members will do. Hand it to `register_backend`.

    Attributes:
        name: what a user writes in ``backend=``.

    Example:
        >>> class Zeros:
        ...     name = "zeros"
        ...
        ...     def refuses(self, header):
        ...         return "" if header.info.format == "PNG" else "it reads PNG only"
        ...
        ...     def read(self, header, request):
        ...         return np.zeros(request.shape, header.info.dtype)
        >>> backend: Backend = Zeros()
    """

    name: str

    def refuses(self, header: Header) -> str:
        """Why this backend would not give the stored samples of this page; "" if it would, proven by the header."""
        ...

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples [H, W, C] of `request`: dtype of ``header.info.dtype``, RGB order, native byte order."""
        ...


_extra: list[Backend] = []


def backends(header: Header | None = None) -> list[Backend]:
    """All backends in the order in which ``backend="auto"`` asks them for this file.

    Example:
        >>> sorted(backend.name for backend in backends())[-3:]
        ['opencv', 'pillow', 'tifffile']
    """
    from segkit.io._backends.opencv import OpenCV
    from segkit.io._backends.pillow import Pillow
    from segkit.io._backends.tifffile import Tifffile

    tiff = header is not None and header.info.format in ("TIFF", "BigTIFF")
    # Pillow first for palettes and few bits: their rows are rarely filtered, and then need no decoder.
    plain = header is not None and (header.info.photometric == "palette" or header.info.bits_per_sample < 8)
    builtin: list[Backend] = [Pillow(), OpenCV(), Tifffile()] if plain else [OpenCV(), Pillow(), Tifffile()]
    if tiff:
        builtin = [Tifffile(), OpenCV(), Pillow()]
    return [*_extra, *builtin]


def register_backend(backend: Backend) -> None:
    """Add a reader of your own: ``backend="auto"`` asks it first, and its `name` selects it.

    Registering the same name again replaces the earlier one. It holds for this process (a forked worker inherits it).

    Args:
        backend: any object with the members of `Backend`.

    Raises:
        ValueError: the name is one of the built-in ones.

    Example:
        >>> class Nothing:
        ...     name = "nothing"
        ...
        ...     def refuses(self, header):
        ...         return "it reads nothing"
        ...
        ...     def read(self, header, request):
        ...         raise AssertionError
        >>> register_backend(Nothing())
        >>> backends()[0].name
        'nothing'
        >>> _extra.clear()
    """
    if backend.name in ("auto", "opencv", "pillow", "tifffile"):
        raise ValueError(
            f"register_backend: the name must not be a built-in one, got {backend.name!r}. Choose another name."
        )
    _extra[:] = [backend, *(other for other in _extra if other.name != backend.name)]


def crop(whole: np.ndarray, request: Request) -> np.ndarray:
    """The part of a whole [H, W, C] image that was asked for."""
    top, left, height, width = request.window
    part = whole[top : top + height, left : left + width]
    if request.channels != tuple(range(whole.shape[2])):
        part = part[..., list(request.channels)]
    return part


def describe(values: Sequence[str]) -> str:
    """'a', 'b' or 'c', for messages."""
    quoted = [repr(v) for v in values]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]
