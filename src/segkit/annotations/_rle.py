"""Run lengths as text, as competitions want them."""

from __future__ import annotations

from typing import Any

import numpy as np

from segkit.annotations._drawing.runs import Order, runs_of, runs_of_text, text_of_runs
from segkit.errors import DataError

__all__ = ["check_order", "decode_rle", "encode_rle"]


def encode_rle(mask: np.ndarray, *, order: Order = "column", origin: int = 1) -> str:
    """The pixels of one class as "start length start length …".

    Args:
        mask: [H, W], bool or integers: whatever is not 0 is the class. It may have one value beside 0.
        order: "column": pixels are counted down the columns, as Kaggle does; "row": along the rows.
        origin: the first pixel's number: 1, or 0.

    Returns:
        The text; "" for an empty mask.

    Raises:
        DataError: the mask has more than one value beside 0.
        ValueError: it is not [H, W], or `order` or `origin` are something else.

    Example:
        >>> encode_rle(np.array([[0, 1, 1], [0, 1, 0]]))
        '3 3'
        >>> encode_rle(np.array([[0, 1, 1], [0, 1, 0]]), order="row", origin=0)
        '1 2 4 1'
    """
    check_order("encode_rle", order, origin)
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise ValueError(
            f"encode_rle: `mask` must be bool or integers [H, W], got {mask.dtype} {list(mask.shape)}. "
            "Pass one class at a time: encode_rle(mask == 1)."
        )
    inside = mask != 0
    if mask.dtype.kind != "b" and inside.any():
        drawn = mask[inside]
        if drawn.min() != drawn.max():
            values = np.unique(drawn)[:5].tolist()
            raise DataError(
                f"encode_rle: `mask` must be of one class, got the values {values} beside 0. "
                f"Encode each by itself: encode_rle(mask == {values[0]})."
            )
    return text_of_runs(runs_of(inside, order), origin)


def decode_rle(text: str, size: tuple[int, int], *, order: Order = "column", origin: int = 1) -> np.ndarray:
    """The mask that "start length start length …" stands for: the inverse of `encode_rle`.

    Args:
        text: the runs; nothing, or "nan", is an empty mask.
        size: (height, width) of the image.
        order: "column" or "row", as for `encode_rle`.
        origin: 1 or 0.

    Returns:
        bool [H, W].

    Raises:
        DataError: the runs go past the end of the image, overlap, or are not pairs of numbers.
        ValueError: `size`, `order` or `origin` are something else.

    Example:
        >>> decode_rle("3 3", (2, 3)).astype(int)
        array([[0, 1, 1],
               [0, 1, 0]])
    """
    check_order("decode_rle", order, origin)
    height, width = check_size("decode_rle", size)
    cell: Any = text
    if cell is None or cell != cell:  # NaN is what pandas makes of an empty cell
        text = ""
    elif not isinstance(cell, str):
        raise TypeError(
            f"decode_rle: `text` must be a str, got a {type(text).__name__}. For lists pass ' '.join(map(str, x))."
        )
    try:
        return np.ascontiguousarray(runs_of_text(text, order, origin).pixels(height, width))
    except DataError as error:
        raise DataError(f"decode_rle: {error}.") from None


def check_order(function: str, order: Any, origin: Any) -> None:
    """Refuse what is neither an order nor an origin."""
    if order not in ("column", "row"):
        raise ValueError(f"{function}: `order` must be 'column' or 'row', got {order!r}. Kaggle's is usually 'column'.")
    if origin not in (0, 1) or isinstance(origin, bool):
        raise ValueError(f"{function}: `origin` must be 0 or 1, got {origin!r}. Kaggle's is usually 1.")


def check_size(function: str, size: Any) -> tuple[int, int]:
    """(height, width), or an error."""
    try:
        height, width = (int(v) for v in size)
        whole = all(int(v) == v and v >= 0 for v in size)
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise ValueError(
            f"{function}: `size` must be (height, width), got {size!r}. Pass mask.shape or image.shape[:2]."
        )
    return height, width
