"""Run lengths: what is between a mask and the text or list that stands for it. A run of zeros comes first."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from segkit.errors import DataError

__all__ = ["Order", "Runs", "pack_counts", "pixels_of", "runs_of", "runs_of_text", "text_of_runs", "unpack_counts"]

Order = Literal["column", "row"]


class Runs(NamedTuple):
    """A mask as the lengths of its runs.

    Args:
        lengths: int64: zeros, ones, zeros, … of the pixels in `order`.
        order: "row": along the rows, as arrays lie in memory; "column": down the columns.
        box: (top, left, height, width) of the part of the image that it covers; None: the whole image.
        open_end: what follows the last run is zeros.

    Example:
        >>> Runs(np.array([1, 2, 1]), "column").pixels(2, 2).astype(int).tolist()
        [[0, 1], [1, 0]]
    """

    lengths: np.ndarray
    order: Order = "row"
    box: tuple[int, int, int, int] | None = None
    open_end: bool = False

    def pixels(self, height: int, width: int) -> np.ndarray:
        """Bool [h, w] of the box, or of an image of this size.

        Raises:
            DataError: the runs do not fill it exactly.
        """
        if self.box is not None:
            height, width = self.box[2:]
        total, lengths = pixels_of(self.lengths), self.lengths
        if self.open_end and total <= height * width:
            rest = height * width - total
            lengths = np.append(lengths, rest)  # such runs come in pairs, so that zeros are next
            total = height * width
        if total != height * width:
            must = "end within" if self.open_end else "fill"
            end = "go past the end" if total > height * width else "end too early"
            raise DataError(
                f"its runs must {must} {height} x {width} (height x width), which is {height * width} pixels, got "
                f"{total}: they {end}. Often the size is another one, height and width are swapped, or the origin "
                "is wrong"
            )
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return flat.reshape(height, width) if self.order == "row" else flat.reshape(width, height).T


def pixels_of(lengths: np.ndarray) -> int:
    """The sum of run lengths, also of such that int64 would wrap around to the size of the image."""
    few = not lengths.size or int(lengths.max()) <= 2**62 // lengths.size
    return int(lengths.sum()) if few else sum(lengths.tolist())


def runs_of(mask: np.ndarray, order: Order = "row", box: tuple[int, int, int, int] | None = None) -> Runs:
    """The runs of a bool array [h, w]."""
    flat = np.ascontiguousarray(mask if order == "row" else mask.T).reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]]) if flat.size else np.zeros(1, np.int64)
    lengths = np.diff(edges)
    if flat.size and flat[0]:
        lengths = np.concatenate([[0], lengths])
    return Runs(lengths.astype(np.int64), order, box)


def runs_of_text(text: str, order: Order, origin: int) -> Runs:
    """The runs of "start length start length …", as competitions write them. Nothing, or "nan", is an empty mask.

    Raises:
        DataError: the text is something else.
    """
    words = text.split()
    if not words or [word.lower() for word in words] == ["nan"]:
        return Runs(np.zeros(0, np.int64), order, None, True)
    if words == ["-1"]:
        raise DataError(
            "its runs are '-1', by which SIIM-ACR marks an empty mask, and there starts are relative to the run "
            "before. Add them up first, write empty masks as an empty cell"
        )
    try:
        numbers = np.array(words, dtype=np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"its runs must be whole numbers 'start length …', got {text!r:.60}") from None
    if len(numbers) % 2:
        raise DataError(f"its runs must be pairs 'start length …', got {len(numbers)} numbers")
    starts, lengths = numbers[::2] - origin, numbers[1::2]
    if starts[0] < 0:
        remedy = ". It counts from 0: pass origin=0" if starts[0] == -1 and origin == 1 else ""
        raise DataError(f"its runs must start at {origin} or later, got {numbers[0]}{remedy}")
    if (lengths < 1).any():
        raise DataError(f"its runs must have lengths of at least 1, got {lengths.min()}")
    if numbers.max() >= 2**62:
        raise DataError(f"its runs must lie within a picture, got {numbers.max()}")
    gaps = np.diff(starts) - lengths[:-1]
    if (gaps < 0).any():
        i = int(np.flatnonzero(gaps < 0)[0])
        raise DataError(
            f"its runs must follow each other without overlap, got one at {numbers[2 * i]} of {lengths[i]} and then "
            f"one at {numbers[2 * i + 2]}. Where starts are relative to the run before (SIIM-ACR) add them up first"
        )
    both = np.stack([np.concatenate([starts[:1], gaps]), lengths], 1).reshape(-1)
    return Runs(both, order, None, True)


def text_of_runs(runs: Runs, origin: int) -> str:
    """The inverse of `runs_of_text`."""
    ends = np.cumsum(runs.lengths)
    starts = ends[: len(ends) // 2 * 2 : 2] + origin
    return " ".join(map(str, np.stack([starts, runs.lengths[1::2]], 1).reshape(-1).tolist()))


def unpack_counts(text: str | bytes) -> np.ndarray:
    """The lengths that a compressed string of COCO stands for.

    Six bits a character from "0" on: five of the number, lowest first, and whether it goes on. From the fourth number
    on each is the difference to the one before the last.
    """
    raw = np.frombuffer(text.encode("latin-1", "replace") if isinstance(text, str) else text, np.uint8).astype(np.int64)
    codes = raw - 48
    if codes.size == 0:
        return np.zeros(0, np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise DataError(
            "its `counts` must be a compressed string of COCO, got other characters or one that was cut off"
        )
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = np.arange(codes.size) - np.repeat(first, last - first + 1)
    if digits.max() > 11:
        raise DataError("its `counts` must hold lengths of pictures, got a number of more than 60 bits")
    numbers = np.add.reduceat((codes & 31) << (5 * digits), first)
    negative = codes[last] & 16 != 0
    numbers[negative] -= 1 << (5 * (digits[last][negative] + 1))
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    if numbers.min() < 0:
        raise DataError("its `counts` must hold lengths, got a negative one: the string is damaged")
    return numbers


def pack_counts(lengths: np.ndarray) -> str:
    """The compressed string of COCO for these lengths: the inverse of `unpack_counts`."""
    numbers = lengths.astype(np.int64).copy()
    numbers[3:] -= lengths[1:-2]
    text = bytearray()
    for number in numbers.tolist():
        while True:
            digit, number = number & 31, number >> 5
            more = number != (-1 if digit & 16 else 0)
            text.append(48 + (digit | (32 if more else 0)))
            if not more:
                break
    return text.decode("ascii")
