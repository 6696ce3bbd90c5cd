"""Which class each pixel is: index masks, colour masks and one-hot masks, turned into each other.

An *index mask* holds one integer per pixel, the class, or ``IGNORE_INDEX`` (255) for a pixel that counts nowhere. Any
integer dtype will do and small ones stay small: nothing here turns uint8 into int64.

NumPy arrays come from files and stay NumPy; the functions with ``target`` in their signature take tensors.

Example:
    >>> import numpy as np
    >>> from segkit import labels
    >>> rgb = np.array([[[0, 0, 255], [255, 0, 0]]], dtype=np.uint8)
    >>> labels.colors_to_index(rgb, {(0, 0, 255): 0, (255, 0, 0): 1})
    array([[0, 1]], dtype=uint8)
"""

from __future__ import annotations

from segkit.labels._colors import colors_to_index, index_to_colors
from segkit.labels._logits import from_logits
from segkit.labels._one_hot import from_one_hot, one_hot
from segkit.labels._remap import remap
from segkit.labels._target import as_index_target
from segkit.labels._validate import validate_target

__all__ = [
    "as_index_target",
    "colors_to_index",
    "from_logits",
    "from_one_hot",
    "index_to_colors",
    "one_hot",
    "remap",
    "validate_target",
]
