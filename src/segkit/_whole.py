"""Text files that appear at their end, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TextIO

__all__ = ["whole_file"]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A file to write to, which replaces `path` when all is written; what goes wrong before leaves nothing behind.

    A device or a pipe is written as it is: nothing may replace it.
    """
    target = os.fspath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "a folder where a file is to be written", target)
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"no such folder: {folder!r}, for the file", target)
    stream = os.path.exists(target) and not os.path.isfile(target)
    part = target if stream else f"{target}.{os.getpid()}.part"
    try:
        with open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        if not stream:
            os.replace(part, target)
    except BaseException:
        if not stream:
            with contextlib.suppress(OSError):
                os.remove(part)
        raise
