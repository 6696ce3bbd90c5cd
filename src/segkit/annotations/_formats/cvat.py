"""CVAT XML 1.1, for images and for video.

Whole numbers are corners of pixels. Boxes and ellipses turn about their centres, clockwise. A mask's ``left`` and
``top`` are indices of pixels; its run lengths go along the rows of its own box, begin with zeros, and the box may
reach outside the image. Shapes are stacked by ``z_order``, a number that may be negative.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np

from segkit.annotations._drawing.runs import Runs, pixels_of
from segkit.annotations._drawing.shape import Picture, Shape, ring_of
from segkit.annotations._formats.found import Found, in_order, integer, name_of, number, refuse, tell_apart
from segkit.errors import DataError

__all__ = ["read_cvat"]

_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")
_SHAPES = ("polygon", "box", "ellipse", "mask")
_MOST_FRAMES = 10_000_000  # two days of a fast camera: more is a broken file, and would fill the memory


def read_cvat(path: str) -> Found:
    """Every image of the file; of a video, every frame under the name that CVAT saves it by."""
    pictures: list[Picture] = []
    frames: dict[int, Picture] = {}
    labels: list[str] = []
    meta: dict[str, Any] = {}
    try:
        root, depth = None, 0
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            if root is None:
                root = element
                if element.tag != "annotations":
                    got = f"the outermost element <{element.tag}>"
                    raise refuse(path, "be CVAT XML 1.1", got, "Export the task as 'CVAT for images 1.1'.")
            depth += (event == "start") - (event == "end") if element.tag == "track" else 0
            if event == "start":
                continue
            if element.tag == "meta":
                labels, meta = _meta(element)
            elif element.tag == "image":
                pictures.append(_image(path, element))
                element.clear()
            elif element.tag == "track" and not depth:  # those inside are the points of a skeleton
                _track(path, element, frames, meta)
                element.clear()
    except ElementTree.ParseError as error:
        raise refuse(
            path, "be whole XML", f"a file that is damaged or ends too early ({error})", "Export it again."
        ) from None
    if meta.get("frames") and (frames or not pictures):
        if len(meta["frames"]) > _MOST_FRAMES:
            got = f"{len(meta['frames'])} frames between start_frame and stop_frame"
            raise refuse(path, f"be a video of at most {_MOST_FRAMES} frames", got, "Export the task again, or cut it.")
        for frame in meta["frames"]:
            frames.setdefault(frame, _frame(frame, meta))
    pictures += [frames[frame] for frame in sorted(frames)]
    found = in_order([*labels, *(shape.name for picture in pictures for shape in picture.shapes)])
    return Found(tell_apart(pictures, path), found)


def _meta(element: ElementTree.Element) -> tuple[list[str], dict[str, Any]]:
    labels = [
        label.findtext("name") or ""
        for label in element.iter("label")
        if label.find("name") is not None and label.findtext("type") != "tag" and label.find("parent") is None
    ]
    height, width = (integer(element.findtext(f".//original_size/{side}")) for side in ("height", "width"))
    meta: dict[str, Any] = {"size": (height, width) if height and width else None}
    if element.findtext(".//mode") == "interpolation":
        start, stop = (number(element.findtext(f".//{key}")) for key in ("start_frame", "stop_frame"))
        step = (element.findtext(".//frame_filter") or "").partition("step=")[2].strip()
        every = integer(step or 1)
        if start is not None and stop is not None and every:
            meta["frames"] = range(int(start), int(stop) + 1, every)  # tracks count in the video's frames, too
    return labels, meta


def _image(path: str, element: ElementTree.Element) -> Picture:
    name = element.get("name")
    if not name:
        got = f"one without (id {element.get('id')})"
        raise refuse(path, "have a name for each image", got, "Export it again.")
    height, width = integer(element.get("height")), integer(element.get("width"))
    # The files of a project repeat names: its subsets tell them apart, or else its tasks.
    apart = (element.get("subset") or "", f"task_{element.get('task_id')}" if element.get("task_id") else "")
    picture = Picture(name_of(name), (height, width) if height and width else None, apart=apart)
    for i, child in enumerate(element):
        _add(path, picture, child, f"{child.tag} {i} of image {element.get('id', name)}")
    return picture


def _frame(frame: int, meta: dict[str, Any]) -> Picture:
    return Picture(f"frame_{frame:06d}", meta.get("size"))


def _track(path: str, track: ElementTree.Element, frames: dict[int, Picture], meta: dict[str, Any]) -> None:
    for child in track:
        number_of = number(child.get("frame"))
        if number_of is None or child.get("outside") == "1":
            continue
        picture = frames.setdefault(int(number_of), _frame(int(number_of), meta))
        child.set("label", track.get("label", ""))
        _add(path, picture, child, f"track {track.get('id')}, frame {int(number_of)}")


def _add(path: str, picture: Picture, element: ElementTree.Element, source: str) -> None:
    if element.tag in _WITHOUT_AREA:
        picture.note(source, f"It is a {element.tag.removesuffix('s')}.")
        return
    if element.tag not in _SHAPES:
        return
    try:
        picture.add(_shape(element, source))
    except DataError as error:
        raise DataError(
            f"annotations.read: {path!r}: {picture.name!r}: {error}. Correct or delete it in CVAT."
        ) from None


def _shape(element: ElementTree.Element, source: str) -> Shape:
    name, group = element.get("label", ""), element.get("group_id")
    z = _numbers(element, source, "z_order", default=0.0)[0]
    instance = group if group not in (None, "", "0") else None
    if element.tag == "mask":
        left, top, width, height = (int(v) for v in _numbers(element, source, "left", "top", "width", "height"))
        try:
            lengths = np.array([int(v) for v in element.get("rle", "").replace(",", " ").split()], np.int64)
        except (ValueError, OverflowError):
            raise DataError(f"{source} must have whole numbers as rle, got {element.get('rle')!r:.60}") from None
        if (lengths < 0).any() or pixels_of(lengths) != width * height:
            raise DataError(f"{source} must have an rle of {width} x {height} pixels, got {pixels_of(lengths)}")
        return Shape(name, runs=Runs(lengths, "row", (top, left, height, width)), z=z, instance=instance, source=source)
    if element.tag == "ellipse":
        x, y, rx, ry = _numbers(element, source, "cx", "cy", "rx", "ry")
        degrees = _numbers(element, source, "rotation", default=0.0)[0]
        return Shape(name, ellipse=(x, y, rx, ry, degrees), z=z, instance=instance, source=source)
    if element.tag == "box":
        x0, y0, x1, y1 = _numbers(element, source, "xtl", "ytl", "xbr", "ybr")
        turn = (_numbers(element, source, "rotation", default=0.0)[0], (x0 + x1) / 2, (y0 + y1) / 2)
        ring: Any = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        return Shape(name, (ring,), z=z, instance=instance, turn=turn if turn[0] else None, source=source)
    points = [pair.split(",") for pair in element.get("points", "").split(";") if pair.strip()]
    return Shape(name, (ring_of(points, source),), z=z, instance=instance, source=source)


def _numbers(element: ElementTree.Element, source: str, *keys: str, default: float | None = None) -> list[float]:
    found = []
    for key in keys:
        value = number(element.get(key)) if element.get(key) not in (None, "") else default
        if value is None:
            raise DataError(f"{source} must have a number as {key}, got {element.get(key)!r}")
        found.append(value)
    return found
