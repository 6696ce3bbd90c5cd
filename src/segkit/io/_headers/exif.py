"""The one thing we take from EXIF: the orientation."""

from __future__ import annotations

import struct


def orientation_of_exif(data: bytes) -> int:
    r"""Orientation 1 to 8 in an EXIF block (a small TIFF, with or without its ``Exif`` prefix); 1 when it has none.

    Example:
        >>> orientation_of_exif(b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0")
        6
        >>> orientation_of_exif(b"nonsense")
        1
    """
    if data[:6] == b"Exif\0\0":
        data = data[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return 1
    (ifd,) = struct.unpack_from(order + "I", data, 4)
    if ifd + 2 > len(data):
        return 1
    (count,) = struct.unpack_from(order + "H", data, ifd)
    for entry in range(ifd + 2, min(ifd + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag == 274 and kind in (3, 4):
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1
