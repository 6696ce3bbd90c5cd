"""What is measured on one mask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from segkit.audit._measure.by_windows import Digest, Pixels


def measure_mask(pixels: Pixels, row: Any, *, ignore_index: int | None) -> tuple[np.ndarray, dict[int, int]]:
    """Fill the mask's part of `row` from windows [h, w] of labels.

    Returns:
        The labels that `pixels` keeps, [H, W], and the pixels of each label, the ignored one left out.
    """
    digest, canvas = Digest(), None
    counts: dict[int, int] = {}
    sums: dict[str, float] = {}
    for top, left, window in pixels.windows:
        canvas = pixels.canvas(window.dtype) if canvas is None else canvas
        pixels.keep(canvas, top, left, window)
        here = count_labels(window)
        # Labels are numbers: the same ones are the same mask, however wide they are stored.
        digest.add(window.astype(np.uint8 if min(here) >= 0 and max(here) < 256 else "<i8", copy=False))
        for label, number in here.items():
            counts[label] = counts.get(label, 0) + number
        if min(window.shape) >= 3 and len(here) > 1:
            for name, value in structure_of(window, ignore_index).items():
                sums[name] = sums.get(name, 0) + value
    assert canvas is not None  # a mask has pixels
    total = pixels.height * pixels.width
    row["mask_ok"] = True
    row["mask_digest"] = digest.of(pixels.height, pixels.width, "labels")
    ignored = 0 if ignore_index is None else counts.pop(ignore_index, 0)
    row["ignored"], row["classes"] = ignored / total, len(counts)
    if len(counts) == 1:
        row["only_label"] = np.clip(next(iter(counts)), -(2**31), 2**31 - 1)
    finish_structure(sums, total, row)
    return canvas, dict(sorted(counts.items()))


def count_labels(mask: np.ndarray) -> dict[int, int]:
    """Label -> pixels, in increasing order of label."""
    if mask.dtype == np.uint8 and mask.size <= 1 << 24:  # float32 counts are exact up to here
        counts = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256]).reshape(-1)
        present = counts.nonzero()[0]
        return dict(zip(present.tolist(), counts[present].astype(int).tolist(), strict=True))
    labels, pixels = np.unique(mask, return_counts=True)
    return dict(zip(labels.tolist(), pixels.tolist(), strict=True))


def as_bytes(mask: np.ndarray) -> np.ndarray:
    """The mask as uint8 with the same order of labels, so that OpenCV takes it; more than 256 labels are merged."""
    if mask.dtype == np.uint8:
        return np.ascontiguousarray(mask)
    low, high = int(mask.min()), int(mask.max())
    if high - low < 256:  # the distances between labels are kept, too
        return (mask.astype(np.int64) - low).astype(np.uint8)
    labels = np.unique(mask)
    ranks = np.searchsorted(labels, mask)
    return (ranks * 256 // max(labels.size, 256)).astype(np.uint8)


def structure_of(mask: np.ndarray, ignore_index: int | None) -> dict[str, float]:
    """Sums of edges, ramps, peaks, the JPEG grid and lonely pixels. Ignored pixels make none of them."""
    m = as_bytes(mask)
    valid = None
    if ignore_index is not None:
        counted = mask != ignore_index
        valid = None if counted.all() else counted.view(np.uint8)
    one, turns = _between(m, valid, axis=0)
    two, returns = _between(m, valid, axis=1)
    sums = {name: one[name] + two[name] for name in one}
    # Lonely: the label changes before and after the pixel, along both axes.
    sums["isolated"] = cv2.countNonZero(cv2.bitwise_and(turns[:, 1:-1], returns[1:-1]))
    return sums


def finish_structure(sums: dict[str, float], pixels: int, row: Any) -> None:
    """The shares of `row` from the sums of one or more windows."""
    if not sums:
        return
    if sums["edges"]:
        for name in ("ramps", "leaps", "peaks"):
            row[name] = sums[name] / sums["edges"]
    row["edges"] = sums["edges"] / pixels
    row["blocks"] = np.log2((sums["on_grid"] + 8) / (sums["expected"] + 8))  # 8: a few edges prove nothing
    row["isolated"] = sums["isolated"] / pixels


def _between(m: np.ndarray, valid: np.ndarray | None, *, axis: int) -> tuple[dict[str, float], np.ndarray]:
    """Along an axis of `m`: sums of how neighbours differ, and where a pixel differs from both of them."""

    def but_last(x: np.ndarray) -> np.ndarray:
        return x[:-1] if axis == 0 else x[:, :-1]

    def but_first(x: np.ndarray) -> np.ndarray:
        return x[1:] if axis == 0 else x[:, 1:]

    def twice(steps: np.ndarray) -> np.ndarray:
        return cv2.bitwise_and(but_last(steps), but_first(steps))

    first, second = but_last(m), but_first(m)
    up = cv2.compare(second, first, cv2.CMP_GT)  # 255 where it is true
    down = cv2.compare(second, first, cv2.CMP_LT)
    if valid is not None:
        both = twice(valid)
        up, down = cv2.bitwise_and(up, up, mask=both), cv2.bitwise_and(down, down, mask=both)
    any_step = cv2.bitwise_or(up, down)
    wide = cv2.threshold(cv2.absdiff(first, second), 1, 255, cv2.THRESH_BINARY)[1]
    turns = twice(any_step)
    ramps = cv2.countNonZero(twice(up)) + cv2.countNonZero(twice(down))
    lines = cv2.reduce(any_step, 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).reshape(-1) // 255  # edges on each line
    grid = np.sort(lines[7::8])[:-1]  # without the strongest: one straight boundary is no grid
    edges = int(lines.sum())
    sums = {
        "edges": edges,
        "leaps": cv2.countNonZero(cv2.bitwise_and(wide, any_step)),
        "ramps": ramps,
        "peaks": cv2.countNonZero(turns) - ramps,
        "on_grid": int(grid.sum()),
        "expected": edges * len(grid) / max(len(lines), 1),
    }
    return sums, turns
