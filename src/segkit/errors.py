"""What went wrong: the exceptions that segkit raises for files and data.

Every error says which function, which argument or file, what was expected, what came, and what to do next.
Wrong *arguments* raise Python's own ``ValueError`` and ``TypeError``. The classes below are for *data*: they
are also the builtin that one expects (``OSError`` for files, ``ValueError`` for contents), so code that catches
the builtin goes on working.

Example:
    >>> from segkit.errors import ImageReadError
    >>> error = ImageReadError("scan.tif", "strip 3 ends after 10 of 512 bytes", "copy the file again")
    >>> str(error)
    "cannot read 'scan.tif': strip 3 ends after 10 of 512 bytes. Copy the file again."
    >>> isinstance(error, OSError)
    True
"""

from __future__ import annotations

import os

__all__ = ["DataError", "ImageReadError", "ImageReadWarning", "ImageWriteError", "SegkitError"]


class SegkitError(Exception):
    """Base of all errors about data: catch it to skip a bad file and go on.

    Example:
        >>> issubclass(ImageReadError, SegkitError)
        True
    """


class _FileError(SegkitError, OSError):
    """An error about one file. All three parts are kept, so that a report can show them apart."""

    _verb = "use"
    function = ""  # what the user called, once it is known

    # `reason` has a default because torch's DataLoader rebuilds a worker's exception from its message alone.
    def __init__(self, path: str | os.PathLike[str], reason: str = "", hint: str = "") -> None:
        self.path = os.fspath(path)
        self.reason = reason
        self.hint = hint
        super().__init__(self.path, reason, hint)

    def __str__(self) -> str:
        if not self.reason:
            return self.path
        called = f"{self.function}: " if self.function else ""
        hint = f" {self.hint[0].upper()}{self.hint[1:].rstrip('.')}." if self.hint else ""
        return f"{called}cannot {self._verb} {self.path!r}: {self.reason.rstrip('.')}.{hint}"

    def __reduce__(self) -> tuple[type[_FileError], tuple[str, str, str], dict[str, str]]:
        return type(self), (self.path, self.reason, self.hint), {"function": self.function}


class ImageReadError(_FileError):
    """A file cannot be read as it is stored: damaged, unsupported, or beyond what the chosen backend can do.

    Args:
        path: the file.
        reason: what is wrong with it, without the path.
        hint: what to do next; empty when there is nothing to do.

    Example:
        >>> try:
        ...     raise ImageReadError("a.png", "the file is empty", "delete it")
        ... except OSError as error:
        ...     print(error.reason)
        the file is empty
    """

    _verb = "read"


class ImageReadWarning(UserWarning):
    """A file holds more than what was read: further pages. The message names the choices.

    Example:
        >>> issubclass(ImageReadWarning, UserWarning)
        True
    """


class ImageWriteError(_FileError):
    """An array cannot be written to this file without losing something, or the file system refused it.

    Args:
        path: the file.
        reason: what the format cannot hold, or what the file system said.
        hint: a format that can hold it, or what to do next.

    Example:
        >>> str(ImageWriteError("mask.jpg", "JPEG changes labels", "write 'mask.png'"))
        "cannot write 'mask.jpg': JPEG changes labels. Write 'mask.png'."
    """

    _verb = "write"


class DataError(SegkitError, ValueError):
    """The contents of a data set do not fit together: no pairs, unknown labels, shapes that cannot be stacked.

    Example:
        >>> issubclass(DataError, ValueError)
        True
    """
