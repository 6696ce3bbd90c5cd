"""COCO: polygons, run lengths and compressed run lengths of all images in one file.

Whole numbers are corners of pixels. The rings of one object are its parts, so they are united; run lengths go down the
columns and begin with zeros.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from segkit.annotations._drawing.runs import Runs, pixels_of, unpack_counts
from segkit.annotations._drawing.shape import Picture, Shape, ring_of
from segkit.annotations._formats.found import Found, in_order, integer, name_of, refuse, tell_apart
from segkit.annotations._formats.stream import elements
from segkit.errors import DataError

__all__ = ["read_coco"]


def read_coco(path: str, *, nested: Literal["parts", "holes"] = "parts") -> Found:
    """Every image of the file; `nested` says what a ring inside another of its object is."""
    images: dict[Any, Picture] = {}
    names: dict[Any, str] = {}
    waiting: list[tuple[Any, Any, Shape | str, str]] = []  # image id, category id, shape or why there is none, source
    seen = set()
    for position, element in enumerate(elements(path)):
        key, value = element.key, element.value
        if key is not None:
            seen.add(key)
        if key is None:
            raise refuse(
                path,
                "be a COCO data set with images and categories",
                "a list, as models write their results, which has neither sizes nor class names",
                'Put it under "annotations" of the data set\'s own file',
            )
        if key not in ("images", "categories", "annotations"):
            continue
        if not element.item:
            if value != []:
                raise refuse(path, f"have a list as {key!r}", f"{value!r:.60}", "Export it again as COCO instances.")
            continue
        if not isinstance(value, dict):
            raise refuse(path, f"have objects in {key!r}", f"{value!r:.60}", "Export it again as COCO instances.")
        if key == "images":
            _image(path, value, images)
        elif key == "categories":
            if "id" not in value or not isinstance(value.get("name"), str):
                raise refuse(path, "have categories with id and name", f"{value!r:.80}", "Add what is missing.")
            if value["id"] in names and names[value["id"]] != value["name"]:
                got = f"{names[value['id']]!r} and {value['name']!r} under id {value['id']!r}"
                raise refuse(path, "have one category for each id", got, "Give one of them another id.")
            names[value["id"]] = value["name"]
        else:
            waiting.append(_annotation(path, value, position, nested))
    missing = [key for key in ("images", "categories") if key not in seen]
    if missing or "annotations" not in seen:
        missing += [] if "annotations" in seen else ["annotations"]
        raise refuse(
            path, "be a COCO data set", f"a file without {' and '.join(missing)}", "Export it again as COCO instances."
        )
    for image_id, category_id, shape, source in waiting:
        picture = images.get(_key(image_id))
        if picture is None:
            raise _unknown(path, source, "image_id", image_id, [k[1] for k in images], "images")
        if category_id not in names or not any(_same(category_id, k) for k in names):
            raise _unknown(path, source, "category_id", category_id, list(names), "categories")
        if isinstance(shape, str):
            picture.note(source, shape)
            continue
        shape = replace(shape, name=names[category_id])
        if shape.runs is not None and shape.runs.box is not None:
            size = shape.runs.box[2:]
            if picture.size is not None and size != picture.size:
                got = f"{size[0]} x {size[1]} for {picture.name!r} of {picture.size[0]} x {picture.size[1]}"
                swapped = " Height and width seem swapped: size is [height, width]." * (size[::-1] == picture.size)
                raise refuse(
                    path, f"have run lengths of its picture's size in {source}", got, f"Export it again.{swapped}"
                )
            picture.size = picture.size or size
        picture.add(shape)
    return Found(tell_apart(list(images.values()), path), in_order(names.values()))


def _key(identity: Any) -> tuple[str, Any]:
    """1 and "1" are different, 1 and 1.0 are not; and True is no 1."""
    return type(identity).__name__.replace("float", "int"), identity


def _same(a: Any, b: Any) -> bool:
    return _key(a) == _key(b)


def _unknown(path: str, source: str, what: str, got: Any, there: list[Any], key: str) -> DataError:
    kinds = {type(identity).__name__ for identity in there}
    mixed = type(got).__name__ not in kinds and str(got) in {str(identity) for identity in there}
    why = "text in one place and numbers in the other" if mixed else f"{got!r}"
    remedy = "Write all ids in the same way." if mixed else f"Take {source} out, or add what is missing to {key!r}."
    return refuse(path, f"have the {what} of {source} among its {key}", why, remedy)


def _image(path: str, value: dict[str, Any], images: dict[Any, Picture]) -> None:
    name = value.get("file_name")
    if "id" not in value or not isinstance(name, str) or not name:
        raise refuse(path, "have images with id and file_name", f"{value!r:.80}", "Add what is missing.")
    height, width = integer(value.get("height")), integer(value.get("width"))
    if _key(value["id"]) in images:
        raise refuse(path, "have one image for each id", f"id {value['id']!r} twice", "Give one of them another id.")
    size = (height, width) if height and width else None
    images[_key(value["id"])] = Picture(name_of(name), size, apart=(str(value["id"]),))


def _annotation(path: str, value: dict[str, Any], position: int, nested: str) -> tuple[Any, Any, Shape | str, str]:
    source = f"annotation {value['id']}" if "id" in value else f"annotation number {position}"
    if "segments_info" in value:
        raise refuse(
            path,
            "be COCO instances",
            "a panoptic file, whose masks are PNG pictures beside it",
            "Read those with io.read_image: the id is R + 256 G + 65536 B.",
        )
    if "image_id" not in value or "category_id" not in value:
        raise refuse(path, f"have image_id and category_id in {source}", f"keys {sorted(value)}", "Add them.")
    image_id, category_id = value["image_id"], value["category_id"]
    crowd = value.get("iscrowd", 0)
    if isinstance(crowd, str):
        crowd = {"true": 1, "1": 1, "false": 0, "0": 0, "": 0}.get(crowd.strip().lower(), crowd)
    if not isinstance(crowd, bool) and crowd not in (0, 1, None):
        raise refuse(path, f"have 0 or 1 as iscrowd of {source}", repr(crowd), "Write 0 or 1.")
    outline = value.get("segmentation")
    try:
        shape = _shape(outline, nested, source, crowd=bool(crowd))
    except DataError as error:
        raise DataError(f"annotations.read: {path!r}: {error}. Correct or delete it in the annotation tool.") from None
    if shape is None:
        return image_id, category_id, "It is a box without an outline." if value.get("bbox") else "It is empty.", source
    return image_id, category_id, shape, source


def _shape(outline: Any, nested: str, source: str, *, crowd: bool) -> Shape | None:
    """The shape of an annotation, still without its name; None if there is no outline."""
    if isinstance(outline, dict):
        size, counts = outline.get("size"), outline.get("counts")
        if not isinstance(size, list) or len(size) != 2 or not all(integer(v) for v in size):
            raise DataError(f"{source} must have run lengths with size [height, width], got {size!r:.60}")
        height, width = (int(v) for v in size)
        if isinstance(counts, str):
            try:
                lengths = unpack_counts(counts)
            except DataError as error:
                raise DataError(f"{source}: {error}") from None
        else:
            lengths = _lengths(counts, source)
        total = pixels_of(lengths)
        if total != height * width:
            longer = "longer than the picture" if total > height * width else "shorter than the picture"
            raise DataError(
                f"{source} must have run lengths that fill {height} x {width} (height x width), which is "
                f"{height * width} pixels, got {total}: they are {longer}"
            )
        return Shape("", runs=Runs(lengths, "column", (0, 0, height, width)), crowd=crowd, source=source)
    if not outline:
        return None
    if not isinstance(outline, list):
        raise DataError(f"{source} must have a list of rings or run lengths as segmentation, got {outline!r:.60}")
    if not isinstance(outline[0], list):
        outline = [outline]  # some exporters write the only ring without its list
    rings = [ring_of(ring, source) for ring in outline if ring]
    if not rings:
        return None
    parts, holes = (rings, []) if nested == "parts" else _holes(rings)
    return Shape("", tuple(parts), tuple(holes), crowd=crowd, source=source)


def _lengths(counts: Any, source: str) -> np.ndarray:
    try:
        lengths = np.asarray(counts)
        with np.errstate(invalid="ignore"):  # of NaN and infinity
            whole = lengths.ndim == 1 and (lengths.size == 0 or bool((lengths == lengths.astype(np.int64)).all()))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or (lengths.size and lengths.min() < 0):
        raise DataError(f"{source} must have whole run lengths of 0 or more as counts, got {counts!r:.60}")
    return lengths.astype(np.int64)


def _holes(rings: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rings that lie inside an odd number of the others are holes."""
    parts: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for i, ring in enumerate(rings):
        around = sum(_contains(other, ring[0]) for j, other in enumerate(rings) if j != i and len(other) > 2)
        (holes if around % 2 else parts).append(ring)
    return parts, holes


def _contains(ring: np.ndarray, point: np.ndarray) -> bool:
    x, y = ring.T
    following = np.roll(ring, -1, axis=0)
    over = (y <= point[1]) != (following[:, 1] <= point[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = x + (point[1] - y) * (following[:, 0] - x) / (following[:, 1] - y)
    return bool((over & (crossing <= point[0])).sum() % 2)
