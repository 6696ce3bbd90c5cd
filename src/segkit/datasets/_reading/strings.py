"""Many strings that workers share instead of copying."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np


class FlatStrings:
    """Many byte strings in two arrays: no Python object per string, whose reference counts would copy pages.

    Example:
        >>> FlatStrings([b"a.png", b"b.png"])[1]
        b'b.png'
    """

    def __init__(self, strings: Sequence[bytes]) -> None:
        self._ends = np.cumsum([len(string) for string in strings], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(strings), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        start = int(self._ends[index - 1]) if index else 0
        return self._bytes[start : int(self._ends[index])].tobytes()


def packed(files: Sequence[str]) -> bytes:
    """Paths as one string: they are joined by a byte that none can hold."""
    return b"\0".join(map(os.fsencode, files))


def unpacked(files: bytes) -> tuple[str, ...]:
    """The paths of `packed`."""
    return tuple(map(os.fsdecode, files.split(b"\0"))) if files else ()
