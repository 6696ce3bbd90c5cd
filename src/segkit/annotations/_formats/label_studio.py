"""Label Studio's JSON: a list of tasks, each with the annotations of one or several people.

Numbers are per cent of the image's edges. Rectangles turn about their upper left corner, clockwise; ellipses about
their centre. Predictions of models are no annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from segkit.annotations._drawing.runs import Runs
from segkit.annotations._drawing.shape import Picture, Shape, ring_of
from segkit.annotations._formats.brush import brush_lengths
from segkit.annotations._formats.found import Found, in_order, integer, name_of, number, refuse, tell_apart
from segkit.annotations._formats.stream import elements
from segkit.errors import DataError

__all__ = ["read_label_studio"]

# What a result that is no region of the picture, or has no area, is called.
_WITHOUT_AREA = ("keypoint", "vector")
_NO_REGION = (
    "relation",
    "choices",
    "textarea",
    "rating",
    "number",
    "datetime",
    "taxonomy",
    "pairwise",
    "ranker",
    "timelinelabels",
)


def read_label_studio(path: str, *, annotator: str | int | None = None) -> Found:
    """The image of each task. Of several annotations, the one by `annotator` counts, or the latest for "latest"."""
    # One by one: what a task's brushes are as a list of numbers takes tens of times the room of what is kept of them.
    pictures = [_picture(path, task, position, annotator) for position, task in enumerate(_tasks(path))]
    return Found(tell_apart(pictures, path), in_order(s.name for picture in pictures for s in picture.shapes))


def _tasks(path: str) -> Iterator[Any]:
    """The tasks of a list, or the only one, by itself."""
    alone: dict[str, Any] = {}
    for element in elements(path):
        if element.key is None:
            yield element.value
        elif element.item:
            alone[element.key].append(element.value)
        else:
            alone[element.key] = element.value
    if alone:
        yield alone


def _picture(path: str, task: Any, position: int, annotator: str | int | None) -> Picture:
    if (
        not isinstance(task, dict)
        or not isinstance(task.get("annotations"), list)
        or not isinstance(task.get("data"), dict)
    ):
        keys = sorted(map(str, task)) if isinstance(task, dict) else []
        if "result" in keys or "predictions" in keys:
            got, remedy = "predictions", "Models are not annotators. Export the annotations as 'JSON'."
        else:
            got, remedy = f"an item with the keys {keys[:6]}", "Export as 'JSON', not as 'JSON-MIN' or another form."
        raise refuse(path, "be Label Studio's JSON, tasks with data and annotations", got, remedy)
    name_of_task = f"task {task.get('id', position)}"
    location = _location(path, task, name_of_task)
    picture = Picture(location.rsplit("/", 1)[-1], apart=_prefixes(location, str(task.get("id", position))))
    finished = [a for a in task["annotations"] if isinstance(a, dict) and not a.get("was_cancelled")]
    chosen = _chosen(path, finished, annotator, name_of_task, picture.name)
    if chosen is None:
        picture.labelled = False
        picture.note(
            "",
            f"{name_of_task} has no annotation that was finished; that is not a picture of background.",
            "unlabelled",
        )
        return picture
    try:
        _add_regions(picture, chosen.get("result") or [])
    except DataError as error:
        raise DataError(
            f"annotations.read: {path!r}: {name_of_task} ({picture.name!r}): {error}. Correct it in Label Studio."
        ) from None
    return picture


def _location(path: str, task: dict[str, Any], source: str) -> str:
    """Where the image is, as a path: of an address its path, of a local file what follows ``?d=``."""
    texts = {key: value for key, value in task["data"].items() if isinstance(value, str) and value}
    pictures = {
        k: v for k, v in texts.items() if re.search(r"\.(jpe?g|png|tiff?|bmp|webp|gif|jp2)\b", v, re.IGNORECASE)
    }
    found = texts.get("image") or next(iter(pictures.values()), None) or next(iter(texts.values()), None)
    if found is None:
        raise refuse(path, f"say in {source} where its picture is", f"data {task['data']!r:.60}", "Add data.image.")
    if found.startswith("data:"):
        return f"{source.replace(' ', '_')}"
    parts = urlsplit(found) if "://" in found or found.startswith("/data/") else None
    local = parse_qs(parts.query).get("d") if parts is not None else None
    return name_of(local[0] if local else unquote(parts.path) if parts is not None else found)


def _prefixes(location: str, task: str) -> tuple[str, ...]:
    return (*reversed(location.split("/")[:-1]), f"task_{task}")


def _chosen(
    path: str, finished: list[dict[str, Any]], annotator: str | int | None, source: str, name: str
) -> dict[str, Any] | None:
    if annotator not in (None, "latest"):
        finished = [a for a in finished if str(annotator) in _people(a)]
    if len(finished) > 1 and any(a.get("ground_truth") for a in finished):
        finished = [a for a in finished if a.get("ground_truth")]
    if len(finished) < 2:
        return finished[0] if finished else None
    if annotator is not None:
        return max(finished, key=lambda a: (str(a.get("updated_at") or a.get("created_at") or ""), a.get("id") or 0))
    people = ", ".join(sorted({_people(a)[0] for a in finished if _people(a)})) or "unknown"
    raise refuse(
        path,
        "have one annotation for each task",
        f"{len(finished)} in {source} ({name!r}), by {people}",
        "Pass annotator= one of them, or annotator='latest'.",
    )


def _people(annotation: dict[str, Any]) -> list[str]:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        return [str(by[key]) for key in ("email", "id", "username") if by.get(key) is not None]
    return [] if by is None else [str(by)]


def _add_regions(picture: Picture, results: list[Any]) -> None:
    regions: dict[Any, dict[str, Any]] = {}
    sizes = set()
    for i, result in enumerate(results):
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            continue  # a relation between regions
        kind = str(result.get("type", "")).lower()
        if kind in _NO_REGION:
            continue
        value = result["value"]
        height, width = integer(result.get("original_height")), integer(result.get("original_width"))
        if height and width:
            sizes.add((height, width))
        if number(result.get("image_rotation") or 0) != 0:
            raise DataError(
                f"region {result.get('id', i)} was drawn on a picture turned by {result['image_rotation']} degrees in "
                "the tool, which this does not read: turn the picture's file, and draw on that"
            )
        region = regions.setdefault(result.get("id", i), {"names": [], "value": {}, "kind": kind})
        # A brush or a polygon comes once by itself and once with its labels, under one id.
        for key, names in value.items():
            if key.endswith("labels") and isinstance(names, list):
                region["names"] += [name for name in map(str, names) if name not in region["names"]]
        if len(value) > len(region["value"]) or kind not in ("labels",):
            region["value"] = {**region["value"], **value}
            region["kind"] = kind if kind != "labels" else region["kind"]
    if len(sizes) > 1:
        raise DataError(f"all regions must be of one picture, got original sizes {sorted(sizes)} (height, width)")
    picture.size = next(iter(sizes), None)
    for identity, region in regions.items():
        source = f"region {identity}"
        names = region["names"] or [""]
        if len(names) > 1:
            raise DataError(f"{source} must have one class, got {' and '.join(names)}: a pixel can have one only")
        _add(picture, names[0], region["value"], region["kind"], source)


def _add(picture: Picture, name: str, value: dict[str, Any], kind: str, source: str) -> None:
    if "rle" in value:
        try:
            lengths = brush_lengths(value["rle"])
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        picture.add(Shape(name, runs=Runs(lengths, "row"), source=source))
    elif "points" in value:
        if value.get("closed") is False:
            picture.note(source, "It is a line: its polygon was not closed.")
        else:
            picture.add(Shape(name, (ring_of(value["points"], source),), unit=100.0, source=source))
    elif "radiusX" in value:
        x, y, rx, ry, degrees = _numbers(value, source, "x", "y", "radiusX", "radiusY", "rotation")
        picture.add(Shape(name, ellipse=(x, y, rx, ry, degrees), unit=100.0, source=source))
    elif "width" in value and "height" in value and not kind.startswith(_WITHOUT_AREA):
        x, y, width, height, degrees = _numbers(value, source, "x", "y", "width", "height", "rotation")
        ring: Any = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        turn = (degrees, x, y) if degrees else None
        picture.add(Shape(name, (np.array(ring),), unit=100.0, turn=turn, source=source))
    else:
        picture.note(source, f"It is a {kind.removesuffix('labels') or 'label'}.")


def _numbers(value: dict[str, Any], source: str, *keys: str) -> list[float]:
    found = []
    for key in keys:
        one = number((value.get(key) or 0) if key == "rotation" else value.get(key))
        if one is None:
            raise DataError(f"{source} must have a number as {key}, got {value.get(key)!r}")
        found.append(one)
    return found
