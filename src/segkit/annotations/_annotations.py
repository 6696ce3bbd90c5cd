"""The annotations of a data set, and the masks that follow from them."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit.annotations._drawing.draw import draw, judge
from segkit.annotations._drawing.shape import Note, Picture, Shape
from segkit.annotations._formats.found import Found, name_of
from segkit.annotations._rle import check_size
from segkit.errors import DataError

__all__ = ["Annotations", "Classes", "class_numbers", "smallest_dtype"]

Classes = Sequence[str] | Mapping[str, int]

_BACKGROUND = frozenset(["background", "bg", "none", "nothing", "unlabeled", "unlabelled", "void", "empty"])
_SUFFIX = re.compile(r"\.(?:jpe?g|png|tiff?|bmp|gif|webp|jp2|j2k|dcm|pgm|ppm|pnm)$", re.IGNORECASE)


class Annotations:
    """What was drawn on the images of a data set. Made by `read`.

    Example:
        >>> from segkit.annotations import read
        >>> with open("a.json", "w") as file:
        ...     _ = file.write(
        ...         '{"imagePath": "a.jpg", "imageHeight": 3, "imageWidth": 4, "shapes": [{"label": "cat",'
        ...         '"points": [[1, 0], [3, 0], [3, 2], [1, 2]], "shape_type": "polygon"}]}'
        ...     )
        >>> drawn = read("a.json")
        >>> drawn.images, drawn.classes
        (['a.jpg'], ['cat'])
        >>> drawn.mask("a.jpg", classes=["background", "cat"])
        array([[0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """

    def __init__(self, found: Found, path: str = "", kind: str = "") -> None:
        self._pictures = {picture.name: picture for picture in found.pictures}
        self._found = found._replace(pictures=[])
        self._path, self._kind = path, kind
        self._by_stem: dict[str, list[Picture]] = {}
        for picture in found.pictures:
            for stem in _stems(picture.name):
                self._by_stem.setdefault(stem, []).append(picture)

    @property
    def images(self) -> list[str]:
        """The images that somebody has finished, by name, in the order of the file; also those without any shape."""
        return [picture.name for picture in self._pictures.values() if picture.labelled]

    @property
    def unlabelled(self) -> list[str]:
        """The images that nobody has finished: they have no mask, not even one of background."""
        return [picture.name for picture in self._pictures.values() if not picture.labelled]

    @property
    def classes(self) -> list[str]:
        """The classes' names as the file has them: those it declares, then others that shapes have."""
        shapes = (shape.name for picture in self._pictures.values() for shape in picture.shapes)
        found = list(dict.fromkeys([*self._found.classes, *shapes]))
        return ["foreground"] if self._found.one_class else found

    @property
    def notes(self) -> list[Note]:
        """What no mask can show: lines, points, boxes without outline, images that nobody has finished."""
        return [note for picture in self._pictures.values() for note in picture.notes]

    def find(self, image: str | os.PathLike[str]) -> str:
        """The name in `images` or `unlabelled` of the image that a path means.

        Raises:
            DataError: it means none, or several.
        """
        return self._find(image, "find").name

    def check_classes(self, classes: Classes, *, unknown: Literal["error", "skip"] | int = "error") -> None:
        """Refuse `classes` that lack a name of any shape, before the first mask is made.

        Raises:
            DataError: as `mask` does.
        """
        for picture in self._pictures.values():
            if picture.labelled:
                self._numbers("check_classes", picture, classes, unknown, "class")

    def shapes(self, image: str | os.PathLike[str]) -> list[Shape]:
        """The shapes of an image, in the order of the file."""
        return list(self._find(image, "shapes").shapes)

    def size(self, image: str | os.PathLike[str]) -> tuple[int, int] | None:
        """(height, width) of an image as the file says, or None if it does not."""
        return self._find(image, "size").size

    def mask(
        self,
        image: str | os.PathLike[str],
        *,
        classes: Classes,
        size: tuple[int, int] | None = None,
        instances: bool = False,
        background: int = 0,
        unknown: Literal["error", "skip"] | int = "error",
        crowd: Literal["class", "ignore"] = "class",
        window: tuple[int, int, int, int] | None = None,
    ) -> np.ndarray:
        """The mask of an image.

        A pixel belongs to a shape when its centre lies inside; later shapes lie over earlier ones.

        Args:
            image: its name, or the path of its file: folders are compared as far as both have them, and the ending
                need not agree where the rest is unambiguous.
            classes: name -> number; or the names in order, numbered from 1. A list may begin with a name for what
                nobody drew ("background"), which has 0; so 1 is "cat" in ["cat"] and in ["background", "cat"].
                "__ignore__" (labelme's) has 255. A file that knows numbers only (YOLO without names) means the names in
                order, the first without "background" being 0.
            size: (height, width) where the file does not say; where it does, both must agree.
            instances: give a number to each object instead.
            background: the number of what nobody drew.
            unknown: what happens to a class that is not in `classes`: "error", "skip" its shapes, or a number.
            crowd: "class": COCO's crowds count as their class; "ignore": they are 255.
            window: (top, left, height, width), inside the picture: only this part, which has the pixels of the whole.

        Returns:
            [H, W], or of the window: uint8 if all class indices fit, else uint16 or int32. With `instances` int32: 0,
            then 1, 2, … in the order of the file; parts of one object share a number.

        Raises:
            DataError: no such image, or several; nobody has finished it; its size is not known or another one; a
                shape has a class that is not in `classes`.

        Example:
            See `Annotations`.
        """
        picture = self._find(image, "mask")
        numbers = self._numbers("mask", picture, classes, unknown, crowd)
        height, width = self._size("mask", picture, size)
        kept = [(shape, number) for shape, number in zip(picture.shapes, numbers, strict=True) if number is not None]
        if instances:
            dtype, first = np.dtype(np.int32), 0
            values = _object_numbers([shape for shape, _ in kept], [number != background for _, number in kept])
        else:
            listed = [*class_numbers("mask", classes).values(), background, IGNORE_INDEX if crowd == "ignore" else 0]
            dtype, first = smallest_dtype({*listed, *(n for _, n in kept)}), background
            values = [number for _, number in kept]
        top, left, tall, wide = window or (0, 0, height, width)
        if window and not (0 <= top <= top + tall <= height and 0 <= left <= left + wide <= width):
            raise ValueError(
                f"mask: `window` must be (top, left, height, width) inside {height} x {width}, got {window}."
            )
        with _in_memory("mask", picture.name, (height, width)):
            out = np.full((tall, wide), first, dtype)
            draw(out, [shape for shape, _ in kept], np.array(values, np.int64), (height, width), (top, left))
        return out

    def masks(
        self,
        *,
        classes: Classes,
        background: int = 0,
        unknown: Literal["error", "skip"] | int = "error",
        crowd: Literal["class", "ignore"] = "class",
    ) -> Callable[..., np.ndarray]:
        """What `datasets.PairDataset` takes instead of mask files: a function of an image's path and size. It pickles.

        Its argument ``window`` is that of `mask`, so that a data set that crops draws no more than the crop.

        Args:
            classes: as for `mask`; checked here, for all images.
            background: as for `mask`.
            unknown: as for `mask`.
            crowd: as for `mask`.
        """
        self.check_classes(classes, unknown=unknown)
        options = {"classes": classes, "background": background, "unknown": unknown, "crowd": crowd}
        return functools.partial(_mask_of, self, options)

    def check(
        self,
        image: str | os.PathLike[str],
        *,
        classes: Classes,
        size: tuple[int, int] | None = None,
        unknown: Literal["error", "skip"] | int = "error",
    ) -> list[Note]:
        """What the mask of an image does not show: shapes without area, empty, outside, self-crossing or overlapped.

        Args:
            image: as for `mask`.
            classes: as for `mask`.
            size: as for `mask`.
            unknown: as for `mask`.

        Example:
            See `Note`.
        """
        picture = self._find(image, "check")
        if not picture.labelled:
            return list(picture.notes)
        numbers = self._numbers("check", picture, classes, unknown, "class")
        kept = [(shape, n) for shape, n in zip(picture.shapes, numbers, strict=True) if n is not None]
        size = self._size("check", picture, size)
        with _in_memory("check", picture.name, size):
            notes = judge(picture.name, [s for s, _ in kept], np.array([n for _, n in kept]), size)
        if not kept:
            notes.append(
                Note("empty", picture.name, "", "Nothing with an area is drawn on it: all of it is background.")
            )
        return picture.notes + notes

    def _numbers(
        self, function: str, picture: Picture, classes: Classes, unknown: str | int, crowd: str
    ) -> list[int | None]:
        """The number of each shape's class; None for one that is left out."""
        numbers = class_numbers(function, classes)
        if not picture.labelled:
            raise DataError(
                f"{function}: {picture.name!r} must have been finished by an annotator, got none of {self._path!r}. "
                "Leave it out: see Annotations.unlabelled."
            )
        if isinstance(unknown, str) and unknown not in ("error", "skip"):
            raise ValueError(f"{function}: `unknown` must be 'error', 'skip' or a number, got {unknown!r}.")
        if crowd not in ("class", "ignore"):
            raise ValueError(f"{function}: `crowd` must be 'class' or 'ignore', got {crowd!r}.")
        drawn = [name for name, n in numbers.items() if not _is_background(name) and not _is_ignored(name)]
        found: list[int | None] = []
        strange = []
        for shape in picture.shapes:
            name = shape.name
            if self._found.one_class and len(drawn) == 1:
                name = drawn[0]
            elif self._found.one_class and not name:
                name = "foreground"
            elif self._found.numbered and name not in numbers and int(name) < len(drawn):
                name = drawn[int(name)]
            if name not in numbers and unknown == "error":
                strange.append(name)
            number = numbers.get(name, None if isinstance(unknown, str) else int(unknown))
            found.append(IGNORE_INDEX if shape.crowd and crowd == "ignore" and number is not None else number)
        if strange:
            names = ", ".join(repr(name) if name else "'' (a shape without a class)" for name in dict.fromkeys(strange))
            raise DataError(
                f"{function}: `classes` must name every class that is drawn on {picture.name!r}, got {names} besides "
                f"{', '.join(map(repr, numbers))}. In the file are {', '.join(map(repr, self.classes))}: add what is "
                "missing, or pass unknown='skip' or a number."
            )
        return found

    def _size(self, function: str, picture: Picture, size: tuple[int, int] | None) -> tuple[int, int]:
        if size is None:
            if picture.size is None:
                raise DataError(
                    f"{function}: the size of {picture.name!r} must be known, and {self._path!r} does not say it. "
                    "Pass size=(height, width), turned as its EXIF orientation says."
                )
            return picture.size
        asked = check_size(function, size)
        if picture.size is not None and picture.size != asked:
            hint = (
                "Height and width are swapped: in `size`, or because the picture is turned by its EXIF orientation and "
                "one of the two sizes is that of the unturned picture."
                if picture.size == asked[::-1]
                else "The picture was resized after it was annotated, or is another one of the same name."
            )
            raise DataError(
                f"{function}: `size` of {picture.name!r} must be that in {self._path!r}, {picture.size} (height, "
                f"width), got {asked}. {hint}"
            )
        return asked

    def _find(self, image: str | os.PathLike[str], function: str) -> Picture:
        asked = name_of(os.fspath(image))
        if asked in self._pictures:
            return self._pictures[asked]
        same = {id(p): p for stem in _stems(asked) for p in self._by_stem.get(stem, [])}
        # Of the folders that both names have, those next to the file must agree; "images" and "labels" stand for each
        # other.
        near = [p for p in same.values() if _agree(p.name, asked, frozenset())]
        near = near or [p for p in same.values() if _agree(p.name, asked, frozenset(["images", "labels", "masks"]))]
        exact = [p for p in near if p.name.rsplit("/", 1)[-1] == asked.rsplit("/", 1)[-1]]
        near = exact if len(near) > 1 and exact else near
        if len(near) == 1:
            return near[0]
        if near:
            names = ", ".join(repr(p.name) for p in near[:4])
            raise DataError(
                f"{function}: `image` {asked!r} must be one picture, got {len(near)}: {names}. Add its folder."
            )
        some = ", ".join(map(repr, list(self._pictures)[:3])) or "none"
        raise DataError(
            f"{function}: `image` must be a picture of {self._path!r}, got {asked!r}. It has {len(self._pictures)}, "
            f"such as {some}: see Annotations.images."
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Annotations({self._path!r}, format={self._kind!r}, {len(self)} images, classes={self.classes})"


@contextlib.contextmanager
def _in_memory(function: str, name: str, size: tuple[int, int]) -> Iterator[None]:
    """Name the image in what goes wrong with its drawing."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{function}: {name!r}, {error}.") from None
    except (MemoryError, ValueError) as error:  # NumPy's, for a size beyond all memory
        raise DataError(
            f"{function}: {name!r} of {size[0]} x {size[1]} (height x width) must fit into memory, got {error}. "
            "Check whether the file states its sizes correctly."
        ) from None


def _mask_of(
    annotations: Annotations,
    options: dict[str, Any],
    image: str,
    size: tuple[int, int],
    window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    return annotations.mask(image, size=size, window=window, **options)


def class_numbers(function: str, classes: Classes) -> dict[str, int]:
    """Name -> number, from a mapping, or from a list in order."""
    if isinstance(classes, str):
        raise TypeError(f"{function}: `classes` must be a list of names or name -> number, got the text {classes!r}.")
    if isinstance(classes, Mapping):
        numbers = {str(name): int(number) for name, number in classes.items()}
        if any(number < 0 for number in numbers.values()):
            raise ValueError(f"{function}: `classes` must have numbers of 0 or more, got {numbers}.")
        return numbers
    names = [str(name) for name in classes]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not names:
        got = f"{twice[0]!r} twice" if twice else "none"
        raise ValueError(
            f"{function}: `classes` must be different names, got {got}. To join classes pass name -> number."
        )
    counted = [name for name in names if not _is_ignored(name)]
    first = 0 if counted and _is_background(counted[0]) else 1
    if len(counted) + first > IGNORE_INDEX:
        raise ValueError(
            f"{function}: a list of `classes` must end before {IGNORE_INDEX}, which is ignored, got {len(counted)} "
            f"names. Pass name -> number, without {IGNORE_INDEX}."
        )
    numbers = {name: number for number, name in enumerate(counted, first)}
    return {name: numbers.get(name, IGNORE_INDEX) for name in names}


def smallest_dtype(values: Iterable[int]) -> np.dtype:
    """uint8, uint16 or int32, whichever holds all of these first."""
    values = list(values)
    for dtype in (np.uint8, np.uint16, np.int32):
        info = np.iinfo(dtype)
        if all(info.min <= value <= info.max for value in values):
            return np.dtype(dtype)
    raise ValueError(f"mask: class numbers must fit into int32, got {max(values)}.")


def _is_background(name: str) -> bool:
    return name.strip("_ ").lower() in _BACKGROUND


def _is_ignored(name: str) -> bool:
    return name == "__ignore__"


def _object_numbers(shapes: Sequence[Shape], drawn: Sequence[bool]) -> list[int]:
    """1, 2, … for the objects in order; 0 for what erases."""
    of_object: dict[tuple[str, str], int] = {}
    numbers, last = [], 0
    for shape, is_drawn in zip(shapes, drawn, strict=True):
        key = (shape.name, shape.instance) if shape.instance is not None else None
        if not is_drawn:
            numbers.append(0)
        elif key is not None and key in of_object:
            numbers.append(of_object[key])
        else:
            last += 1
            numbers.append(last)
            if key is not None:
                of_object[key] = last
    return numbers


def _stems(name: str) -> list[str]:
    """What an image's file may be asked by: its name, that without ending, and without the mark of an upload."""
    last = name.rsplit("/", 1)[-1]
    stem = _SUFFIX.sub("", last)
    return list(dict.fromkeys([stem, re.sub(r"^[0-9a-f]{8}-(?=.)", "", stem)]))


def _agree(name: str, asked: str, without: frozenset[str]) -> bool:
    folders, others = ([p for p in text.split("/")[:-1] if p not in without] for text in (name, asked))
    shared = min(len(folders), len(others))
    return shared == 0 or folders[-shared:] == others[-shared:]
