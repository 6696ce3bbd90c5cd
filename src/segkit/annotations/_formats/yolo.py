"""YOLO: a text file for each image, a line for each polygon: its class number, then shares of the image's edges."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from segkit.annotations._drawing.shape import Picture, Shape
from segkit.annotations._formats.found import Found, name_of, refuse, tell_apart

__all__ = ["is_names", "names_beside", "names_in_yaml", "read_yolo"]

_LISTS = ("classes.txt", "names.txt", "obj.names", "labels.txt", "predefined_classes.txt")


def read_yolo(files: list[tuple[str, str]], names: Sequence[str] | None) -> Found:
    """Every image of (path, its folder's name below the top); its name is that of the text file without ending.

    Args:
        files: of images only.
        names: of the classes, in the order of their numbers; None: not known.
    """
    pictures = []
    numbers = set()
    for path, folder in files:
        stem = os.path.splitext(os.path.basename(path))[0]
        kept = [part for part in folder.split("/") if part != "labels"]
        picture = Picture(name_of("/".join([*kept, stem])))
        try:
            with open(path, encoding="utf-8-sig") as file:
                lines = file.read().splitlines()
        except UnicodeDecodeError:
            raise refuse(path, "be text", "other bytes", "Leave it out of the folder.") from None
        for i, line in enumerate(lines, 1):
            words = line.split()
            if words:
                numbers.add(_add(path, picture, words, f"line {i}", names))
        pictures.append(picture)
    found = list(names) if names is not None else [str(n) for n in sorted(numbers)]
    return Found(tell_apart(pictures, ""), found, numbered=names is None)


def _add(path: str, picture: Picture, words: list[str], source: str, names: Sequence[str] | None) -> int:
    try:
        values = [float(word) for word in words]
    except ValueError:
        got = " ".join(words)
        raise refuse(
            path, f"have numbers in {source}", f"{got!r:.60}", "Is it a list of class names? Leave it out."
        ) from None
    label, places = int(values[0]) if values[0] == values[0] // 1 else -1, np.array(values[1:])
    if label < 0:
        raise refuse(path, f"have a class number of 0 or more in {source}", words[0], "Export it again.")
    if names is not None and label >= len(names):
        got = f"{label}, and {len(names)} names: {', '.join(names)}"
        raise refuse(path, f"have a class number with a name in {source}", got, "Pass names= with all of them.")
    if len(places) % 2:
        got = f"{len(places)} numbers after the class"
        remedy = "A model's label files may end in a confidence: write them without it."
        raise refuse(path, f"have an even number of coordinates in {source}", got, remedy)
    if not np.isfinite(places).all():
        raise refuse(path, f"have finite coordinates in {source}", "NaN or infinity", "Export it again.")
    if len(places) and np.abs(places).max() > 2:
        got = f"{places[np.abs(places).argmax()]:g}"
        raise refuse(
            path, f"have shares of the picture's edges in {source}", got, "Are they pixels? Divide them by its size."
        )
    name = names[label] if names is not None else str(label)
    if len(places) == 4:
        picture.note(source, "It is a box without an outline.")
    else:
        picture.add(Shape(name, (places.reshape(-1, 2),), unit=1.0, source=source))
    return label


def names_beside(folder: str) -> list[str] | None:
    """The classes' names from what lies in a folder of labels or above it: a list, or data.yaml."""
    place = os.path.abspath(folder)
    while True:
        for name in sorted(os.listdir(place)):
            path = os.path.join(place, name)
            if name in _LISTS:
                with open(path, encoding="utf-8-sig") as file:
                    return [line.strip() for line in file if line.strip()]
            if name.endswith((".yaml", ".yml")) and (names := names_in_yaml(path)):
                return names
        place, last = os.path.split(place)
        if last not in ("labels", "train", "val", "valid", "test"):
            return None


def is_names(path: str) -> bool:
    """Is this text file a list of names, not the labels of an image?"""
    return os.path.basename(path) in _LISTS


def names_in_yaml(path: str) -> list[str]:
    """``names:`` of a data.yaml: a list in one line or several, or numbers with names.

    Raises:
        DataError: its labels are key points.
    """
    with open(path, encoding="utf-8-sig") as file:
        lines = file.read().splitlines()
    if any(re.match(r"kpt_shape\s*:", line) for line in lines):  # with two numbers a point they look like a polygon
        got = "boxes with key points (kpt_shape), which have no area"
        raise refuse(path, "be of a data set of polygons", got, "Export it for segmentation.")
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return []
    rest = _without_comment(lines[start].partition(":")[2]).strip()
    if rest:
        while rest.count("[") > rest.count("]") or rest.count("{") > rest.count("}"):
            start += 1
            rest += " " + _without_comment(lines[start]).strip()
        entries = [entry.strip() for entry in rest.strip("[]{} ").split(",") if entry.strip()]
    else:
        entries = []
        for line in lines[start + 1 :]:
            entry = _without_comment(line)
            if entry.strip() and not entry.startswith((" ", "\t", "-")):
                break
            if entry.strip():
                entries.append(entry.strip().removeprefix("- ").strip())
    numbered = [re.match(r"(\d+)\s*:\s*(.+)", entry) for entry in entries]
    if entries and all(numbered):
        by_number = {int(match[1]): match[2] for match in numbered if match}
        entries = [by_number.get(i, str(i)) for i in range(max(by_number) + 1)]
    return [entry.strip().strip("'\"") for entry in entries]


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).rstrip()
