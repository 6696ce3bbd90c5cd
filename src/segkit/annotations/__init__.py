"""What the annotator drew: polygons, brushes and run lengths of annotation tools, turned into masks by one rule.

A pixel belongs to a shape when its centre (x + 0.5, y + 0.5) lies inside: even-odd in one ring, the parts of an object
united, later shapes over earlier ones, vertices with all their fractions. Class indices come from one list that you
declare.

Example:
    >>> from segkit import annotations
    >>> annotations.rasterize([[(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]], (3, 3)).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
"""

from segkit.annotations._annotations import Annotations
from segkit.annotations._drawing.runs import Runs
from segkit.annotations._drawing.shape import Note, Shape
from segkit.annotations._rasterize import rasterize
from segkit.annotations._read import read
from segkit.annotations._rle import decode_rle, encode_rle
from segkit.annotations._write import to_masks, write_coco, write_rle

__all__ = [
    "Annotations",
    "Note",
    "Runs",
    "Shape",
    "decode_rle",
    "encode_rle",
    "rasterize",
    "read",
    "to_masks",
    "write_coco",
    "write_rle",
]
