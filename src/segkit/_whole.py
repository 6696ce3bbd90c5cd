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
    """A file to write to, which replaces `path` when all is written; what goes wrong before leaves nothing behind."""
    target = os.fspath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "a folder where a file is to be written", target)
    if not os.path.isdir(os.path.dirname(target) or "."):
        raise FileNotFoundError(errno.ENOENT, "no such folder", os.path.dirname(target))
    part = f"{target}.{os.getpid()}.part"
    try:
        with open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise
