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

__all__ = ["Spans", "Window", "crosses_itself", "ellipse_patch", "ellipse_reach", "spans_of"]

Window = tuple[int, int, int, int]  # top, left, height, width

_ROWS = 1 << 15  # rows of rings that are looked at together: what is made of them stays in the cache
_RING = 1 << 6  # counted for each ring besides, since each is compared with each other


class Spans(NamedTuple):
    """Pixels [start, stop) of rows, for the rings [first, first + count): in the order of the rings.

    `ring` counts from `first`; `boxes` is [count, 4]: top, left, bottom, right of each ring in the image.
    """

    ring: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    first: int
    boxes: np.ndarray


class _Edges(NamedTuple):
    """The edges that go one way and cross a row, sorted by slots: a slot is a row of a ring, one ring after another.

    They begin at their upper ends, whichever way they go: two shapes that share an edge must find the same columns.
    """

    slot: np.ndarray  # of the first row
    first: np.ndarray  # row, of the picture
    rows: np.ndarray  # how many
    y: np.ndarray  # of the upper end, from the centre of row 0
    slope: np.ndarray
    x: np.ndarray  # of the upper end, likewise


class _Outlines(NamedTuple):
    boxes: np.ndarray  # [count, 4]: top, left, bottom, right
    slots: np.ndarray  # [count + 1]: the first slot of each ring, and their number
    ways: tuple[_Edges, _Edges]  # down, up


def _outlines(rings: Sequence[np.ndarray], window: Window) -> _Outlines:
    above, before, height, width = window
    sizes = np.array([len(ring) for ring in rings])
    ends = np.cumsum(sizes)
    starts = ends - sizes
    x, y = np.ascontiguousarray(np.concatenate(rings).T)
    # The first row whose centre is not above the point.
    row = (np.ceil(y - 0.5).clip(above, above + height) - above).astype(np.int32)
    top, bottom = np.minimum.reduceat(row, starts), np.maximum.reduceat(row, starts)
    left = (np.floor(np.minimum.reduceat(x, starts)) - before).clip(0, width).astype(np.int32)
    right = (np.ceil(np.maximum.reduceat(x, starts)) - before).clip(0, width).astype(np.int32)
    slots = np.concatenate([[0], np.cumsum(bottom - top)])
    following = np.arange(1, len(x) + 1)
    following[ends - 1] = starts
    rows = row[following] - row
    to_slot = np.repeat(slots[:-1] - top, sizes)
    ways = []
    for edge, upwards in ((np.flatnonzero(rows > 0), False), (np.flatnonzero(rows < 0), True)):
        upper, lower = (following[edge], edge) if upwards else (edge, following[edge])
        slot = row[upper] + to_slot[upper]
        order = np.argsort(slot, kind="stable")
        upper, lower = upper[order], lower[order]
        slope = (x[lower] - x[upper]) / (y[lower] - y[upper])
        first = row[upper] + np.int32(above)
        ways.append(_Edges(slot[order], first, row[lower] - row[upper], y[upper] - 0.5, slope, x[upper] - 0.5))
    return _Outlines(np.stack([top, left, bottom, right], 1), slots, (ways[0], ways[1]))


def spans_of(rings: Sequence[np.ndarray], window: Window) -> Iterator[Spans]:
    """The spans of all rings, some rings at a time.

    Args:
        rings: [N, 2] float64 (x, y) each, finite, at least one point; each is closed by itself.
        window: (top, left, height, width) of what is drawn, where rows and columns of spans begin; what lies outside is
            cut off. Numbers are those of the image until columns are whole, so that a window has the same pixels.
    """
    if not rings:
        return
    boxes, slots, ways = _outlines(rings, window)
    part = (slots[1:] + _RING * np.arange(len(rings))) // _ROWS
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(rings)]
    places = [np.searchsorted(edges.slot, slots[cuts]).tolist() for edges in ways]
    for i, (first, end) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
        begin, count = slots[first], int(slots[end] - slots[first])
        down, up = (
            _crossings(_Edges(*(field[at[i] : at[i + 1]] for field in edges)), begin, window)
            for edges, at in zip(ways, places, strict=True)
        )
        slot, start, stop = _paired(down, up, count, window[3])
        ring = np.repeat(np.arange(end - first, dtype=np.int32), np.diff(slots[first : end + 1]))[slot]
        to_row = (boxes[first:end, 0] + begin - slots[first:end]).astype(np.int32)
        yield Spans(ring, slot + to_row[ring], start, stop, first, boxes[first:end])


