"""Small files and words that people give to a command, as Excel and Notepad write them: colours, splits, numbers."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator

from segkit.errors import DataError

_NAMES = ("file", "filename", "file_name", "stem", "image", "name", "path", "id")
_SPLITS = ("split", "set", "subset", "fold", "partition")
_WORDS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
Colors = dict[tuple[int, int, int], int]


def read_colors(path: str | None) -> Colors | None:
    """The colour table of a file: JSON {"255,0,0": 1, ...} or {"#ff0000": 1, ...}, or CVAT's labelmap.txt."""
    if path is None:
        return None
    text = _text_of(path)
    try:
        if not text.lstrip().startswith("{"):
            return _labelmap(text)
        table = json.loads(text)
        return {_color(name): int(index) for name, index in table.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f'--colors {path}: must be JSON such as {{"255,0,0": 1, "#00ff00": 2}}, or the labelmap.txt of CVAT, got '
            f"{error}."
        ) from None


def read_splits(path: str | None) -> dict[str, str] | None:
    """Name of a file -> split, from a table: commas, semicolons or tabs, UTF-8 or 16, a BOM or none.

    Or from a folder with a text file of names for each split, train.txt and val.txt.
    """
    if path is None:
        return None
    if os.path.isdir(path):
        return _splits_of_lists(path)
    lines = [line for line in _text_of(path).splitlines() if line.strip() and not line.lower().startswith("sep=")]
    mark = max(",;\t|", key=lines[0].count) if lines else ","
    head, *rows = csv.reader(lines, delimiter=mark) if lines else [[]]
    if rows and all(len(row) == 2 and row[1].strip().lower() in _WORDS for row in [head, *rows]):
        head, rows = ["file", "split"], [head, *rows]
    columns = [name.strip().lower() for name in head]
    key = next((columns.index(name) for name in _NAMES if name in columns), None)
    value = next((columns.index(name) for name in _SPLITS if name in columns), None)
    if key is None or value is None:
        raise DataError(
            f"--splits {path}: must be a CSV with the columns file and split, or a folder of lists such as train.txt, "
            f"got {', '.join(head)}."
        )
    splits: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if len(row) <= max(key, value):
            raise DataError(f"--splits {path}: line {number} must have {len(head)} columns, got {len(row)}.")
        name, split = row[key].strip(), row[value].strip()
        if splits.setdefault(name, split) != split:
            raise DataError(f"--splits {path}: {name!r} must be in one split, got {splits[name]!r} and {split!r}.")
    return splits


def _splits_of_lists(folder: str) -> dict[str, str]:
    splits: dict[str, str] = {}
    for list_name in sorted(name for name in os.listdir(folder) if name.lower().endswith(".txt")):
        split = os.path.splitext(list_name)[0]
        for line in filter(None, map(str.strip, _text_of(os.path.join(folder, list_name)).splitlines())):
            if splits.setdefault(line, split) != split:
                raise DataError(f"--splits {folder}: {line!r} must be in one list, got {splits[line]!r} and {split!r}.")
    if not splits:
        raise DataError(
            f"--splits {folder}: must hold a text file of names for each split, such as train.txt, got none."
        )
    return splits


def read_map(option: str, words: list[str]) -> dict[int, int] | None:
    """Old label -> new label, of words OLD=NEW; None for no words."""
    try:
        return {int(old): int(new) for old, new in (word.split("=") for word in words)} or None
    except ValueError:
        raise DataError(f"{option}: must be OLD=NEW, two whole numbers, got {' '.join(words)}.") from None


def read_choice(option: str, word: str, choices: tuple[str, ...]) -> str | int:
    """One of the choices, or a label."""
    if word in choices:
        return word
    try:
        return int(word)
    except ValueError:
        raise DataError(f"{option}: must be {', '.join(choices)} or a whole number, got {word!r}.") from None


def _text_of(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read()
    # Letters of UTF-16 without a mark have a zero beside them.
    zeros = data[:200:2].count(0), data[1:200:2].count(0)
    wide = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le" if zeros[1] else "utf-8-sig"
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else wide)
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")  # what Excel writes in western Europe


def _color(name: str) -> tuple[int, int, int]:
    name = name.strip()
    if name.startswith("#"):
        red, green, blue = (int(name[i : i + 2], 16) for i in (1, 3, 5))
    else:
        red, green, blue = (int(part) for part in name.strip("()[] ").split(","))
    return red, green, blue


def _labelmap(text: str) -> Colors:
    """CVAT's table, "name:r,g,b:parts:actions" a line; classes are numbered as they come, the background first."""

    def rows() -> Iterator[tuple[str, tuple[int, int, int]]]:
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                name, color, *_ = line.split(":")
                yield name.strip().lower(), _color(color)

    colors = [color for _, color in sorted(rows(), key=lambda row: row[0] != "background")]
    if not colors:
        raise ValueError("no colours")
    return {color: index for index, color in enumerate(colors)}
