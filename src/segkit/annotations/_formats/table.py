"""Tables of run lengths as competitions hand them out, Kaggle's or Tianchi's, with or without a head.

A row is an image, or an image and a class. Its cell "start length start length …" counts in an order and from an
origin that stand nowhere in the file; without runs it is an image of background.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from segkit.annotations._drawing.runs import Order, runs_of_text
from segkit.annotations._drawing.shape import Picture, Shape
from segkit.annotations._formats.found import Found, in_order, integer, name_of, refuse
from segkit.errors import DataError

__all__ = ["read_table"]

# Names of columns, in lower case and without anything but letters.
_IMAGE = (
    "imageid",
    "image",
    "img",
    "filename",
    "file",
    "imagename",
    "name",
    "id",
    "imageidclassid",
    "imagelabel",
    "idclass",
)
_RUNS = ("encodedpixels", "rle", "rlemask", "segmentation", "annotation", "predicted", "mask", "pixels", "rleencoding")
_CLASS = ("classid", "class", "label", "celltype", "category", "organ", "classname")
_BOTH = ("imageidclassid", "imagelabel", "imageidlabel", "imageclass", "idclass")
_WITH_SUFFIX = re.compile(r"^(.+\.(?:jpe?g|png|tiff?|bmp|gif|webp|dcm|jp2))_(.+)$", re.IGNORECASE)


def read_table(path: str, *, order: Order, origin: int, columns: Sequence[str] | None = None) -> Found:
    """Every image of the table.

    Args:
        path: text, separated by commas, semicolons or tabs.
        order: of the pixels that starts count.
        origin: the first pixel's number.
        columns: of the image, the runs and, if there are three, the class; None: found by their names.
    """
    rows = _rows(path)
    if not rows:
        raise refuse(path, "have rows", "an empty table", "Copy it again.")
    head = [re.sub(r"[^a-z]", "", cell.lower()) for cell in rows[0][1]]
    if columns is not None or any(name in _RUNS for name in head):
        places = _places(path, rows[0][1], head, columns)
        rows = rows[1:]
    elif len(rows[0][1]) in (1, 2) and not re.search(r"[^\d\s.]", rows[0][1][-1] if len(rows[0][1]) == 2 else ""):
        places, head = {"image": 0, "runs": 1}, []
    else:
        got = ", ".join(map(repr, rows[0][1]))
        raise refuse(
            path, "have a column of run lengths", got, "Pass columns=(picture, runs) or (picture, runs, class)."
        )
    joined = bool(head) and head[places["image"]] in _BOTH and "class" not in places
    pictures: dict[str, Picture] = {}
    names = []
    for line, cells in rows:
        cells = [*cells, *[""] * (max(places.values()) + 1 - len(cells))]
        image, label = cells[places["image"]].strip(), cells[places["class"]].strip() if "class" in places else ""
        if joined:
            match = _WITH_SUFFIX.match(image)
            image, label = match.groups() if match else (image.rpartition("_")[0], image.rpartition("_")[2])
        if not image:
            raise refuse(
                path, f"name a picture in line {line}", repr(",".join(cells))[:60], "Add it, or delete the line."
            )
        picture = pictures.setdefault(name_of(image), Picture(name_of(image)))
        if label:
            names.append(label)
        sides = [integer(cells[places[side]]) if side in places else None for side in ("height", "width")]
        if sides[0] and sides[1]:
            picture.size = (sides[0], sides[1])
        try:
            runs = runs_of_text(cells[places["runs"]], order, origin)
        except DataError as error:
            raise DataError(f"annotations.read: {path!r}, line {line} ({image!r}): {error}.") from None
        if len(runs.lengths):
            picture.add(Shape(label, runs=runs, source=f"line {line}"))
    return Found(list(pictures.values()), in_order(names), one_class=not names)


def _rows(path: str) -> list[tuple[int, list[str]]]:
    """(number of the line, cells). Not by the csv module: its limit for long cells is one for the whole process."""
    try:
        with open(path, encoding="utf-8-sig", newline=None) as file:
            lines = file.read().split("\n")
    except UnicodeDecodeError:
        raise refuse(path, "be text in UTF-8", "other bytes", "Save it as CSV in UTF-8.") from None
    first = next((line for line in lines if line.strip()), "")
    mark = next((mark for mark in "\t,;" if mark in first), ",")
    return [(i, _cells(path, i, line, mark)) for i, line in enumerate(lines, 1) if line.strip()]


def _cells(path: str, number: int, line: str, mark: str) -> list[str]:
    if '"' not in line:
        return line.split(mark)
    cells, at = [], 0
    while at <= len(line):
        if line[at : at + 1] == '"':
            end = at + 1
            while (end := line.find('"', end)) >= 0 and line[end + 1 : end + 2] == '"':
                end += 2
            if end < 0:
                got = f"{line[at:]!r:.40} in line {number}"
                raise refuse(path, "end each quoted cell in its line", got, "Save it again as CSV.")
            cells.append(line[at + 1 : end].replace('""', '"'))
            stop = line.find(mark, end)
        else:
            stop = line.find(mark, at)
            cells.append(line[at:] if stop < 0 else line[at:stop])
        if stop < 0:
            break
        at = stop + 1
    return cells


def _places(path: str, cells: list[str], head: list[str], columns: Sequence[str] | None) -> dict[str, int]:
    if columns is not None:
        stripped = [cell.strip() for cell in cells]
        missing = [column for column in columns if column not in stripped]
        if missing or len(columns) not in (2, 3):
            raise refuse(
                path,
                f"have the columns {', '.join(columns)}",
                ", ".join(stripped),
                "Pass columns= with names from its first line.",
            )
        places = dict(zip(("image", "runs", "class"), map(stripped.index, columns), strict=False))
    else:
        places = {"runs": next(i for i, name in enumerate(head) if name in _RUNS)}
        for key, known in (("image", _IMAGE), ("class", _CLASS)):
            found = [i for name in known for i, there in enumerate(head) if there == name and i != places["runs"]]
            if found:
                places[key] = found[0]
        if "image" not in places:
            raise refuse(path, "have a column of pictures", ", ".join(cells), "Pass columns=(picture, runs).")
    places.update({side: head.index(side) for side in ("height", "width") if side in head})
    return places
