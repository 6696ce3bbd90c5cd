"""What is measured on one mask, and on how well it lies on its image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from segkit.audit._measure.image import digest_of

__all__ = ["count_labels", "finish_structure", "measure_alignment", "measure_mask", "structure_of"]

_SMALL = 400  # edge of the pictures that are laid over each other


def measure_mask(mask: np.ndarray, row: Any, *, ignore_index: int | None) -> dict[int, int]:
    """Fill the mask's part of `row` from `mask` [H, W]; pixels of each label, the ignored one left out."""
    row["mask_ok"] = True
    row["mask_digest"] = digest_of(mask)
    counts = count_labels(mask)
    several = len(counts) > 1
    ignored = 0 if ignore_index is None else counts.pop(ignore_index, 0)
    row["ignored"] = ignored / mask.size
    row["classes"] = len(counts)
    if len(counts) == 1:
        row["only_label"] = np.clip(next(iter(counts)), -(2**31), 2**31 - 1)
    if min(mask.shape) >= 3 and several:
        finish_structure(structure_of(mask, ignore_index), mask.size, row)
    return counts


def count_labels(mask: np.ndarray) -> dict[int, int]:
    """Label -> pixels, in increasing order of label."""
    if mask.dtype == np.uint8 and mask.size <= 1 << 24:  # float32 counts are exact up to here
        counts = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256]).reshape(-1)
        present = counts.nonzero()[0]
        return dict(zip(present.tolist(), counts[present].astype(int).tolist(), strict=True))
    labels, pixels = np.unique(mask, return_counts=True)
    return dict(zip(labels.tolist(), pixels.tolist(), strict=True))


def _as_bytes(mask: np.ndarray) -> np.ndarray:
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
    m = _as_bytes(mask)
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


def measure_alignment(grey: np.ndarray, mask: np.ndarray, row: Any, *, ignore_index: int | None) -> None:
    """Where the mask's boundaries lie best on the image's edges, by correlation over all shifts.

    Both are shrunk to at most 400 pixels; the borders of ignored pixels are no boundaries.
    """
    if min(mask.shape) < 32 or row["classes"] < 2:
        return
    # By a whole factor, which is three times as fast as by any other; what is left over at two borders is not seen.
    step = -(-max(mask.shape) // _SMALL)
    size = (max(8, mask.shape[1] // step), max(8, mask.shape[0] // step))
    height, width = size[1] * step, size[0] * step
    mask, grey = mask[:height, :width], grey[:height, :width]
    height, width = mask.shape
    boundary = np.zeros((height, width), np.uint8)
    m = _as_bytes(mask)
    boundary[:, 1:] = cv2.compare(m[:, 1:], m[:, :-1], cv2.CMP_NE)
    boundary[1:] = cv2.bitwise_or(boundary[1:], cv2.compare(m[1:], m[:-1], cv2.CMP_NE))
    if ignore_index is not None and row["ignored"] > 0:
        boundary[cv2.dilate((mask == ignore_index).view(np.uint8), np.ones((3, 3), np.uint8)) > 0] = 0
    lines: Any = cv2.resize(boundary, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 1)
    slopes: Any = cv2.magnitude(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    usual, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(slopes))
    steep: Any = np.minimum(slopes, np.float32(usual + 3 * deviation + 1e-6))  # no single bright edge decides
    # Wide waves of brightness say nothing about where a boundary is.
    steep = cv2.subtract(steep, cv2.blur(steep, (17, 17)))
    lines = cv2.subtract(lines, cv2.blur(lines, (17, 17)))
    # Zeros for the largest shift, and on to a size with small factors: a prime one takes thirty times as long.
    down, right = (cv2.getOptimalDFTSize(edge + _reach(edge)) - edge for edge in (size[1], size[0]))
    padded = [cv2.copyMakeBorder(x, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0) for x in (steep, lines)]
    spectra = [cv2.dft(x) for x in padded]
    product = cv2.mulSpectrums(spectra[0], spectra[1], 0, conjB=True)
    match = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
    ry, rx = _reach(size[1]), _reach(size[0])
    window = np.roll(match, (ry, rx), (0, 1))[: 2 * ry + 1, : 2 * rx + 1]  # shifts -r to r
    spread = float(window.std())
    if spread <= 0:
        return
    y, x = np.unravel_index(int(window.argmax()), window.shape)
    row["shift_y"], row["shift_x"] = (y - ry) * step, (x - rx) * step
    near = int(step == 1)  # a boundary may be drawn one pixel beside the edge
    row["fit_here"] = float(window[ry - near : ry + near + 1, rx - near : rx + near + 1].max()) / spread
    row["fit_best"] = float(window[y, x]) / spread


def _reach(edge: int) -> int:
    """The largest shift that is looked for: a fifth of the picture."""
    return max(4, edge // 5)
