"""Put values on spans of pixels, later ones over earlier ones.

A span is painted by two copies of a block of 2**k pixels that overlap inside it, so all spans of a similar length
are one indexed assignment over a view of the picture whose elements are such blocks: a memory copy each, and no loop of
Python over the spans. Rings that may touch the same pixels are in different layers, painted one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.annotations._drawing.spans import Spans, spans_of

__all__ = ["paint_rings"]

_LONG = 256  # bytes: for longer blocks a value is handed over once for each ring, not once for each span


def paint_rings(out: np.ndarray, rings: Sequence[np.ndarray], values: np.ndarray) -> None:
    """Set `out`, C-contiguous [H, W], to each ring's value inside it, in the order of the rings."""
    for spans in spans_of(rings, *out.shape):
        count = len(spans.boxes)
        _paint(out, spans, values[spans.first : spans.first + count].astype(out.dtype))


def _paint(out: np.ndarray, spans: Spans, values: np.ndarray) -> None:
    width = out.shape[1]
    length = spans.stop - spans.start
    kept = np.flatnonzero(length > 0)
    if not len(kept):
        return
    length = length[kept]
    power = np.frexp(length.astype(np.float32))[1] - 1  # of the largest block that is not longer than the span
    group = (_layers(spans.boxes)[spans.ring[kept]] << 5) | power.astype(np.int32)
    order = np.argsort(group.astype(np.uint16) if group.max() < 1 << 16 else group, kind="stable")
    kept, group, length = kept[order], group[order], length[order]
    start = spans.row[kept].astype(np.int64) * width + spans.start[kept]
    last = start + length
    ring = spans.ring[kept]
    bounds = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    flat = out.reshape(-1)
    for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        pixels = 1 << (int(group[a]) & 31)
        block = np.dtype((np.void, pixels * out.itemsize))
        blocks = np.ndarray(flat.size - pixels + 1, block, flat, strides=(out.itemsize,))
        for c, d in [(a, b)] if block.itemsize <= _LONG else _runs(ring, a, b):
            here = ring[c:d]
            first = int(here.min())
            rows = np.repeat(values[first : int(here.max()) + 1, None], pixels, axis=1).view(block)[:, 0]
            value = rows[here - first] if len(rows) > 1 else rows
            blocks[start[c:d]] = value
            if pixels > 1:
                blocks[last[c:d] - pixels] = value


def _runs(ring: np.ndarray, a: int, b: int) -> list[tuple[int, int]]:
    """The parts of [a, b) of one ring each."""
    cuts = [a, *(np.flatnonzero(np.diff(ring[a:b])) + a + 1).tolist(), b]
    return list(zip(cuts[:-1], cuts[1:], strict=True))


def _layers(boxes: np.ndarray) -> np.ndarray:
    """A number for each box: higher than that of each earlier box that it may touch. By the cells of a grid."""
    sides = boxes[:, 2:] - boxes[:, :2]
    cell = max(16, int(sides.mean()))
    cells = np.stack([boxes[:, 0], boxes[:, 1], boxes[:, 2] - 1, boxes[:, 3] - 1], 1) // cell
    layer_of: dict[int, int] = {}
    layers = []
    across = 1 + int(cells[:, 3].max(initial=0))
    for top, left, bottom, right in cells.tolist():
        rows = range(top * across, bottom * across + 1, across)
        touched = [row + j for row in rows for j in range(left, right + 1)]
        layer = max([layer_of.get(place, 0) for place in touched], default=0)
        layers.append(layer)
        layer_of.update(dict.fromkeys(touched, layer + 1))
    return np.array(layers, np.int32)
