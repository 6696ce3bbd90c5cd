"""Which format a file is, by its first bytes and never by its name; then that format's own parser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.avif_heic import is_heif, parse_heif
from segkit.io._headers.bmp import parse_bmp
from segkit.io._headers.gif_webp import parse_gif, parse_webp
from segkit.io._headers.info import Header
from segkit.io._headers.jp2 import parse_jp2
from segkit.io._headers.jpeg import parse_jpeg
from segkit.io._headers.jpegxl import BARE, BOXED, parse_jpegxl
from segkit.io._headers.png import SIGNATURE, parse_png
from segkit.io._headers.pnm import parse_pnm
from segkit.io._headers.source import Source
from segkit.io._headers.tiff import parse_tiff


def parse(
    source: Source, page: int | None = 0, level: int = 0, *, survey: bool = False, backend: object = "auto"
) -> Header:
    """The header of one page, from a bounded number of bytes.

    Args:
        source: the file.
        page: which page; only TIFFs have more than one that can be read. None is the first, and ``header.several`` then
            says whether there are others.
        level: which resolution of a pyramid.
        survey: count all pages and levels.
        backend: who is going to read it. One that parses headers itself is asked for this one.

    Raises:
        ImageReadError: the format is unknown, or the header is damaged.
    """
    page, level = None if page is None else _index("page", page), _index("level", level)
    own: Callable[[Source, int, int], Header] | None = getattr(backend, "header", None)
    if own is not None:
        return own(source, page or 0, level)
    start = source.pread(0, min(64, source.size))
    if is_tiff(source):
        return parse_tiff(source, page, level, survey=survey)
    if not survey:
        source.read_all()  # the pixels are wanted next, and the parser then walks in memory
    if start[:8] == SIGNATURE:
        header = parse_png(source)
    elif start[:3] == b"\xff\xd8\xff":
        header = parse_jpeg(source)
    elif start[:2] == b"BM":
        header = parse_bmp(source)
    elif start[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"Pf", b"PF") and start[2:3] in b" \t\n\r#":
        header = parse_pnm(source)
    elif start[:6] in (b"GIF87a", b"GIF89a"):
        header = parse_gif(source)
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        header = parse_webp(source)
    elif start[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or start[:4] == b"\xff\x4f\xff\x51":
        header = parse_jp2(source)
    elif start[:2] == BARE or start[:12] == BOXED:
        header = parse_jpegxl(source)
    elif is_heif(start):
        header = parse_heif(source)
    else:
        raise ImageReadError(source.path, *_foreign(source))
    if page or level:
        what = f"page {page}" if page else f"level {level}"
        reason = f"{what} was asked for, but only the first image of a {header.info.format} can be read"
        raise ImageReadError(source.path, reason, "use page=0 and level=0")
    return replace(header, several=True) if page is None and header.info.pages > 1 else header


# Where a file begins, what it then is, and what to do. Everything here has been found under the name of a picture.
_ARRAY = "load it with its own library, or hand a reader of your own to `backend` (docs/io.md)"
_FOREIGN = [
    (0, b"version https://git-lfs", "it is a Git LFS pointer in place of the file", "fetch the file: git lfs pull"),
    (0, b"<", "it is a web page or a drawing in XML", "download it again, or draw it to PNG if it is an SVG"),
    (0, b"\x1f\x8b", "it is packed with gzip", "unpack it first: gunzip FILE"),
    (0, b"PK\x03\x04", "it is a zip archive, or a NumPy .npz", "unpack it first"),
    (0, b"\x93NUMPY", "it is a NumPy array, no image format that segkit knows", _ARRAY),
    (0, b"\x89HDF", "it is HDF5, no image format that segkit knows", _ARRAY),
    (0, b"MATLAB", "it is a MATLAB file, no image format that segkit knows", _ARRAY),
    (128, b"DICM", "it is DICOM, no image format that segkit knows", _ARRAY),
    (344, b"n+1\0", "it is NIfTI, no image format that segkit knows", _ARRAY),
    (0, b"v/1\x01", "it is OpenEXR", "convert it to TIFF, whose floats keep its values"),
    (0, b"8BPS", "it is Photoshop's own format", "export it as PNG or TIFF"),
    (0, b"%PDF", "it is a PDF", "export its pages as PNG"),
    (0, bytes(64), "it begins with zeros, like a file that was never fully written", "copy it again"),
]


def _foreign(source: Source) -> tuple[str, str]:
    """The reason and the hint for a file that is no image."""
    start = source.pread(0, min(352, source.size))
    for place, signature, reason, hint in _FOREIGN:
        if start[place : place + len(signature)] == signature:
            return reason, hint
    return f"its first bytes {start[:8]!r} are no image format that segkit knows", "convert it to PNG or TIFF"


def is_tiff(source: Source) -> bool:
    """Whether a file is read by its blocks, and not as a whole."""
    return source.pread(0, min(4, source.size)) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _index(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        choices = "an integer of at least 0 or 'channels'" if name == "page" else "an integer of at least 0"
        raise ValueError(f"{name} must be {choices}, got {value!r}. The first is 0.")
    return int(value)
