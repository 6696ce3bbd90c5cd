"""From annotations to masks, and from masks back to what competitions and tools take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit._whole import whole_file
from segkit.annotations._annotations import Annotations, Classes, class_numbers
from segkit.annotations._drawing.runs import Order, pack_counts, runs_of
from segkit.annotations._drawing.shape import Note
from segkit.annotations._rle import check_order, encode_rle

__all__ = ["to_masks", "write_coco", "write_rle"]

Sizes = tuple[int, int] | Mapping[str, tuple[int, int]] | Callable[[str], "tuple[int, int] | None"] | None
Masks = Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]


def to_masks(
    annotations: Annotations,
    *,
    classes: Classes,
    sizes: Sizes = None,
    instances: bool = False,
    unknown: Literal["error", "skip"] | int = "error",
    notes: list[Note] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    r"""The masks of all images that somebody has finished, one at a time.

    Args:
        annotations: as `read` gives them.
        classes: as for `Annotations.mask`.
        sizes: (height, width) of all images, or name -> size, or a function of the name, where the file does not say.
        instances: as for `Annotations.mask`.
        unknown: as for `Annotations.mask`.
        notes: a list to which is added what `Annotations.check` says of each image.

    Yields:
        (name, mask), in the order of the file.

    Raises:
        DataError: as `Annotations.mask` does; for a class that is not declared before the first mask.

    Example:
        >>> from segkit.annotations import read
        >>> with open("runs.csv", "w") as file:
        ...     _ = file.write("ImageId,EncodedPixels\na.png,1 3\n")
        >>> for name, mask in to_masks(read("runs.csv", order="row", origin=1), classes=["ship"], sizes=(2, 2)):
        ...     print(name, mask.tolist())
        a.png [[1, 1], [1, 0]]
    """
    annotations.check_classes(classes, unknown=unknown)
    for name in annotations.images:
        size = sizes(name) if callable(sizes) else sizes.get(name) if isinstance(sizes, Mapping) else sizes
        mask = annotations.mask(name, classes=classes, size=size, instances=instances, unknown=unknown)
        if notes is not None:
            notes += annotations.check(name, classes=classes, size=size, unknown=unknown)
        yield name, mask
    if notes is not None:
        notes += [note for note in annotations.notes if note.kind == "unlabelled"]


def write_rle(
    path: str | os.PathLike[str],
    masks: Masks,
    *,
    order: Order,
    origin: Literal[0, 1],
    classes: Classes | None = None,
    columns: Sequence[str] = ("ImageId", "EncodedPixels"),
) -> None:
    """Write masks as a table of run lengths, for a submission. `read` gives the same masks back.

    Args:
        path: the table; it appears whole or not at all.
        masks: name -> mask [H, W], or pairs (name, mask).
        order: "column" or "row": how pixels are counted.
        origin: the first pixel's number, 1 or 0.
        classes: a row for each image and class, as for `Annotations.mask`; None: a row for each image, whose mask
            has one value beside 0.
        columns: of the image, the runs and, with `classes`, the class; with two columns and `classes` the first is
            "picture_class", as some competitions want it.

    Raises:
        DataError: without `classes`, a mask has more than one value beside 0.

    Example:
        >>> write_rle("out.csv", {"a.png": np.array([[0, 1], [0, 1]])}, order="column", origin=1)
        >>> with open("out.csv") as file:
        ...     print(file.read())
        ImageId,EncodedPixels
        a.png,3 2
        <BLANKLINE>
    """
    check_order("write_rle", order, origin)
    if len(columns) not in (2, 3) or (len(columns) == 3 and classes is None):
        raise ValueError(
            f"write_rle: `columns` must be (picture, runs), with `classes` also (…, class), got {columns}."
        )
    numbers = None if classes is None else class_numbers("write_rle", classes)
    with whole_file(path) as file:
        file.write(",".join(columns) + "\n")
        for name, mask in masks.items() if isinstance(masks, Mapping) else masks:
            if numbers is None:
                file.write(f"{_cell(name)},{encode_rle(mask, order=order, origin=origin)}\n")
                continue
            for label, number in numbers.items():
                if number in (0, IGNORE_INDEX):
                    continue
                runs = encode_rle(mask == number, order=order, origin=origin)
                cells = [name, runs, label] if len(columns) == 3 else [f"{name}_{label}", runs]
                file.write(",".join(map(_cell, cells)) + "\n")


def write_coco(
    path: str | os.PathLike[str],
    masks: Masks,
    *,
    classes: Classes,
    instances: Masks | None = None,
) -> None:
    """Write masks as a COCO data set of compressed run lengths. `read` gives the same masks back.

    Args:
        path: the file; it appears whole or not at all.
        masks: name -> mask of classes [H, W], or pairs (name, mask).
        classes: as for `Annotations.mask`; the numbers become the categories' ids. 0 and 255 are not categories.
        instances: the same names with the number of each object, 0 for none, [H, W]; each becomes an annotation. None:
            one annotation for each image and class.

    Raises:
        ValueError: `instances` lacks an image, or one has another shape.

    Example:
        >>> from segkit.annotations import read
        >>> mask = np.array([[0, 1], [2, 2]], np.uint8)
        >>> write_coco("out.json", {"a.png": mask}, classes=["cat", "dog"])
        >>> bool((read("out.json").mask("a.png", classes=["cat", "dog"]) == mask).all())
        True
    """
    numbers = {n: name for name, n in class_numbers("write_coco", classes).items() if n not in (0, IGNORE_INDEX)}
    objects = None if instances is None else dict(instances.items() if isinstance(instances, Mapping) else instances)
    categories = [{"id": number, "name": name} for number, name in numbers.items()]
    images: list[dict[str, Any]] = []
    count = 0
    with whole_file(path) as file:
        file.write('{"categories": ' + json.dumps(categories, ensure_ascii=False) + ',\n"annotations": [')
        for name, mask in masks.items() if isinstance(masks, Mapping) else masks:
            mask = np.asarray(mask)
            images.append({"id": len(images) + 1, "file_name": name, "height": mask.shape[0], "width": mask.shape[1]})
            if objects is not None and (name not in objects or objects[name].shape != mask.shape):
                raise ValueError(f"write_coco: `instances` must have {name!r} of shape {mask.shape}. Add it.")
            for number in np.unique(mask).tolist():
                if number not in numbers:
                    continue
                of_class = mask == number
                ids = np.zeros(1, int) if objects is None else np.unique(objects[name][of_class])
                for identity in ids.tolist():
                    inside = of_class if objects is None else of_class & (objects[name] == identity)
                    count += 1
                    file.write(
                        ("," if count > 1 else "") + "\n" + json.dumps(_annotation(count, len(images), number, inside))
                    )
        file.write('\n],\n"images": ' + json.dumps(images, ensure_ascii=False) + "}\n")


def _annotation(identity: int, image: int, category: int, inside: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
    runs = {"size": list(inside.shape), "counts": pack_counts(runs_of(inside, "column").lengths)}
    entry = {"id": identity, "image_id": image, "category_id": category, "segmentation": runs}
    return {**entry, "area": int(inside.sum()), "bbox": box, "iscrowd": 0}


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\t;') else text