def _crossings(edges: _Edges, begin: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(slots from `begin` on, columns): a column is that of the first centre not left of the edge."""
    count = edges.rows
    ends = np.cumsum(count)
    row = np.arange(count.sum(), dtype=np.int32)
    row += np.repeat((edges.first - ends + count).astype(np.int32), count)
    place = row - np.repeat(edges.y, count)
    place *= np.repeat(edges.slope, count)
    place += np.repeat(edges.x, count)
    np.ceil(place, out=place)
    if window[1]:
        place -= window[1]
    np.clip(place, 0, window[3], out=place)
    row += np.repeat((edges.slot - begin - edges.first).astype(np.int32), count)
    return row, place.astype(np.int32)


def _paired(
    down: tuple[np.ndarray, np.ndarray], up: tuple[np.ndarray, np.ndarray], slots: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(slot, start, stop) of what lies between crossings. A ring crosses each of its rows down and up at least once."""
    if len(down[0]) == slots:  # once each, and they are sorted
        slot = np.arange(slots, dtype=np.int32)
        return slot, np.minimum(down[1], up[1]), np.maximum(down[1], up[1])
    one, other = np.empty(slots, np.int32), np.empty(slots, np.int32)
    one[down[0]], other[up[0]] = down[1], up[1]
    often = np.bincount(down[0], minlength=slots) > 1
    once = np.flatnonzero(~often).astype(np.int32)
    one, other = one[once], other[once]
    places, columns = (np.concatenate([d[often[down[0]]], u[often[up[0]]]]) for d, u in zip(down, up, strict=True))
    bits = int(width).bit_length()
    key_type = np.uint32 if slots << bits <= 1 << 32 else np.uint64  # sorting is most of the time here
    key = places.astype(key_type)
    key <<= key_type(bits)
    key |= columns.astype(key_type)
    key.sort()
    columns = (key & key_type((1 << bits) - 1)).astype(np.int32)
    slot = np.concatenate([once, (key[::2] >> key_type(bits)).astype(np.int32)])
    start = np.concatenate([np.minimum(one, other), columns[::2]])
    return slot, start, np.concatenate([np.maximum(one, other), columns[1::2]])


def crosses_itself(ring: np.ndarray, height: int, width: int) -> bool:
    """Does the ring wind about some pixel twice, or about one in one way and about another in the other?

    What it winds about twice is outside by the even-odd rule, which its annotator may not have meant.
    """
    if len(ring) < 4:
        return False
    left, top = np.floor(ring.min(axis=0)).clip(0, (width, height)).astype(int).tolist()
    right, bottom = np.ceil(ring.max(axis=0)).clip(0, (width, height)).astype(int).tolist()
    window = (top, left, bottom - top, right - left)
    _, slots, ways = _outlines([ring], window)
    if not slots[-1]:
        return False
    winding = np.zeros((slots[-1], window[3] + 1), np.int8)
    for edges, sign in zip(ways, (np.int8(1), np.int8(-1)), strict=True):
        np.add.at(winding, _crossings(edges, 0, window), sign)
    np.cumsum(winding, axis=1, dtype=np.int8, out=winding)
    return bool(winding.max() > 1 or winding.min() < -1 or winding.max() > 0 > winding.min())


def ellipse_reach(ellipse: Sequence[float]) -> tuple[float, float]:
    """How far an ellipse extends from its centre, in x and in y."""
    _, _, across, along, degrees = ellipse
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return math.hypot(across * cos, along * sin), math.hypot(across * sin, along * cos)


def ellipse_patch(ellipse: Sequence[float], window: Window) -> tuple[int, int, np.ndarray]:
    """(top, left, bool [h, w]) in a window, of an ellipse (x, y, radius x, radius y, degrees clockwise)."""
    x, y, across, along, degrees = ellipse
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    reach = ellipse_reach(ellipse)
    top, bottom = (int(min(max(v, window[0]), window[0] + window[2])) for v in _ends(y, reach[1]))
    left, right = (int(min(max(v, window[1]), window[1] + window[3])) for v in _ends(x, reach[0]))
    inside = np.zeros((bottom - top, right - left), np.bool_)
    if across > 0 and along > 0:
        dx, dy = np.arange(left, right) + 0.5 - x, (np.arange(top, bottom) + 0.5 - y)[:, None]
        inside = ((dx * cos + dy * sin) / across) ** 2 + ((dy * cos - dx * sin) / along) ** 2 <= 1
    return top - window[0], left - window[1], inside


def _ends(middle: float, reach: float) -> tuple[int, int]:
    return math.floor(middle - reach), math.ceil(middle + reach)
