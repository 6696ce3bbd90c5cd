"""TIFF and BigTIFF directories: a bounded reader of tags, which never trusts a count or an offset."""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.source import Source

# type -> NumPy kind and size; rationals are read as pairs of longs
TYPES = {
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "u8", 11: "f4", 12: "f8",
    13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
SHORT = {3: 2, 4: 4}  # types that most integers have, and their bytes
MAX_ENTRIES = 4096
# Tags on which the samples depend: said twice, they must say the same.
DECIDE = {
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347, 529,
    530, 532, 32997,
}  # fmt: skip
# Tags whose numbers are near to those: of TIFF 6 and its supplements, XMP, DNG.
KNOWN = {*range(254, 344), *range(433, 436), *range(512, 533), 700, *range(50706, 51182)}
# Of all directories together: overlapping directories in a small file could otherwise cost minutes and gigabytes.
MAX_ENTRIES_TOGETHER = 1 << 19


@dataclass(frozen=True)
class TiffFile:
    """Byte order ("<" or ">"), the flavour, and where the first directory is."""

    source: Source
    order: str
    big: bool
    first: int


@dataclass(frozen=True)
class Ifd:
    """One directory: for each tag its type, its count and the offset of its values."""

    file: TiffFile
    offset: int
    tags: dict[int, tuple[int, int, int]]
    next: int

    def array(self, tag: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values `start` to `stop` of a tag (all by default), read from the file now; empty if it is absent."""
        if tag not in self.tags:
            return np.zeros(0, np.uint8)
        kind, count, offset = self.tags[tag]
        stop = count if stop is None else min(stop, count)
        dtype = np.dtype(self.file.order + TYPES[kind])
        data = self.file.source.pread(offset + start * dtype.itemsize, max(0, stop - start) * dtype.itemsize)
        return np.frombuffer(data, dtype)

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag's values."""
        return self.array(tag).tobytes()

    def ints(self, tag: int, default: tuple[int, ...] = (), most: int = 64) -> tuple[int, ...]:
        """The values of a short integer tag; `default` if it is absent."""
        if tag not in self.tags:
            return default
        kind, count, _ = self.tags[tag]
        if count > most or TYPES[kind][0] == "f" or kind in (5, 10):
            reason = f"its TIFF tag {tag} has {count} values of type {kind}, which makes no sense"
            raise ImageReadError(self.file.source.path, reason, "the file is damaged: export it again")
        return tuple(int(v) for v in self.array(tag)) or default

    def int(self, tag: int, default: int) -> int:
        """The first value of an integer tag; `default` if it is absent."""
        kind, count, offset = self.tags.get(tag, (0, 0, 0))
        if count == 1 and kind in SHORT:  # most of them, and a page has twenty
            data = self.file.source.pread(offset, SHORT[kind])
            return int.from_bytes(data, "little" if self.file.order == "<" else "big")
        return self.ints(tag, (default,))[0]


def open_tiff(source: Source) -> TiffFile:
    """Read the 8 or 16 bytes at the start."""
    magic = source.pread(0, min(16, source.size))
    order = {b"II": "<", b"MM": ">"}[magic[:2]]
    version = struct.unpack_from(order + "H", magic, 2)[0] if len(magic) >= 8 else 0
    if version == 43 and len(magic) == 16:
        size, zero, first = struct.unpack_from(order + "HHQ", magic, 4)
        if size == 8 and zero == 0:
            return TiffFile(source, order, True, first)
    if version == 42:
        return TiffFile(source, order, False, struct.unpack_from(order + "I", magic, 4)[0])
    raise ImageReadError(source.path, "its TIFF header is malformed", "the file is damaged: copy or export it again")


def read_ifd(file: TiffFile, offset: int) -> Ifd:
    """One directory at `offset`. Every value must lie inside the file, whatever its count says."""
    source, order, big = file.source, file.order, file.big
    head, entry, pointer = (8, 20, 8) if big else (2, 12, 4)
    (count,) = struct.unpack(order + ("Q" if big else "H"), source.pread(offset, head))
    if not 0 < count <= MAX_ENTRIES:
        reason = f"its directory at byte {offset} claims {count} entries"
        raise ImageReadError(source.path, reason, "the file is damaged: copy or export it again")
    data = source.pread(offset + head, count * entry)
    entries: list[tuple[int, int, int, int]] = []
    for i in range(count):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, i * entry)
        if tag == kind == 0:
            continue  # some writers pad with empty entries
        place = offset + head + i * entry + (12 if big else 8)
        if kind in TYPES and number * int(TYPES[kind][1]) > pointer:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, i * entry + (12 if big else 8))
        entries.append((tag, kind, number, place))
    _check_order(source, offset, [tag for tag, *_ in entries])
    tags: dict[int, tuple[int, int, int]] = {}
    for tag, kind, number, place in entries:
        if kind not in TYPES:
            continue
        if tag not in tags:  # of a tag that comes twice, every reader takes the first
            tags[tag] = kind, number, place
        elif tag in DECIDE and _values(source, order, tags[tag]) != _values(source, order, (kind, number, place)):
            reason = f"its directory at byte {offset} has tag {tag} twice, with different values"
            raise ImageReadError(source.path, reason, "the file is damaged: export it again")
    end = offset + head + count * entry
    # Some writers end the file right after the last entry; then there is no further directory.
    following = (
        struct.unpack(order + ("Q" if big else "I"), source.pread(end, pointer))[0]
        if end + pointer <= source.size
        else 0
    )
    return Ifd(file, offset, tags, following)


