"""Put values on spans of pixels, later ones over earlier ones.

A span is painted by two copies of a block of 2**k pixels that overlap inside it, so all spans of a similar length
are one indexed assignment over a view of the image whose elements are such blocks: a memory copy each, and no loop of
Python over the spans. Rings that may touch the same pixels are in different layers, painted one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.annotations._drawing.spans import Spans, spans_of

__all__ = ["paint_rings"]

_LONG = 128  # bytes: for longer blocks a value is handed over once for each ring, not once for each span


def paint_rings(
    out: np.ndarray, rings: Sequence[np.ndarray], values: np.ndarray, corner: tuple[int, int] = (0, 0)
) -> None:
    """Set `out`, C-contiguous [H, W], to each ring's value inside it, in the order of the rings.

    `corner` is (top, left) of `out` in the image whose coordinates the rings have.
    """
    for spans in spans_of(rings, (*corner, *out.shape)):
        _paint(out, spans, values[spans.first : spans.first + len(spans.boxes)].astype(out.dtype))


def _paint(out: np.ndarray, spans: Spans, values: np.ndarray) -> None:
    length = spans.stop - spans.start
    if not len(length):
        return
    flat = out.reshape(-1)
    power = np.frexp(length.astype(np.float32))[1]  # 2**(power - 1) is the largest block that is not longer; 0: empty
    group = (_layers(spans.boxes, values)[spans.ring] << 5 | power).astype(np.uint16)
    order = np.argsort(group, kind="stable")
    ring, group = np.repeat(spans.ring.take(order), 2), group.take(order)
    pairs = np.empty((len(order), 2), np.int64 if flat.size > np.iinfo(np.int32).max else np.int32)
    pairs[:, 0] = spans.row.take(order)
    pairs[:, 0] *= out.shape[1]
    pairs[:, 0] += spans.start.take(order)
    pairs[:, 1] = pairs[:, 0]
    pairs[:, 1] += (length - ((1 << power) >> 1)).take(order)
    places = pairs.reshape(-1)  # both blocks of a span follow each other, which is near in memory
    tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    bounds = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1, [len(group)]])
    kinds = (group[bounds[:-1]] & 31).tolist()
    for a, b, kind in zip((2 * bounds[:-1]).tolist(), (2 * bounds[1:]).tolist(), kinds, strict=True):
        pixels = 1 << kind >> 1
        if not pixels:
            continue
        if pixels not in tables:
            block = np.dtype((np.void, pixels * out.itemsize))
            blocks = np.ndarray(flat.size - pixels + 1, block, flat, strides=(out.itemsize,))
            tables[pixels] = blocks, np.repeat(values[:, None], pixels, axis=1).view(block)[:, 0]
        blocks, rows = tables[pixels]
        if rows.itemsize <= _LONG:
            blocks[places[a:b]] = rows.take(ring[a:b])
            continue
        cuts = [a, *(np.flatnonzero(np.diff(ring[a:b])) + a + 1).tolist(), b]
        for c, d in zip(cuts[:-1], cuts[1:], strict=True):
            blocks[places[c:d]] = rows[ring[c], ...]


def _layers(boxes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A number for each ring: higher than that of each earlier one of another value that it may touch."""
    top, left, bottom, right = boxes.T
    over = (top[:, None] < bottom) & (top < bottom[:, None]) & (left[:, None] < right) & (left < right[:, None])
    over &= values[:, None] != values
    over &= np.tri(len(boxes), k=-1, dtype=np.bool_)
    layers = np.zeros(len(boxes), np.int32)
    higher = over.any(axis=1)
    while higher.any():
        layers += higher
        higher = (over & higher).any(axis=1)
    return layers
