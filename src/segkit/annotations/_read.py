"""Read what annotators drew, from any of six formats."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from segkit.annotations._annotations import Annotations
from segkit.annotations._drawing.runs import Order
from segkit.annotations._formats.coco import read_coco
from segkit.annotations._formats.cvat import read_cvat
from segkit.annotations._formats.detect import FORMATS, Format, files_below, format_of
from segkit.annotations._formats.found import Found, refuse
from segkit.annotations._formats.label_studio import read_label_studio
from segkit.annotations._formats.labelme import read_labelme
from segkit.annotations._formats.table import read_table
from segkit.annotations._formats.yolo import names_beside, names_in_yaml, read_yolo
from segkit.annotations._rle import check_order

__all__ = ["read"]


def read(
    path: str | os.PathLike[str],
    *,
    format: Format | Literal["auto"] = "auto",
    order: Order | None = None,
    origin: Literal[0, 1] | None = None,
    names: Sequence[str] | None = None,
    annotator: str | int | None = None,
    nested: Literal["parts", "holes"] = "parts",
    columns: Sequence[str] | None = None,
) -> Annotations:
    r"""Read the annotations of a data set. What a file cannot say has to be passed; nothing is guessed.

    Large COCO and Label Studio files are read element by element: no JSON tree of the whole is made.

    Args:
        path: a file (COCO, CVAT or Label Studio; one of labelme or YOLO; a table; YOLO's data.yaml), or a folder with a
            file for each image (labelme, YOLO), searched with its subfolders.
        format: "coco", "labelme", "cvat", "label_studio", "yolo" or "rle_csv"; "auto" looks into the file.
        order: how a table of run lengths counts pixels, "column" or "row"; the other formats say it themselves.
        origin: the number of its first pixel, 1 or 0.
        names: of YOLO's classes, in the order of their numbers; None: those of a data.yaml or classes.txt beside the
            labels, or the numbers themselves.
        annotator: whose annotation counts where Label Studio has several for one task: an id or an address, or
            "latest".
        nested: what a ring inside another ring of one COCO object is: a part of it, as COCO's own tools have it, or a
            hole.
        columns: of a table: the names of the image's column, that of the run lengths, and if there is one the
            class's.

    Raises:
        DataError: the file is damaged, of another kind, or contradicts itself; names the place and what to do.
        FileNotFoundError: there is no such file.
        ValueError: an argument is missing or unknown.

    Example:
        >>> with open("shapes.csv", "w") as file:
        ...     _ = file.write("ImageId,EncodedPixels\na.png,1 3 10 2\nb.png,\n")
        >>> table = read("shapes.csv", order="column", origin=1)
        >>> table.images
        ['a.png', 'b.png']
        >>> table.mask("a.png", classes=["ship"], size=(4, 3)).T.tolist()
        [[1, 1, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]]
    """
    where = os.fspath(path)
    if not os.path.exists(where):
        raise FileNotFoundError(
            f"annotations.read: `path` must be a file or folder that exists, got {where!r}. Check it."
        )
    if format != "auto" and format not in FORMATS:
        raise ValueError(f"annotations.read: `format` must be 'auto' or one of {', '.join(FORMATS)}, got {format!r}.")
    if nested not in ("parts", "holes"):
        raise ValueError(f"annotations.read: `nested` must be 'parts' or 'holes', got {nested!r}.")
    kind = format_of(where) if format == "auto" else format
    return Annotations(_read(where, kind, order, origin, names, annotator, nested, columns), where, kind)


def _read(
    path: str,
    kind: str,
    order: Order | None,
    origin: int | None,
    names: Sequence[str] | None,
    annotator: str | int | None,
    nested: Literal["parts", "holes"],
    columns: Sequence[str] | None,
) -> Found:
    if kind in ("labelme", "yolo"):
        return _file_by_file(path, kind, names)
    if os.path.isdir(path):
        raise refuse(path, f"be a file, as {kind} is one", "a folder", "Pass the file inside.")
    if kind == "coco":
        return read_coco(path, nested=nested)
    if kind == "cvat":
        return read_cvat(path)
    if kind == "label_studio":
        return read_label_studio(path, annotator=annotator)
    if order is None or origin is None:
        raise ValueError(
            f"annotations.read: {path!r} is a table of run lengths, which does not say how it counts pixels. Pass "
            "order='column' (Kaggle, usually) or 'row', and origin=1 (usually) or 0."
        )
    check_order("annotations.read", order, origin)
    return read_table(path, order=order, origin=origin, columns=columns)


def _file_by_file(path: str, kind: str, names: Sequence[str] | None) -> Found:
    in_yaml = names_in_yaml(path) if path.lower().endswith((".yaml", ".yml")) else None
    folder = os.path.dirname(path) or "." if in_yaml is not None else path
    suffix = ".json" if kind == "labelme" else ".txt"
    files = files_below(folder, suffix) if os.path.isdir(folder) else [(folder, "")]
    if not files:
        raise refuse(path, f"hold {suffix} files", "a folder without", "Check the path, or pass format=.")
    if kind == "labelme":
        return read_labelme(files)
    beside = names_beside(folder if os.path.isdir(folder) else os.path.dirname(folder) or ".")
    return read_yolo(files, list(names) if names is not None else in_yaml or beside)
