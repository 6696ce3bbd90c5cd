"""Bytes of a file at an offset, wherever the file is: a local path by `os.pread`, an address through fsspec, or memory.

`pread` has no file position, so threads share one source. A source pickles as its path, and one that finds itself in
another process (after a fork) opens the file again there: no descriptor is ever shared between processes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import threading
from typing import Any, BinaryIO, Union

import numpy as np

from segkit.errors import ImageReadError

# What can be read: a path, an fsspec address, the contents of a file, or a file that is open in binary mode.
File = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, "BinaryIO"]

HEAD = 1 << 16  # most headers fit in the first read


def is_remote(path: str) -> bool:
    """Whether a path names another file system (``s3://...``) rather than a local file.

    Example:
        >>> is_remote("s3://bucket/scan.tif"), is_remote("C:/scan.tif"), is_remote("D://data//scan.tif")
        (True, False, False)
    """
    scheme = "//" in path and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(:.*:)?//", path, re.DOTALL)  # one letter is a drive
    return bool(scheme)


def at_home(path: str) -> str:
    """A path whose ``~`` is the home folder, unless a file of that very name is there."""
    return os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path


class Source:
    """One file, read by offset. `size` is its length in bytes; use it in a ``with`` block or call `close`."""

    def __init__(self, file: File) -> None:
        file = _path_of(file)
        self.origin: str | bytes = file  # from which another process makes the same source
        self.path = file if isinstance(file, str) else f"<{len(file)} bytes>"
        self.found: dict[str, Any] = {}  # what a parser keeps for its next page
        self._lock = threading.Lock()
        self._fd = -1
        self._remote: Any = None
        self._open()

    def _open(self) -> None:
        self._closed = False
        self._whole: bytes | None = None
        if isinstance(self.origin, bytes):
            self._whole, self.size = self.origin, len(self.origin)
        elif is_remote(self.path):
            self._fd = -1
            self._remote, self._key, self.size = _open_remote(self.path)
        else:
            self._remote = None
            self._fd, self.size = _open_local(self.path)
        if self.size == 0:
            self.close()
            raise ImageReadError(self.path, "the file is empty", "delete it or copy it again")
        self._head = self._fetch(0, min(HEAD, self.size)) if self._whole is None else b""
        self._pid = os.getpid()  # last: another thread takes it as the sign that all is ready

    def _fetch(self, offset: int, count: int) -> bytes:
        try:
            if self._remote is not None:
                return bytes(self._remote.cat_file(self._key, start=offset, end=offset + count))
            parts = []
            while count:
                part = _pread(self._fd, count, offset, self._lock)
                if not part:
                    break
                parts.append(part)
                offset, count = offset + len(part), count - len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except MemoryError as error:
            raise ImageReadError(self.path, f"{count} bytes do not fit into memory", "read a window of it") from error
        except OSError as error:
            reason = f"reading failed at byte {offset}: {error.strerror or error}"
            raise ImageReadError(self.path, reason, "check the disk or the connection") from error

    def pread(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset` on, or ImageReadError when the file ends before."""
        if self._closed:
            raise ImageReadError(self.path, "its handle is closed", "open it again, or read inside the `with` block")
        if os.getpid() != self._pid:
            with self._lock:
                if os.getpid() != self._pid:
                    self._abandon()
                    self._open()
        if offset < 0 or count < 0 or offset + count > self.size:
            raise ImageReadError(
                self.path,
                f"it points at bytes {offset} to {offset + count}, but the file ends after {self.size} bytes",
                "it is truncated or damaged: copy it again",
            )
        if self._whole is not None:
            return self._whole[offset : offset + count]
        if offset + count <= len(self._head):
            return self._head[offset : offset + count]
        data = self._fetch(offset, count)
        if len(data) != count:
            raise ImageReadError(self.path, "the file became shorter while it was read", "read it again")
        return data

    def pread_into(self, offset: int, array: np.ndarray) -> None:
        """Fill a contiguous array with the bytes from `offset` on, without a copy where the platform can."""
        view = array.reshape(-1).view(np.uint8).data
        if hasattr(os, "preadv") and self._fd >= 0 and os.getpid() == self._pid and offset + len(view) <= self.size:
            done = 0
            while done < len(view):
                count = os.preadv(self._fd, [view[done:]], offset + done)
                if not count:
                    break
                done += count
            if done == len(view):
                return
        view[:] = self.pread(offset, len(view))

    def read_all(self) -> bytes:
        """The whole file. It is kept, so what a header said and what a decoder sees are the same bytes."""
        if self._whole is None or os.getpid() != self._pid:
            # From the start again: joining the head to the rest would copy it all.
            self._whole = self.pread(0, self.size)
        return self._whole

    def _abandon(self) -> None:
        # After a fork the number belongs to the child too; closing the child's copy leaves the parent's open.
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Give the descriptor back. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        self._closed, self._whole = True, None
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> tuple[type[Source], tuple[str | bytes]]:
        return type(self), (self.origin,)


def _path_of(file: File) -> str | bytes:
    """The path of a file, or its contents where it has none."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return bytes(file)
    if isinstance(file, (str, os.PathLike)):
        path = os.fspath(file)
        return at_home(os.fsdecode(path))
    if isinstance(file, (io.BufferedReader, io.BufferedRandom, io.FileIO)) and isinstance(file.name, str):
        return os.path.abspath(file.name)  # read by offset, from any process, wherever its position is
    if not hasattr(file, "read") or isinstance(file, io.TextIOBase):  # type: ignore[unreachable]
        raise TypeError(
            "path must be a path, the bytes of a file, or a file that is open in binary mode, got "
            f"{type(file).__name__}. Read one file at a time, and open it with mode 'rb'."
        )
    if not (hasattr(file, "seekable") and file.seekable()):
        return bytes(file.read())
    place = file.tell()
    file.seek(0)
    try:
        return bytes(file.read())
    finally:
        file.seek(place)


def _open_local(path: str) -> tuple[int, int]:
    # O_NONBLOCK: opening a named pipe must not wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageReadError(path, f"it cannot be opened: {reason}", "check the path and its permissions") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ImageReadError(path, f"it is {kind}", "give the path of an image file")
    return fd, status.st_size


def _open_remote(path: str) -> tuple[Any, str, int]:
    try:
        import fsspec
    except ImportError as error:
        reason = "remote paths need fsspec, which is not installed"
        raise ImageReadError(path, reason, 'pip install "segkit[remote]"') from error
    try:
        system, key = fsspec.core.url_to_fs(path)
        size = system.size(key)
        if size is None:  # an HTTP server that does not tell: there is no other way than to fetch it once
            size = len(system.cat_file(key))
        return system, key, int(size)
    except Exception as error:  # each file system has its own exceptions
        reason = f"the remote file cannot be opened: {type(error).__name__}: {error}"
        raise ImageReadError(path, reason, "check the address and the credentials") from error


if hasattr(os, "pread"):

    def _pread(fd: int, count: int, offset: int, lock: threading.Lock) -> bytes:
        return os.pread(fd, count, offset)

else:  # pragma: no cover - Windows has no pread: one reader at a time

    def _pread(fd: int, count: int, offset: int, lock: threading.Lock) -> bytes:
        with lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, count)
