"""Which backends there are, and which of them reads a page."""

from __future__ import annotations

from segkit.errors import ImageReadError
from segkit.io._backends.opencv import OpenCV
from segkit.io._backends.pillow import Pillow
from segkit.io._backends.request import Backend
from segkit.io._backends.tifffile import Tifffile
from segkit.io._headers.info import Header


def backends(header: Header) -> list[Backend]:
    """All backends in the order in which ``backend="auto"`` asks them for this file: the fastest first (docs/io.md)."""
    by_rows = header.info.format in ("PNG", "APNG") and not header.detail.interlaced
    if by_rows or header.info.format in ("TIFF", "BigTIFF", "JPEG"):
        return [Tifffile(), OpenCV(), Pillow()]
    return [OpenCV(), Pillow(), Tifffile()]


def choose(header: Header, backend: str | Backend) -> Backend:
    """The backend that reads this page: the one given or named, or for "auto" the first whose rules allow it."""
    known = backends(header)
    if backend == "auto":
        reasons = []
        for reader in known:
            reason = reader.refuses(header)
            if not reason:
                return reader
            reasons.append(f"{reader.name}: {reason}")
        raise ImageReadError(
            header.path, "no backend gives its samples unchanged: " + "; ".join(reasons), "convert it to PNG or TIFF"
        )
    wanted = next((reader for reader in known if reader.name == backend), None) if isinstance(backend, str) else backend
    if not isinstance(wanted, Backend) or isinstance(wanted, type):  # the class itself is no reader
        names = ", ".join(repr(name) for name in ("auto", *(reader.name for reader in known)))
        raise ValueError(
            f"backend must be one of {names}, or an object with a name and the methods refuses and read (see "
            f"segkit.io.Backend), got {backend!r}. Choose one of them."
        )
    reason = wanted.refuses(header)
    if reason:
        able = [repr(other.name) for other in known if not other.refuses(header)]
        hint = f"use backend={' or '.join(able)}" if able else "convert it to PNG or TIFF"
        raise ImageReadError(header.path, reason, hint)
    return wanted
