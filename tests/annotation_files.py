"""The same drawing written as six tools write it, and the parts of such files that tests change."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64

# (class, outline), in the order in which they are drawn. The numbers are multiples of 1/8, so shares and per cent of
# this size give them back exactly.
OUTLINES = [
    ("cat", [(3.25, 2.5), (30.125, 4.0), (22.5, 40.75), (5.0, 33.0)]),
    ("dog", [(20.0, 10.0), (60.5, 12.25), (58.0, 44.0)]),
    ("cat", [(40.0, 30.0), (50.0, 30.0), (50.0, 46.0), (40.0, 46.0)]),
]
CLASSES = ["background", "cat", "dog"]


def expected() -> np.ndarray:
    """The mask, by asking of each centre whether it lies inside: naive, and in float64."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, ring in OUTLINES:
        mask[inside(ring, HEIGHT, WIDTH)] = CLASSES.index(name)
    return mask


def inside(ring, height, width) -> np.ndarray:
    """Even-odd, centre by centre; a centre on an edge counts as right of it."""
    out = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y, odd = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                    odd = not odd
            out[row, column] = odd
    return out


def coco(**changes) -> dict:
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {
                "id": i,
                "image_id": 7,
                "category_id": 3 if name == "cat" else 18,
                "segmentation": [[float(v) for point in ring for v in point]],
                "iscrowd": 0,
            }
            for i, (name, ring) in enumerate(OUTLINES, 1)
        ],
        **changes,
    }


def labelme(**changes) -> dict:
    shapes = [
        {"label": n, "points": [list(p) for p in ring], "group_id": None, "shape_type": "polygon", "flags": {}}
        for n, ring in OUTLINES
    ]
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.jpg",
        "imageData": None,
        **size,
        **changes,
    }


def cvat(images: str | None = None, meta: str = "") -> str:
    if images is None:
        polygons = "".join(
            f'<polygon label="{name}" points="{";".join(f"{x},{y}" for x, y in ring)}" z_order="0"></polygon>'
            for name, ring in OUTLINES
        )
        images = f'<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{polygons}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}{images}</annotations>'


def region(kind: str, value: dict, number: int, **changes) -> dict:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": f"r{number}", "type": kind, "from_name": "l", "to_name": "i", "value": value, **size, **changes}


def label_studio(results: list | None = None, **changes) -> list:
    if results is None:
        results = [
            region(
                "polygonlabels",
                {
                    "points": [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in ring],
                    "closed": True,
                    "polygonlabels": [name],
                },
                i,
            )
            for i, (name, ring) in enumerate(OUTLINES)
        ]
    annotation = {"id": 1, "completed_by": 1, "was_cancelled": False, "result": results}
    data = {"image": "/data/upload/3/0a1b2c3d-a.jpg"}
    return [{"id": 5, "data": data, "annotations": [annotation], "predictions": [], **changes}]


def yolo() -> str:
    return "".join(
        f"{CLASSES.index(n) - 1} " + " ".join(f"{x / WIDTH!r} {y / HEIGHT!r}" for x, y in ring) + "\n"
        for n, ring in OUTLINES
    )


def brush(alpha: np.ndarray, word: int = 8, sizes: tuple[int, ...] = (3, 8, 12, 16)) -> list[int]:
    """Label Studio's bit stream for the alpha of a picture: runs where values repeat, a block of literals elsewhere."""
    values = np.repeat(alpha.reshape(-1), 4).tolist()
    bits = [f"{len(values):032b}", f"{word - 1:05b}", *(f"{size - 1:04b}" for size in sizes)]
    at = 0
    while at < len(values):
        end = at + 1
        while end < len(values) and values[end] == values[at] and end - at < 1 << max(sizes):
            end += 1
        run = end - at > 4
        if not run:
            end = min(at + 7, len(values))  # not a multiple of four: pixels are cut by the ends of blocks
        kind = next(k for k, size in enumerate(sizes) if end - at - 1 < 1 << size)
        bits.append(f"{int(run)}{kind:02b}{end - at - 1:0{sizes[kind]}b}")
        bits += [f"{value:0{word}b}" for value in (values[at : at + 1] if run else values[at:end])]
        at = end
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def png(pixels: np.ndarray, mode: str = "L") -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(path, content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode("utf-8"))
    return str(path)
