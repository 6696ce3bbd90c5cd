"""What every reader gives, and the names of pictures: how they are written, and how two of one name are told apart."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from segkit.annotations._drawing.shape import Picture
from segkit.errors import DataError

__all__ = ["Found", "in_order", "integer", "name_of", "number", "refuse", "tell_apart"]


class Found(NamedTuple):
    """The contents of a file of annotations.

    Args:
        pictures: in the order of the file.
        classes: the names that it declares, in its order.
        numbered: it knows its classes by number only; the names of shapes are those numbers.
        one_class: it has one class, which has no name there.
    """

    pictures: list[Picture]
    classes: list[str]
    numbered: bool = False
    one_class: bool = False


def refuse(path: str | os.PathLike[str], expected: str, got: str, remedy: str) -> DataError:
    """The error for a file that cannot be what its reader needs."""
    return DataError(f"annotations.read: {os.fspath(path)!r} must {expected}, got {got}. {remedy}")


def name_of(path: str) -> str:
    """An image's name from a path of any system: forward slashes, no drive, root or ``.``, composed (NFC)."""
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    kept = [part for part in parts if part not in ("", ".")]
    if len(kept) > 1 and len(kept[0]) == 2 and kept[0][1] == ":":
        kept = kept[1:]
    return "/".join(kept)


def tell_apart(pictures: list[Picture], path: str | os.PathLike[str]) -> list[Picture]:
    """Give images of one name the shortest of their own prefixes that tells them apart.

    Raises:
        DataError: nothing does.
    """
    depth = 0
    while True:
        count = Counter(picture.name for picture in pictures)
        if max(count.values(), default=1) == 1:
            return pictures
        twice = [picture for picture in pictures if count[picture.name] > 1]
        if not any(len(picture.apart) > depth for picture in twice):
            name = twice[0].name
            raise refuse(
                path,
                "have one entry for each picture",
                f"{count[name]} of the name {name!r}",
                "Join them, or put their folders into the names",
            )
        for picture in twice:
            if len(picture.apart) > depth and picture.apart[depth]:
                picture.name = f"{picture.apart[depth]}/{picture.name}"
                picture.notes = [note._replace(image=picture.name) for note in picture.notes]
        depth += 1


def number(value: Any) -> float | None:
    """A finite number from JSON or text, or None."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if found - found == 0 else None


def integer(value: Any) -> int | None:
    """A positive whole number such as a width, or None."""
    found = number(value)
    return int(found) if found is not None and found == int(found) and found > 0 else None


def in_order(names: Iterable[str]) -> list[str]:
    """Without repetition."""
    return list(dict.fromkeys(names))
