"""What a worker does: read some pairs, measure them, and bring back rows of numbers and the faults seen on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segkit import io
from segkit.audit._finding import CODES, Finding
from segkit.audit._judge.likeness import LANDMARK, landmarks_of
from segkit.audit._measure.by_windows import is_large, measure_large_image, measure_large_mask
from segkit.audit._measure.image import measure_image, thumb_of
from segkit.audit._measure.mask import measure_alignment, measure_mask
from segkit.audit._measure.row import ROW, THUMB
from segkit.errors import ImageReadError

__all__ = ["Item", "Measured", "Options", "lost", "measure"]

Item = tuple[int, str | None, str | None]  # number in the set, image, mask


@dataclass(frozen=True)
class Options:
    """What the caller said about the labels."""

    num_classes: int | None
    colors: dict[tuple[int, int, int], int] | None
    ignore_index: int | None


@dataclass
class Measured:
    """What comes back of some items: one row each, and the faults that can be seen on a file alone."""

    numbers: list[int] = field(default_factory=list)
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, ROW))
    thumbs: np.ndarray = field(default_factory=lambda: np.zeros((0, THUMB, THUMB), np.uint8))
    landmarks: np.ndarray = field(default_factory=lambda: np.zeros(0, LANDMARK))
    findings: list[Finding] = field(default_factory=list)
    labels: dict[int, list[int]] = field(default_factory=dict)  # label -> [pixels, masks]


def measure(items: list[Item], options: Options) -> Measured:
    """Read and measure the items, one after another; one that cannot be read costs one finding."""
    part = _nothing([number for number, _, _ in items])
    for place, (_, image_path, mask_path) in enumerate(items):
        row = part.rows[place]
        grey = mask = None
        if image_path is not None:
            grey = _image(image_path, row, part.findings)
            if grey is not None:
                part.thumbs[place] = thumb_of(grey)
                part.landmarks[place] = landmarks_of(part.thumbs[place])
        if mask_path is not None:
            mask = _mask(mask_path, image_path, row, part, options)
        if grey is not None and mask is not None and mask.shape == grey.shape:
            measure_alignment(grey, mask, row, ignore_index=options.ignore_index)
            shrink = round(row["height"] / grey.shape[0])  # more than 1 for an image that was judged by windows
            row["shift_y"] *= shrink
            row["shift_x"] *= shrink
    return part


def lost(item: Item, reason: str) -> Measured:
    """What stands for an item whose worker died."""
    number, image_path, mask_path = item
    path = image_path if image_path is not None else str(mask_path)
    fault = _finding("unreadable", path, f"Reading it failed: {reason}.", related=mask_path if image_path else None)
    part = _nothing([number])
    part.findings.append(fault)
    return part


def _nothing(numbers: list[int]) -> Measured:
    count = len(numbers)
    return Measured(numbers, np.zeros(count, ROW), np.zeros((count, THUMB, THUMB), np.uint8), np.zeros(count, LANDMARK))


def _finding(code: str, path: str, reason: str, *, related: str | None = None, value: Any = None) -> Finding:
    return Finding(code, CODES[code].severity, path, related, value, reason, CODES[code].remedy)


def _image(path: str, row: Any, findings: list[Finding]) -> np.ndarray | None:
    """Measure one image into `row`; its grey picture, or None when it cannot be read."""
    try:
        _must_be_a_file(path)
        info = io.image_info(path)
        row["orientation"] = info.orientation
        grey = measure_large_image(path, row) if is_large(info) else measure_image(io.read_image(path), row)
    except (OSError, ValueError, MemoryError) as error:
        row["image_ok"] = False
        findings.append(_unreadable(path, error))
        return None
    if row["non_finite"]:
        count = int(row["non_finite"])
        findings.append(_finding("non-finite", path, f"{count} of its samples are NaN or infinite.", value=count))
    return grey


def _mask(path: str, image_path: str | None, row: Any, part: Measured, options: Options) -> np.ndarray | None:
    """Measure one mask into `row`; its labels, or None when it has none."""
    findings = part.findings
    try:
        _must_be_a_file(path)
        info = io.image_info(path)
        row["mask_orientation"] = info.orientation
        row["mask_lossy"] = _is_lossy(info)
        if is_large(info) and info.channels == 1 and info.dtype.kind in "ui" and options.colors is None:
            mask, counts = measure_large_mask(path, row, ignore_index=options.ignore_index)
            size = info.height, info.width
        else:
            labels = _read_labels(path, options, findings)
            if labels is None:
                return None
            mask, size = labels, labels.shape
            counts = measure_mask(mask, row, ignore_index=options.ignore_index)
    except (OSError, ValueError, MemoryError) as error:
        findings.append(_unreadable(path, error))
        return None
    if row["image_ok"] and size != (row["height"], row["width"]):
        found = f"It is {size[0]} x {size[1]} (height x width), its image {row['height']} x {row['width']}."
        findings.append(_finding("size-mismatch", path, found, related=image_path, value=f"{size[0]} x {size[1]}"))
    strange = {}
    for label, pixels in counts.items():
        entry = part.labels.setdefault(label, [0, 0])
        entry[0] += pixels
        entry[1] += 1
        if options.num_classes is not None and not 0 <= label < options.num_classes:
            strange[label] = pixels
    if strange:
        named = ", ".join(str(label) for label in sorted(strange)[:8]) + (", ..." if len(strange) > 8 else "")
        reason = (
            f"{sum(strange.values())} pixels have the labels {named}; allowed are 0 to {options.num_classes - 1}"
            + ("." if options.ignore_index is None else f" and {options.ignore_index} (ignored).")
            if options.num_classes is not None
            else ""
        )
        findings.append(_finding("label-out-of-range", path, reason, value=max(strange, key=lambda x: strange[x])))
    return mask


def _must_be_a_file(path: str) -> None:
    """To open a pipe would wait for ever for somebody to write into it."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ImageReadError(path, "it is a pipe, a device or a folder, and not a file", "Delete it.")