def _values(source: Source, order: str, tag: tuple[int, int, int]) -> list[object]:
    kind, number, place = tag
    dtype = np.dtype(order + TYPES[kind])
    values: list[object] = np.frombuffer(source.pread(place, number * dtype.itemsize), dtype).tolist()
    return values


def _check_order(source: Source, offset: int, tags: list[int]) -> None:
    """TIFF demands ascending tags. Many a writer sorts them badly, but never into nonsense.

    A tag out of order may have lost its meaning to a damaged byte, and a default would step in, in silence. So what
    must be moved to sort the others may not be one byte away from a tag that decides and is absent.
    """
    if all(a <= b for a, b in itertools.pairwise(tags)):
        return
    # The longest ascending run, by patience sorting; what is not in it is out of place.
    ends: list[int] = []
    places: list[int] = []
    for tag in tags:
        places.append(bisect.bisect_right(ends, tag))
        ends[places[-1] : places[-1] + 1] = [tag]
    length = len(ends)
    moved = []
    for tag, place in zip(reversed(tags), reversed(places), strict=True):
        if place == length - 1:
            length -= 1
        else:
            moved.append(tag)
    absent = DECIDE.difference(tags)
    for tag in moved:
        for meant in absent if tag not in DECIDE | KNOWN else ():
            if tag >> 8 == meant >> 8 or tag & 0xFF == meant & 0xFF:
                reason = f"its directory at byte {offset} is out of order, and its tag {tag} may have been {meant}"
                raise ImageReadError(source.path, reason, "the file is damaged: export it again")


def walk(file: TiffFile, after: Ifd | None = None) -> Iterator[Ifd]:
    """The chain of directories, or what is left of it behind one; it stops at a loop and at a damaged link."""
    seen = set() if after is None else {after.offset}
    entries = 0
    offset = file.first if after is None else after.next
    while offset and offset not in seen:
        seen.add(offset)
        try:
            ifd = read_ifd(file, offset)
        except ImageReadError:
            if len(seen) == 1:
                raise
            return  # a damaged later directory does not make the earlier pages unreadable
        entries += len(ifd.tags)
        if entries > MAX_ENTRIES_TOGETHER:
            reason = f"its directories have more than {MAX_ENTRIES_TOGETHER} entries together"
            raise ImageReadError(file.source.path, reason, "split it into several files")
        yield ifd
        offset = ifd.next
