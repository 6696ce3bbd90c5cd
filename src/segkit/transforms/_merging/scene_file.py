"""A tiled TIFF that is written row by row, can be left in the middle and gone on with, and appears when it is whole.

Beside the file's place, ``.NAME.part`` holds the tiles as they come and ``.NAME.rows`` what is known of them: a line
that says of what picture, then where each tile begins and how long it is. What follows the last whole row of tiles is
thrown away when the work goes on, so that the finished file is the same to the last byte.
"""

from __future__ import annotations

import json
import os
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from segkit.errors import ImageWriteError

TILE = 256
HEAD = 16  # bytes: BigTIFF's header, the longer of the two
LEVEL = 1  # of deflate: labels shrink well at any, and this is the fastest

# Resolution, and what GeoTIFF says of the place: they hold for a map of the scene as for the scene.
COPIED = (282, 283, 296, 33550, 33922, 34264, 34735, 34736, 34737, 50844)
FORMATS = {
    1: "B",
    2: "s",
    3: "H",
    4: "I",
    5: "2I",
    6: "b",
    8: "h",
    9: "i",
    10: "2i",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
}

Tag = tuple[int, int, int, bytes]  # code, type, count, little-endian values


class SceneFile:
    """The file being written.

    Args:
        path: where it appears in the end.
        size: (height, width).
        scene: a file whose resolution and georeference are copied, if it is a TIFF; None for no such.
        of: what the picture is made of, in a line. A part of another one is thrown away.

    Attributes:
        done: the rows that an earlier, interrupted run has left; a multiple of the tile's side, or all.
    """

    def __init__(self, path: str, size: tuple[int, int], scene: str | None, of: str) -> None:
        self.path = path
        self.size = size
        self.tags = [] if scene is None else copied_tags(scene)
        folder, name = os.path.split(path)
        self._part, self._rows = (os.path.join(folder, f".{name}.{end}") for end in ("part", "rows"))
        self._across = -(-size[1] // TILE)
        self._of = [1, TILE, LEVEL, *size, of]
        self._layout: tuple[int, str] | None = None  # samples a pixel and their dtype, when they are known
        self._tiles: list[tuple[int, int]] = []
        self._at_work: list[Future[bytes]] = []
        self._band: np.ndarray | None = None
        try:
            self._open()
        except OSError as error:
            raise self._failed(error) from error
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="segkit-tiles")  # imagecodecs frees the lock
        self.done = min(size[0], len(self._tiles) // self._across * TILE)
        self._filled = self.done

    def _open(self) -> None:
        self._data = os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            self._lock()
        except OSError:
            self._data.close()
            raise
        self._log = os.fdopen(os.open(self._rows, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        head = self._log.readline()
        try:
            *of, samples, dtype = json.loads(head)
        except ValueError:  # nothing, or half a line
            of = []
        if of == self._of:
            listed = self._log.read()
            entries = np.frombuffer(listed[: len(listed) // 16 * 16], "<u8").reshape(-1, 2)
            there = os.fstat(self._data.fileno()).st_size
            whole = int(np.count_nonzero(entries.sum(1) <= there)) // self._across
            self._layout = samples, dtype
            self._tiles = [(int(offset), int(count)) for offset, count in entries[: whole * self._across]]
        self._log.truncate(len(head) + 16 * len(self._tiles) if self._layout else 0)
        self._log.seek(0, os.SEEK_END)
        self._end = sum(self._tiles[-1]) if self._tiles else HEAD
        self._data.truncate(self._end)
        self._data.seek(self._end)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._data, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError:
            raise ImageWriteError(
                self.path, "another process is writing it", "wait for that one, or choose another file"
            ) from None

    def write(self, top: int, rows: np.ndarray) -> None:
        """Take the rows [top, top + n), [n, W, samples]; rows come in order; those that are done are passed over."""
        if all(work.done() for work in self._at_work):
            self._collect()
        rows = rows[max(0, self._filled - top) :]
        if self._band is None:
            self._band = self._first_band(rows)
        while len(rows):
            start = self._filled % TILE
            taken = rows[: TILE - start]
            self._band[start : start + len(taken), : self.size[1]] = taken
            self._filled += len(taken)
            rows = rows[len(taken) :]
            if self._filled % TILE == 0 or self._filled == self.size[0]:
                self._hand_in(self._band)
                self._band = np.zeros_like(self._band)

    def _first_band(self, rows: np.ndarray) -> np.ndarray:
        """The row of tiles that fills; what its pixels are is noted."""
        samples, dtype = layout = rows.shape[2], rows.dtype.newbyteorder("<").str
        if dtype == "<i2":
            samples, dtype = layout = samples, "<u2"  # class numbers, which programs expect to be unsigned
        if self._layout not in (None, layout):
            raise ImageWriteError(
                self.path,
                f"the part that an interrupted run left holds {self._layout}, and now {layout} comes",
                f"delete {self._part!r} to start again",
            )
        if self._layout is None:
            self._layout = layout
            self._log.write(json.dumps([*self._of, *layout]).encode() + b"\n")
        return np.zeros((TILE, self._across * TILE, samples), dtype)

    def _hand_in(self, band: np.ndarray) -> None:
        """A row of tiles goes to the pool; the one before, which is ready by now, into the file."""
        self._collect()
        sides = range(0, band.shape[1], TILE)
        self._at_work = [self._pool.submit(_encode, band[:, left : left + TILE]) for left in sides]

    def _collect(self) -> None:
        if not self._at_work:
            return
        found = []
        try:
            for work in self._at_work:
                data = work.result()
                self._data.write(data)
                found.append((self._end, len(data)))
                self._end += len(data)
            self._data.flush()
            self._log.write(np.array(found, "<u8").tobytes())
            self._log.flush()
        except OSError as error:
            raise self._failed(error) from error
        self._tiles += found
        self._at_work = []

    def finish(self) -> None:
        """Write the directory, and move the file to its place."""
        self._collect()
        self._pool.shutdown()
        try:
            self._data.write(b"\0" * (-self._end % 8))
            place = self._data.tell()
            big = place + 16 * len(self._tiles) + 2**16 + sum(len(tag[3]) for tag in self.tags) >= 2**32
            self._data.write(directory(place, self._all_tags(), big))
            self._data.seek(0)
            self._data.write(
                struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) if big else struct.pack("<2sHI", b"II", 42, place)
            )
            self._data.flush()
            os.fsync(self._data.fileno())  # or a power cut could leave the name with the contents missing
            os.replace(self._part, self.path)
            self._data.close()
            self._log.close()
            os.unlink(self._rows)
        except OSError as error:
            raise self._failed(error) from error

    def _all_tags(self) -> list[Tag]:
        (height, width), (samples, name) = self.size, self._layout or (1, "|u1")
        dtype = np.dtype(name)
        kind, bits = {"u": 1, "i": 2, "f": 3}[dtype.kind], dtype.itemsize * 8

        def tag(code: int, type_: int, *values: int) -> Tag:
            return code, type_, len(values), struct.pack(f"<{len(values)}{FORMATS[type_]}", *values)

        offsets, counts = zip(*self._tiles, strict=True)
        offset_type = 16 if self._end >= 2**31 else 4
        own = [
            tag(256, 4, width),
            tag(257, 4, height),
            tag(258, 3, *[bits] * samples),
            tag(259, 3, 8),  # deflate
            tag(262, 3, 1),  # black is zero
            tag(277, 3, samples),
            tag(284, 3, 1),
            tag(322, 3, TILE),
            tag(323, 3, TILE),
            tag(324, offset_type, *offsets),
            tag(325, 4, *counts),
            tag(339, 3, *[kind] * samples),
        ]
        if samples > 1:
            own.append(tag(338, 3, *[0] * (samples - 1)))
        return sorted([*own, *self.tags])

    def close(self) -> None:
        """Leave it as it is: the next run goes on from here."""
        self._collect()
        self._pool.shutdown()
        self._data.close()
        self._log.close()

    def _failed(self, error: OSError) -> ImageWriteError:
        if isinstance(error, ImageWriteError):
            return error
        return ImageWriteError(
            self.path, error.strerror or str(error), "check the folder, its permissions and its space"
        )


def _encode(tile: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.deflate_encode(tile.tobytes(), level=LEVEL))


def directory(place: int, tags: list[Tag], big: bool) -> bytes:
    """An image file directory that begins at `place`, with the values that do not fit into it behind."""
    number, entry, pointer = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    room = 8 if big else 4
    size = struct.calcsize(number) + (20 if big else 12) * len(tags) + struct.calcsize(pointer)
    head, behind = [struct.pack(number, len(tags))], b""
    start = place + size + (-(place + size) % 8)
    for code, type_, count, values in tags:
        head.append(struct.pack(entry, code, type_, count))
        if len(values) <= room:
            head.append(values.ljust(room, b"\0"))
        else:
            head.append(struct.pack(pointer, start + len(behind)))
            behind += values + b"\0" * (-len(values) % 8)
    head.append(struct.pack(pointer, 0))
    return b"".join(head).ljust(start - place, b"\0") + behind


def copied_tags(scene: str) -> list[Tag]:
    """The resolution and georeference of a scene; none where it is no TIFF, or one that is turned when it is read."""
    import tifffile

    try:
        with tifffile.TiffFile(scene) as file:
            tags, order = file.pages[0].tags, file.byteorder
            if int(tags.valueof(274, 1)) != 1:
                return []
            found: list[Tag] = []
            for code in COPIED:
                if code in tags:
                    tag = tags[code]
                    form = FORMATS[int(tag.dtype)]
                    size = struct.calcsize(f"={form}") * tag.count
                    file.filehandle.seek(tag.valueoffset)
                    found.append((code, int(tag.dtype), tag.count, _little(file.filehandle.read(size), form, order)))
            return found
    except (tifffile.TiffFileError, OSError, KeyError, IndexError):
        return []  # a PNG, a remote file; what is wrong with a scene is said where it is read


def _little(data: bytes, form: str, order: str) -> bytes:
    if form[-1] in "Bbs" or order == "<":
        return data
    item: Any = np.dtype(form[-1])
    return np.frombuffer(data, item.newbyteorder(">")).astype(item.newbyteorder("<")).tobytes()
