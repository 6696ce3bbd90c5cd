"""What a worker does: read some pairs, measure them, and bring back rows of numbers and the faults seen on the way."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from segkit import IGNORE_INDEX, io, labels
from segkit.audit._measure.alignment import measure_alignment
from segkit.audit._measure.by_windows import pixels_of
from segkit.audit._measure.finding import Codes, Finding
from segkit.audit._measure.image import measure_image, thumb_of
from segkit.audit._measure.landmarks import LANDMARK, landmarks_of
from segkit.audit._measure.mask import measure_mask
from segkit.audit._measure.row import ROW, THUMB, Item, Options, name_of
from segkit.errors import DataError, ImageReadError

# fmt: off
OF_FILES = Codes(
    ("unreadable", "error", "Cannot be read", "Copy the file again from its source, or delete it with its partner."),
    ("truncated", "error", "File ends too early", "Copy the file again from its source; it ends too early."),
    ("several-pages", "warning", "Several pages, only the first was looked at",
     "Pass pages='channels' for bands, 'first' if the others do not matter; for samples, write a file for each."),
)
OF_MASKS = Codes(
    ("size-mismatch", "error", "Mask and image differ in size", "Make the mask again at the size of the image."),
    ("label-out-of-range", "error", "Labels outside the classes",
     "Renumber the labels with labels.remap, or raise num_classes."),
    ("color-coded-mask", "error", "Mask holds colours, not classes",
     "Convert it: segkit convert-masks IN OUT --colors colors.json"),
)
# fmt: on


@dataclass
class Measured:
    """What comes back of some items: one row each, and the faults that can be seen on a file alone."""

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, ROW))
    thumbs: np.ndarray = field(default_factory=lambda: np.zeros((0, THUMB, THUMB), np.uint8))
    landmarks: np.ndarray = field(default_factory=lambda: np.zeros(0, LANDMARK))
    findings: list[Finding] = field(default_factory=list)
    labels: dict[int, list[int]] = field(default_factory=dict)  # label -> [pixels, masks]


def measure(items: list[Item], options: Options) -> Measured:
    """Read and measure the items, one after another; one that cannot be read costs one finding."""
    part = _nothing(len(items))
    for place, (image, mask_files) in enumerate(items):
        row, image_path = part.rows[place], name_of(image)
        grey = None if image is None else _image(_each(image), row, part.findings, options.pages)
        if grey is not None:
            part.thumbs[place] = thumb_of(grey)
            part.landmarks[place] = landmarks_of(part.thumbs[place])
        if mask_files is None:
            continue
        mask = _mask(_each(mask_files), image_path, row, part, options, grey)
        if grey is not None and mask is not None:
            measure_alignment(grey, mask, row, ignore_index=options.ignore_index)
            shrink = round(row["height"] / grey.shape[0])  # more than 1 for an image that was judged by windows
            row["shift_y"] *= shrink
            row["shift_x"] *= shrink
    return part


def lost(item: Item, reason: str) -> Measured:
    """What stands for an item whose worker died."""
    image_path, mask_path = map(name_of, item)
    path, related = (image_path, mask_path) if image_path is not None else (mask_path, None)
    part = _nothing(1)
    part.findings.append(OF_FILES.finding("unreadable", path, f"Reading it failed: {reason}.", related=related))
    return part


def _nothing(count: int) -> Measured:
    return Measured(np.zeros(count, ROW), np.zeros((count, THUMB, THUMB), np.uint8), np.zeros(count, LANDMARK))


def _each(files: str | tuple[str, ...]) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else files


def _image(files: tuple[str, ...], row: Any, findings: list[Finding], pages: str | None) -> np.ndarray | None:
    """Measure one image into `row`; its grey picture, or None when it cannot be read."""
    path = files[0]
    try:
        with ExitStack() as opened:
            handles = []
            for path in files:
                _must_be_a_file(path)
                handles.append(opened.enter_context(io.open_image(path)))
            info = handles[0].info
            row["orientation"] = info.orientation
            _count_pages(info, files[0], findings, pages)

            which: int | Literal["channels"] = 0
            if pages == "channels" and info.pages > 1:
                which, info = "channels", replace(info, channels=info.channels * info.pages)

            def read(window: tuple[int, int, int, int] | None) -> np.ndarray:
                parts = [handle.read(window=window, page=which) for handle in handles]
                return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

            return measure_image(pixels_of(info, read), row, nodata=getattr(info, "nodata", None))
    except (OSError, ValueError, MemoryError) as error:
        row["image_ok"] = False
        findings.append(_unreadable(path, error))
        return None


def _count_pages(info: io.ImageInfo, path: str, findings: list[Finding], pages: str | None) -> None:
    """Say that there are several, if nobody told what they are."""
    if info.pages > 1 and pages is None:
        axes = f" (axes {info.axes})" if info.axes else ""
        reason = f"It has {info.pages} pages{axes}, and only the first was looked at."
        findings.append(OF_FILES.finding("several-pages", path, reason, value=info.pages))


def _mask(
    files: tuple[str, ...], image_path: str | None, row: Any, part: Measured, options: Options, grey: np.ndarray | None
) -> np.ndarray | None:
    """Measure one mask into `row`; its labels, shrunk as the `grey` picture is, or None when they fit no image."""
    findings, path = part.findings, files[0]
    try:
        for path in files:
            _must_be_a_file(path)
        path = files[0]
        with io.open_image(path) as handle:
            info = handle.info
            row["mask_orientation"] = info.orientation
            _count_pages(info, path, findings, options.pages)
            row["mask_lossy"] = bool(info.lossy)
            cut = info.channels == 1 and info.dtype.kind in "ui" and options.colors is None and len(files) == 1
            step = None if grey is None else round(row["height"] / grey.shape[0])
            pixels = pixels_of(info, partial(_labels, handle, files, options), step=step, cut=cut)
            mask, counts = measure_mask(pixels, row, ignore_index=options.ignore_index)
    except _NoLabels as error:
        findings.append(error.finding)
        return None
    except (OSError, ValueError, MemoryError) as error:
        findings.append(_unreadable(path, error))
        return None
    size = pixels.height, pixels.width
    other = bool(row["image_ok"]) and size != (row["height"], row["width"])
    if other:
        found = f"It is {size[0]} x {size[1]} (height x width), its image {row['height']} x {row['width']}."
        findings.append(
            OF_MASKS.finding("size-mismatch", path, found, related=image_path, value=f"{size[0]} x {size[1]}")
        )
    for label, number in counts.items():
        entry = part.labels.setdefault(label, [0, 0])
        entry[0] += number
        entry[1] += 1
    classes = options.num_classes
    if classes is not None and (strange := {label: n for label, n in counts.items() if not 0 <= label < classes}):
        named = ", ".join(str(label) for label in sorted(strange)[:8]) + (", ..." if len(strange) > 8 else "")
        ignored = "." if options.ignore_index is None else f" and {options.ignore_index} (ignored)."
        reason = f"{sum(strange.values())} pixels have the labels {named}; allowed are 0 to {classes - 1}{ignored}"
        value = max(strange, key=lambda label: strange[label])
        findings.append(OF_MASKS.finding("label-out-of-range", path, reason, value=value))
    return None if other else mask


def _must_be_a_file(path: str) -> None:
    """To open a pipe would wait for ever for somebody to write into it."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ImageReadError(path, "it is a pipe, a device or a folder, and not a file", "Delete it.")


