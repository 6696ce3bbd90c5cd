"""Which format is this file or folder, by what is in it."""

from __future__ import annotations

import os
from typing import Literal

from segkit.annotations._formats.found import refuse
from segkit.annotations._formats.stream import elements
from segkit.annotations._formats.yolo import is_names

__all__ = ["FORMATS", "Format", "files_below", "format_of"]

Format = Literal["coco", "labelme", "cvat", "label_studio", "yolo", "rle_csv"]
FORMATS = ("coco", "labelme", "cvat", "label_studio", "yolo", "rle_csv")


def format_of(path: str) -> str:
    """One of `FORMATS`."""
    if os.path.isdir(path):
        if files_below(path, ".json"):
            return "labelme"
        if files_below(path, ".txt"):
            return "yolo"
        raise refuse(path, "hold .json or .txt files", "a folder without", "Pass the file of annotations itself.")
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".json":
        return _json(path)
    if suffix == ".xml":
        return "cvat"
    if suffix in (".csv", ".tsv"):
        return "rle_csv"
    if suffix in (".yaml", ".yml"):
        return "yolo"
    if suffix == ".txt":
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            first = file.readline()
        return "rle_csv" if "," in first or "\t" in first.strip() else "yolo"
    remedy = "Unzip it, and pass the file inside." if suffix == ".zip" else "Pass format=."
    raise refuse(path, "be .json, .xml, .csv, .tsv, .txt, .yaml or a folder", f"{suffix or 'no ending'}", remedy)


def _json(path: str) -> str:
    for element in elements(path):
        if element.key is None:  # an element of the outermost list
            keys = set(element.value) if isinstance(element.value, dict) else set()
            return "coco" if keys & {"image_id", "category_id"} else "label_studio"
        if element.key in ("images", "categories"):
            return "coco"
        if element.key in ("shapes", "imagePath", "imageData"):
            return "labelme"
        if element.key == "data":
            return "label_studio"
        if element.key == "annotations" and element.item and isinstance(element.value, dict):
            return "label_studio" if "result" in element.value else "coco"
    raise refuse(path, "be COCO, labelme or Label Studio JSON", "none of their keys", "Pass format=.")


def files_below(folder: str, suffix: str) -> list[tuple[str, str]]:
    """(path, folder below the top with forward slashes) of all files with this ending that may describe an image."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(where, folder).replace(os.sep, "/")
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.lower().endswith(suffix) and not name.startswith(".") and not is_names(path):
                found.append((path, "" if below == "." else below))
    if suffix == ".txt":  # beside a folder "labels" lie lists of pictures
        found = [f for f in found if "labels" in f[1].split("/")] or found
    return found
