"""The image files of a folder or a list, each with the name that it is matched by."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from segkit.errors import DataError

# What some backend of `segkit.io` may read. Other files (notes, thumbnails' caches) are not part of a data set.
IMAGE_SUFFIXES = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".btf",
        ".dib",
        ".gif",
        ".heic",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jxl",
    ]
    + [".pam", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tf8", ".tif", ".tiff", ".webp"]
)
# Folders that file managers, NAS boxes and zip programs put beside pictures, with small pictures of their own inside.
_NOT_OURS = frozenset(["@eadir", "__macosx", "$recycle.bin", "lost+found"])

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class File(NamedTuple):
    """A path, and its name without suffix; in a folder with the subfolders before it, joined by "/"."""

    path: Any  # of an image in bands: a tuple of paths
    stem: str

    @property
    def folders(self) -> list[str]:
        """The names of all folders above the file, as far as its path tells."""
        path = self.path if isinstance(self.path, str) else self.path[0]
        return [unicodedata.normalize("NFC", part) for part in os.path.dirname(path).split(os.sep) if part]

    @property
    def name(self) -> str:
        """The stem without folders."""
        return self.stem.rpartition("/")[2]


def is_folder(files: Any) -> bool:
    """Whether files are named by their folder, or one by one."""
    return isinstance(files, str | os.PathLike)


def list_files(function: str, files: Any, argument: str, *, without: Any = None) -> list[File]:
    """The files in order of their paths.

    Args:
        function: who asks, for messages.
        files: a folder, or paths.
        argument: its name, for messages.
        without: a folder to leave out where it lies inside of `files`.

    Raises:
        DataError: there are none.
        FileNotFoundError: the folder does not exist.
    """
    listed = list(_walk(function, files, argument, without) if is_folder(files) else _listed(function, files, argument))
    if not listed:
        where = f"the folder {os.fspath(files)!r}" if is_folder(files) else "the list"
        raise DataError(
            f"{function}: `{argument}` must hold image files, got none in {where}. "
            f"Looked for {' '.join(sorted(IMAGE_SUFFIXES))}; for other suffixes pass a list of paths."
        )
    return listed


def _listed(function: str, files: Iterable[Any], argument: str) -> Iterator[File]:
    for file in files:
        if not is_folder(file):
            raise TypeError(
                f"{function}: `{argument}` must be a folder or a list of paths, got a {type(file).__name__}."
            )
        path = os.fspath(file)
        yield File(path, unicodedata.normalize("NFC", os.path.splitext(os.path.basename(path))[0]))


def _walk(function: str, folder: Any, argument: str, without: Any) -> Iterator[File]:
    top = os.path.expanduser(os.fspath(folder))
    if not os.path.isdir(top):
        raise FileNotFoundError(
            f"{function}: `{argument}` must be a folder that exists or a list of paths, got {top!r}. Check the path."
        )
    left_out = os.path.realpath(os.path.expanduser(os.fspath(without))) if is_folder(without) else None
    if left_out == os.path.realpath(top):
        left_out = None
    seen = set()  # real paths: a link may point to a folder above itself
    for where, folders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(where)
        if real in seen or real == left_out:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() not in _NOT_OURS)
        inside = os.path.relpath(where, top)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                stem = os.path.normpath(os.path.join(inside, stem)).replace(os.sep, "/")
                yield File(os.path.join(where, name), unicodedata.normalize("NFC", stem))