class _NoLabels(Exception):
    """A mask was read, but holds no labels: the finding says what it holds."""

    def __init__(self, code: str, path: str, reason: str, value: Any = None) -> None:
        self.finding = OF_MASKS.finding(code, path, reason, value=value)


def _labels(
    handle: io.ImageHandle, files: tuple[str, ...], options: Options, window: tuple[int, int, int, int] | None
) -> np.ndarray:
    """The classes [h, w] of a window of a mask: of its labels, or 1 where one of several files is not 0."""
    if len(files) > 1:
        mask = np.any([io.read_mask(path, page=0) != 0 for path in files], axis=0).astype(np.uint8)
    else:
        mask = _stored(handle, options, window)
    if options.remap is None:
        return mask
    try:
        unmapped: Any = options.unmapped
        return labels.remap(mask, {IGNORE_INDEX: IGNORE_INDEX, **options.remap}, unmapped=unmapped)
    except DataError as error:
        raise _NoLabels("label-out-of-range", files[0], f"{error}") from None


def _stored(handle: io.ImageHandle, options: Options, window: tuple[int, int, int, int] | None) -> np.ndarray:
    """The labels [h, w] of a window of a mask, as stored."""
    path = handle.path
    if options.colors is not None:
        more: dict[str, Any] = {} if options.unknown == "error" else {"unknown": options.unknown}
        try:
            return io.read_mask(path, colors=options.colors, page=0, **more)
        except ImageReadError as error:
            if "colour" not in error.reason and "color" not in error.reason:
                raise
            raise _NoLabels("label-out-of-range", path, f"{error.reason[0].upper()}{error.reason[1:]}.") from None
    try:
        return handle.read_mask(window=window, page=0)
    except ImageReadError:  # what it holds instead is found below, or it cannot be read at all
        stored = handle.read(window=window, page=0, samples="stored", orientation="apply")
    channels = stored.shape[2]
    if stored.shape[2] != 1:
        pixels = stored.reshape(-1, stored.shape[2])
        few = np.unique(pixels[:: max(1, len(pixels) // 2**16)], axis=0)
        grey = bool((few == few[:, :1]).all())
        reason = f"It has {channels} channels, with " + (
            f"the same value in each ({len(few)} grey values)" if grey else f"{len(few)} colours"
        )
        raise _NoLabels("color-coded-mask", path, f"{reason}, instead of one class per pixel.", len(few))
    if stored.dtype.kind not in "uib":
        raise _NoLabels("label-out-of-range", path, f"Its samples are {stored.dtype}, but a label is an integer.")
    return stored[..., 0]


def _unreadable(path: str, error: Exception) -> Finding:
    if isinstance(error, MemoryError):
        return OF_FILES.finding("unreadable", path, "Reading it needs more memory than the worker has.")
    reason = getattr(error, "reason", "") or str(error)
    code = "truncated" if isinstance(error, ImageReadError) and _ends_early(path, error) else "unreadable"
    return OF_FILES.finding(code, path, f"{reason[:1].upper()}{reason[1:]}.".replace("..", "."))


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