def _is_lossy(info: io.ImageInfo) -> bool:
    return info.format == "JPEG" or "jpeg" in info.compression.lower()


def _read_labels(path: str, options: Options, findings: list[Finding]) -> np.ndarray | None:
    """The labels [H, W] of a mask, or None after a finding that says why it has none."""
    if options.colors is not None:
        try:
            return io.read_mask(path, colors=options.colors)
        except ImageReadError as error:
            if "colour" not in error.reason and "color" not in error.reason:
                raise
            findings.append(_finding("label-out-of-range", path, f"{error.reason[0].upper()}{error.reason[1:]}."))
            return None
    stored = io.read_image(path, samples="stored", orientation="apply")
    channels = stored.shape[2]
    if channels in (2, 4) and stored.dtype.kind == "u" and (stored[..., -1] == np.iinfo(stored.dtype).max).all():
        stored = stored[..., :-1]  # an alpha channel that says nothing
    if stored.shape[2] != 1:
        pixels = stored.reshape(-1, stored.shape[2])
        few = np.unique(pixels[:: max(1, len(pixels) // 2**16)], axis=0)
        grey = bool((few == few[:, :1]).all())
        reason = f"It has {channels} channels, with " + (
            f"the same value in each ({len(few)} grey values)" if grey else f"{len(few)} colours"
        )
        findings.append(
            _finding("color-coded-mask", path, f"{reason}, instead of one class per pixel.", value=len(few))
        )
        return None
    if stored.dtype.kind not in "uib":
        findings.append(
            _finding("label-out-of-range", path, f"Its samples are {stored.dtype}, but a label is an integer.")
        )
        return None
    return stored[..., 0]


def _unreadable(path: str, error: Exception) -> Finding:
    if isinstance(error, MemoryError):
        return _finding("unreadable", path, "Reading it needs more memory than the worker has.")
    reason = getattr(error, "reason", "") or str(error)
    code = "truncated" if isinstance(error, ImageReadError) and _ends_early(path, error) else "unreadable"
    return _finding(code, path, f"{reason[:1].upper()}{reason[1:]}.".replace("..", "."))


def _ends_early(path: str, error: ImageReadError) -> bool:
    """Whether a damaged file is one that was cut: the end mark of PNG and JPEG is missing, or the reader says so."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64))
            end = file.read()
    except (OSError, ValueError):
        return False
    if start.startswith(b"\x89PNG"):
        return b"IEND" not in end
    if start.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in end
    said = f"{error.reason} {error.hint}".lower()
    return bool(start) and any(word in said for word in ("truncated", "ends after", "ends before", "end of file"))
