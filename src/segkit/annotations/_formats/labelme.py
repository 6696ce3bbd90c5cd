"""labelme: one JSON file beside each image.

Whole numbers are corners of pixels on the screen. A mask lies in a box whose numbers are indices of pixels, which the
tool cuts to whole ones; it is placed by the box's upper left corner.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from typing import Any

import numpy as np

from segkit.annotations._drawing.runs import runs_of
from segkit.annotations._drawing.shape import Picture, Shape, ring_of
from segkit.annotations._formats.found import Found, in_order, integer, name_of, refuse, tell_apart
from segkit.annotations._formats.stream import whole
from segkit.errors import DataError

__all__ = ["read_labelme"]

_LINES = ("line", "linestrip", "point", "points")


def read_labelme(files: list[tuple[str, str]]) -> Found:
    """Every image of (path, its folder's name below the top)."""
    pictures = [_picture(path, folder) for path, folder in files]
    by_name: dict[str, str] = {}
    for picture, (path, _) in zip(pictures, files, strict=True):
        if picture.name in by_name:
            raise refuse(
                path,
                "be the only file of its picture",
                f"{picture.name!r}, which {by_name[picture.name]!r} names, too",
                "Correct imagePath in one of them.",
            )
        by_name[picture.name] = path
    return Found(tell_apart(pictures, ""), in_order(s.name for picture in pictures for s in picture.shapes))


def _picture(path: str, folder: str) -> Picture:
    content = whole(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        got = f"keys {sorted(content)[:6]}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise refuse(path, "be a labelme file, an object with shapes", got, "Leave it out of the folder.")
    # The folder of imagePath is that of the person who drew; the picture now lies beside the file, or beside its
    # folder.
    stem = os.path.splitext(os.path.basename(path))[0]
    stated = content.get("imagePath")
    name = name_of(stated).rsplit("/", 1)[-1] if isinstance(stated, str) else ""
    if not name or name == ".." or name.lower().endswith(".json"):
        name = name_of(stem)
    height, width = integer(content.get("imageHeight")), integer(content.get("imageWidth"))
    size = (height, width) if height and width else _embedded_size(content.get("imageData"))
    picture = Picture(name_of(f"{folder}/{name}"), size)
    for i, shape in enumerate(content["shapes"]):
        source = f"shape {i}"
        try:
            _add(picture, shape, source)
        except DataError as error:
            raise DataError(f"annotations.read: {path!r}: {error}. Correct or delete it in labelme.") from None
    return picture


def _add(picture: Picture, shape: Any, source: str) -> None:
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        raise DataError(f"{source} must be an object with label and points, got {shape!r:.60}")
    kind = shape.get("shape_type") or "polygon"
    label = shape.get("label")
    name = label if isinstance(label, str) else "" if label is None else str(label)
    group = shape.get("group_id")
    instance = None if group is None else str(group)
    if kind in _LINES:
        picture.note(source, f"It is a {kind.removesuffix('s')}.")
        return
    points = ring_of(shape["points"] or np.zeros((0, 2)), source)
    if kind == "mask":
        if not len(points):
            raise DataError(f"{source} must have the box of its mask, got no points")
        pixels = _pixels(shape.get("mask"), source)
        left, top = (int(v) for v in points.min(axis=0))  # cut, as the tool does it
        runs = runs_of(pixels, "row", (top, left, *pixels.shape))
        picture.add(Shape(name, runs=runs, instance=instance, source=source))
    elif kind == "circle":
        if len(points) != 2:
            raise DataError(f"{source} must have two points as a circle, got {len(points)}")
        radius = math.dist(points[0], points[1])
        x, y = points[0].tolist()
        picture.add(Shape(name, ellipse=(x, y, radius, radius, 0.0), instance=instance, source=source))
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points.tolist()
        ring = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        picture.add(Shape(name, (ring,), instance=instance, source=source))
    elif kind in ("polygon", "rectangle", "oriented_rectangle"):
        picture.add(Shape(name, (points,), instance=instance, source=source))
    else:
        raise DataError(f"{source} must have a shape_type that labelme knows, got {kind!r}")


def _pixels(text: Any, source: str) -> np.ndarray:
    """Bool [h, w] of a PNG in base64: 0/1, 0/255 or one bit."""
    from PIL import Image

    if not isinstance(text, str):
        raise DataError(f"{source} must have a PNG in base64 as mask, got {text!r:.40}")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{source} must have a PNG in base64 as mask, got one that cannot be read ({error})") from None
    if pixels.ndim == 3:
        alpha = pixels.shape[2] in (2, 4)
        drawn = (pixels[..., : pixels.shape[2] - alpha] != 0).any(axis=2)
        return drawn & (pixels[..., -1] != 0) if alpha else drawn
    return pixels != 0


def _embedded_size(data: Any) -> tuple[int, int] | None:
    """The size of the image inside the file, turned by its EXIF orientation; old files have no other."""
    from PIL import Image

    if not isinstance(data, str) or not data:
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) >= 5
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)
