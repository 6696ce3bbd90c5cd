"""Images too large to hold: measured window by window, with the same numbers in the same row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from segkit import io
from segkit.audit._measure.image import brightness, detail_energies, grey_of, levels, quiet_and_busy, sharpness
from segkit.audit._measure.mask import count_labels, finish_structure, structure_of
from segkit.audit._measure.spectrum import spectrum

__all__ = ["is_large", "measure_large_image", "measure_large_mask", "shrink_of"]

_LARGE = 2**26  # bytes of decoded samples: 64 MiB
_WINDOW = 2048
_CANVAS = 1024


def is_large(info: io.ImageInfo) -> bool:
    """Whether an image should be judged by windows: it is large, and its file can be read in parts."""
    size = info.height * info.width * info.channels * info.dtype.itemsize
    # A file that EXIF turns is read whole: windows of it would be windows of the unturned picture.
    return size > _LARGE and "TIFF" in info.format.upper() and info.orientation == 1


def shrink_of(info: io.ImageInfo) -> int:
    """Every which pixel of a large image is kept for what needs the whole picture."""
    return -(-max(info.height, info.width) // _CANVAS)


def _windows(info: io.ImageInfo, step: int) -> Iterator[tuple[int, int, int, int]]:
    side = _WINDOW // step * step or step
    for top in range(0, info.height, side):
        for left in range(0, info.width, side):
            yield top, left, min(side, info.height - top), min(side, info.width - left)


def measure_large_image(path: str, row: Any) -> np.ndarray:
    """As `measure_image`, without holding more than a window; the grey picture is shrunk by `shrink_of`."""
    state = hashlib.sha256()
    energies = np.zeros((3, 4))
    calm: list[float] = []
    ends: list[tuple[float, float, float, float]] = []
    busiest, sharpest = -1.0, np.zeros((0, 0), np.uint8)
    with io.open_image(path) as handle:
        info = handle.info
        step = shrink_of(info)
        canvas = np.zeros((-(-info.height // step), -(-info.width // step)), np.float32)
        first, constant, bad, as_bytes = None, True, 0, True
        for top, left, height, width in _windows(info, step):
            block = handle.read(window=(top, left, height, width))
            state.update(np.ascontiguousarray(block).data)
            if block.dtype.kind == "f":
                finite = np.isfinite(block)
                bad += block.size - int(np.count_nonzero(finite))
                block = np.where(finite, block, 0)
            first = block[:1, :1] if first is None else first
            constant = constant and bool((block == first).all())
            grey = grey_of(block)
            as_bytes = grey.dtype == np.uint8
            small = grey[::step, ::step]
            canvas[top // step :, left // step :][: small.shape[0], : small.shape[1]] = small
            if min(grey.shape) >= 32:
                detail = detail_energies(grey)
                energies += detail * grey.size
                quiet, part = quiet_and_busy(grey)
                calm.append(quiet)
                if detail[0].sum() > busiest:
                    busiest, sharpest = float(detail[0].sum()), part.copy()
            ends.append(levels(block))
    row["image_ok"] = True
    row["height"], row["width"], row["channels"] = info.height, info.width, block.shape[2]
    row["dtype"] = str(block.dtype).encode()
    state.update(f"{block.dtype} {info.height} {info.width}".encode())
    row["image_digest"] = np.frombuffer(state.digest()[:16], "<u8")
    row["constant"], row["non_finite"] = constant, bad
    small = canvas.astype(np.uint8) if as_bytes else canvas
    brightness(small, row)
    row["clipped_low"], row["clipped_high"], _, row["uneven"] = np.mean(ends, 0)
    row["ceiling"] = max(ceiling for _, _, ceiling, _ in ends)
    sharpness(energies, float(np.median(calm)), row)
    spectrum(sharpest, row)
    return small


def measure_large_mask(path: str, row: Any, *, ignore_index: int | None) -> tuple[np.ndarray, dict[int, int]]:
    """As `measure_mask`: the mask shrunk by `shrink_of`, and pixels of each label, the ignored one left out."""
    counts: dict[int, int] = {}
    sums: dict[str, float] = {}
    state = hashlib.sha256()
    with io.open_image(path) as handle:
        info = handle.info
        step = shrink_of(info)
        canvas = np.zeros((-(-info.height // step), -(-info.width // step)), info.dtype)
        for top, left, height, width in _windows(info, step):
            block = handle.read(window=(top, left, height, width), samples="stored")[..., 0]
            state.update(np.ascontiguousarray(block).data)
            for label, pixels in count_labels(block).items():
                counts[label] = counts.get(label, 0) + pixels
            canvas[top // step :, left // step :][: -(-height // step), : -(-width // step)] = block[::step, ::step]
            if min(block.shape) >= 3:
                for name, value in structure_of(block, ignore_index).items():
                    sums[name] = sums.get(name, 0) + value
    row["mask_ok"] = True
    row["mask_digest"] = np.frombuffer(state.digest()[:16], "<u8")
    ignored = 0 if ignore_index is None else counts.pop(ignore_index, 0)
    total = info.height * info.width
    row["ignored"], row["classes"] = ignored / total, len(counts)
    if len(counts) == 1:
        row["only_label"] = np.clip(next(iter(counts)), -(2**31), 2**31 - 1)
    finish_structure(sums, total, row)
    return canvas, dict(sorted(counts.items()))
