"""Which pixels lie inside a ring: those whose centres do, by the even-odd rule, exactly.

An edge crosses the centre line of a row at one column; between the first crossing of a row and the second the ring is
inside, between the third and the fourth, and so on. All crossings of many rings are found at once, and most rings cross
each row twice, so that only the rest has to be sorted.

A centre exactly on an edge belongs to what lies right of the edge or below it: shapes that share an edge share no
pixel and leave none out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Spans", "crosses_itself", "ellipse_patch", "ellipse_reach", "spans_of"]

_ROWS = 1 << 16  # rows of rings that are looked at together: what is made of them stays in the cache


class Spans(NamedTuple):
    """Pixels [start, stop) of rows, for the rings [first, first + count): in the order of the rings.

    `ring` counts from `first`; `boxes` is [count, 4]: top, left, bottom, right of each ring in the picture.
    """

    ring: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    first: int
    boxes: np.ndarray


def spans_of(rings: Sequence[np.ndarray], height: int, width: int) -> Iterator[Spans]:
    """The spans of all rings, some rings at a time.

    Args:
        rings: [N, 2] float64 (x, y) each, finite, at least one point; each is closed by itself.
        height: of the picture; what lies outside is cut off.
        width: likewise.
    """
    if not rings:
        return
    sizes = np.array([len(ring) for ring in rings])
    y = np.concatenate(rings)[:, 1]
    starts = np.cumsum(sizes) - sizes
    reach = (np.maximum.reduceat(y, starts) - np.minimum.reduceat(y, starts)).clip(0, height) + 1
    part = (np.cumsum(reach) // _ROWS).astype(np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(rings)]
    for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
        yield _spans(rings[begin:end], height, width, begin)


def _spans(rings: Sequence[np.ndarray], height: int, width: int, first: int) -> Spans:
    sizes = np.array([len(ring) for ring in rings])
    ends = np.cumsum(sizes)
    starts = ends - sizes
    x, y = np.ascontiguousarray(np.concatenate(rings).T)
    row = np.ceil(y - 0.5).clip(0, height).astype(np.int32)  # the first whose centre is not above the point
    top, bottom = np.minimum.reduceat(row, starts), np.maximum.reduceat(row, starts)
    left = np.floor(np.minimum.reduceat(x, starts)).clip(0, width).astype(np.int32)
    right = np.ceil(np.maximum.reduceat(x, starts)).clip(0, width).astype(np.int32)
    heights = bottom - top
    base = np.cumsum(heights) - heights  # a slot is a row of a ring; this is the first of each ring
    following = np.arange(1, len(x) + 1)
    following[ends - 1] = starts
    points = (x, y, row, following, np.repeat(base - top, sizes))
    slots = int(heights.sum())
    down, up = (_crossings(points, width, upwards=upwards) for upwards in (False, True))

    one, other = np.empty(slots, np.int32), np.empty(slots, np.int32)
    one[down[0]], other[up[0]] = down[1], up[1]
    slot = np.arange(slots, dtype=np.int32)
    start, stop = np.minimum(one, other), np.maximum(one, other)
    if len(down[0]) > slots:  # a closed ring crosses each of its rows down and up at least once; some do so more often
        often = np.bincount(down[0], minlength=slots) > 1
        places, columns = (np.concatenate([d[often[down[0]]], u[often[up[0]]]]) for d, u in zip(down, up, strict=True))
        bits = int(width).bit_length()
        key_type = np.uint32 if slots << bits <= 1 << 32 else np.uint64  # sorting is most of the time here
        key = places.astype(key_type)
        key <<= key_type(bits)
        key |= columns.astype(key_type)
        key.sort()
        columns = (key & key_type((1 << bits) - 1)).astype(np.int32)
        keep = ~often
        slot = np.concatenate([slot[keep], (key[::2] >> key_type(bits)).astype(np.int32)])
        start, stop = np.concatenate([start[keep], columns[::2]]), np.concatenate([stop[keep], columns[1::2]])
    ring = np.repeat(np.arange(len(rings), dtype=np.int32), heights)[slot]
    return Spans(
        ring, slot + (top - base).astype(np.int32)[ring], start, stop, first, np.stack([top, left, bottom, right], 1)
    )


def _crossings(points: tuple[np.ndarray, ...], width: int, *, upwards: bool) -> tuple[np.ndarray, np.ndarray]:
    """(slots, columns) of the edges that go one way; a column is that of the first centre not left of the edge."""
    x, y, row, following, to_slot = points
    edge = np.flatnonzero(row > row[following] if upwards else row < row[following])
    # From its upper end, whichever way it goes: two shapes that share an edge must find the same columns.
    upper, lower = (following[edge], edge) if upwards else (edge, following[edge])
    count = row[lower] - row[upper]
    ends = np.cumsum(count)
    slope = (x[lower] - x[upper]) / (y[lower] - y[upper])
    rows = np.arange(count.sum(), dtype=np.int32) - np.repeat((ends - count - row[upper]).astype(np.int32), count)
    place = rows - np.repeat(y[upper] - 0.5, count)
    place *= np.repeat(slope, count)
    place += np.repeat(x[upper] - 0.5, count)
    np.ceil(place, out=place)
    np.clip(place, 0, width, out=place)
    return rows + np.repeat(to_slot[edge].astype(np.int32), count), place.astype(np.int32)


def crosses_itself(ring: np.ndarray, height: int, width: int) -> bool:
    """Does the ring wind about some pixel twice, or about one in one way and about another in the other?

    What it winds about twice is outside by the even-odd rule, which its annotator may not have meant.
    """
    if len(ring) < 4:
        return False
    x, y = ring.T
    row = np.ceil(y - 0.5).clip(0, height).astype(np.int32)
    top, bottom = int(row.min()), int(row.max())
    if top == bottom:
        return False
    winding = np.zeros((bottom - top, width + 1), np.int8)
    points = (x, y, row, np.roll(np.arange(len(x)), -1), np.full(len(x), -top))
    for upwards, sign in ((False, np.int8(1)), (True, np.int8(-1))):
        np.add.at(winding, _crossings(points, width, upwards=upwards), sign)
    np.cumsum(winding, axis=1, dtype=np.int8, out=winding)
    return bool(winding.max() > 1 or winding.min() < -1 or winding.max() > 0 > winding.min())


def ellipse_reach(ellipse: Sequence[float]) -> tuple[float, float]:
    """How far an ellipse extends from its centre, in x and in y."""
    _, _, across, along, degrees = ellipse
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return math.hypot(across * cos, along * sin), math.hypot(across * sin, along * cos)


def ellipse_patch(ellipse: Sequence[float], height: int, width: int) -> tuple[int, int, np.ndarray]:
    """(top, left, bool [h, w]) of an ellipse (x, y, radius x, radius y, degrees clockwise), by its equation."""
    x, y, across, along, degrees = ellipse
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    reach = ellipse_reach(ellipse)
    left, right = (int(min(max(v, 0), width)) for v in (math.floor(x - reach[0]), math.ceil(x + reach[0])))
    top, bottom = (int(min(max(v, 0), height)) for v in (math.floor(y - reach[1]), math.ceil(y + reach[1])))
    if across <= 0 or along <= 0:
        return top, left, np.zeros((bottom - top, right - left), np.bool_)
    dx, dy = np.arange(left, right) + 0.5 - x, (np.arange(top, bottom) + 0.5 - y)[:, None]
    return top, left, ((dx * cos + dy * sin) / across) ** 2 + ((dy * cos - dx * sin) / along) ** 2 <= 1
