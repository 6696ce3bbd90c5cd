"""What an annotator drew, in the same form whatever the tool: a `Shape`, and the `Picture` that it lies on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from segkit.annotations._drawing.runs import Runs
from segkit.errors import DataError

__all__ = ["Note", "Picture", "Shape", "ring_of"]


class Note(NamedTuple):
    """One thing about an annotation that its mask does not show.

    Args:
        kind: "no-area" (a line, a point, a bare box), "empty" (no pixel's centre lies inside), "outside" (of the
            image), "overlap" (under later shapes of another class), "self-crossing", or "unlabelled" (nobody has
            finished the image).
        image: the image's name.
        shape: which shape, as its file counts; "" for the image as a whole.
        reason: one sentence.

    Example:
        >>> Note("no-area", "a.jpg", "annotation 7", "It is a line.").kind
        'no-area'
    """

    kind: str
    image: str
    shape: str
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """One thing that was drawn. A pixel belongs to it if its centre (x + 0.5, y + 0.5) lies inside.

    Args:
        name: its class, as the file calls it.
        rings: outlines [N, 2] of (x, y) in pixels, where whole numbers are the corners of pixels; even-odd in each, and
            united. Numbers stay fractions, and may lie outside the image.
        holes: outlines of what is cut out.
        runs: pixels instead of outlines.
        ellipse: (x, y, radius x, radius y, degrees clockwise) instead.
        z: shapes with a larger one lie above; where it is equal, later ones do.
        instance: shapes of one name and instance are parts of one object; None: an object of its own.
        crowd: several objects that were not told apart (COCO's ``iscrowd``).
        unit: None if numbers are pixels; 1 or 100 if they are shares or per cent of the image's edges.
        turn: (degrees clockwise, x, y): the rings are turned about this point.
        source: which one it is in its file, for messages.

    Example:
        >>> Shape("cat", [[(0, 0), (4, 0), (4, 2), (0, 2)]]).rings[0].shape
        (4, 2)
    """

    name: str
    rings: tuple[np.ndarray, ...] = ()
    holes: tuple[np.ndarray, ...] = ()
    runs: Runs | None = None
    ellipse: tuple[float, float, float, float, float] | None = None
    z: float = 0.0
    instance: str | None = None
    crowd: bool = False
    unit: float | None = None
    turn: tuple[float, float, float] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rings", tuple(ring_of(ring, self.source) for ring in self.rings))
        object.__setattr__(self, "holes", tuple(ring_of(ring, self.source) for ring in self.holes))
        if self.ellipse is not None and not all(map(math.isfinite, self.ellipse)):
            raise DataError(f"{self.source or 'the ellipse'} must have finite numbers, got {self.ellipse}")

    def placed(self, height: int, width: int) -> Shape:
        """The same shape in pixels of an image of this size."""
        if self.unit is None and self.turn is None:
            return self
        across, along = (width, height) if self.unit is not None else (1, 1)
        unit = self.unit or 1.0
        rings, holes = (tuple(ring * (across, along) / unit for ring in part) for part in (self.rings, self.holes))
        ellipse = self.ellipse
        if ellipse is not None:
            x, y, rx, ry, degrees = ellipse
            ellipse = (x * across / unit, y * along / unit, rx * across / unit, ry * along / unit, degrees)
        if self.turn is not None and self.turn[0]:
            degrees, x, y = self.turn
            pivot = np.array([x * across / unit, y * along / unit])
            cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            matrix = np.array([[cos, sin], [-sin, cos]])
            rings, holes = (tuple((ring - pivot) @ matrix + pivot for ring in part) for part in (rings, holes))
        return replace(self, rings=rings, holes=holes, ellipse=ellipse, unit=None, turn=None)


def ring_of(points: object, source: str = "") -> np.ndarray:
    """[N, 2] float64 from pairs (x, y) or from one flat list of x, y, x, y and so on.

    Raises:
        DataError: an odd number of coordinates, something that is no number, NaN or infinity.
    """
    what = source or "a ring"
    try:
        ring = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} must have points of two numbers each, got {_short(points)}") from None
    if ring.ndim == 1:
        if len(ring) % 2:
            raise DataError(f"{what} must have two coordinates for each point, got {len(ring)} coordinates")
        ring = ring.reshape(-1, 2)
    if ring.ndim != 2 or ring.shape[1] != 2:
        raise DataError(f"{what} must have points of two numbers each, got {_short(points)}")
    if not math.isfinite(ring.sum()) and not np.isfinite(ring).all():  # the sum takes a third of the time
        raise DataError(f"{what} must have finite coordinates, got NaN or infinity")
    return ring


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass
class Picture:
    """An image and all that lies on it.

    Args:
        name: of its file, with folders where they are needed to tell two apart.
        size: (height, width), or None where the file does not say.
        shapes: in the order of the file.
        notes: what else there is.
        labelled: False if nobody has finished it: it has no mask.
        apart: what to put before the name if another image has it, too; tried in order.
    """

    name: str
    size: tuple[int, int] | None = None
    shapes: list[Shape] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    labelled: bool = True
    apart: tuple[str, ...] = ()

    def add(self, shape: Shape) -> None:
        """Put a shape on it; one whose rings all have fewer than three points has no area."""
        rings = tuple(ring for ring in shape.rings if len(ring) > 2)
        if len(rings) < len(shape.rings):
            left_out = next(len(ring) for ring in shape.rings if len(ring) <= 2)
            self.note(shape.source, f"A ring of {left_out} point(s) has no area.")
            shape = replace(shape, rings=rings)
        if shape.rings or shape.runs is not None or shape.ellipse is not None:
            self.shapes.append(shape)

    def note(self, source: str, reason: str, kind: str = "no-area") -> None:
        """Say what has no pixels, and why."""
        self.notes.append(Note(kind, self.name, source, reason))
