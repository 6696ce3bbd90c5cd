"""A pair of files as statistics count it: its pixels and its labels, in bands that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit import IGNORE_INDEX
from segkit.errors import DataError

if TYPE_CHECKING:
    from segkit.io import ImageHandle, ImageInfo

_BAND = 2**26  # bytes of samples: larger images are counted band by band
Window = tuple[int, int, int, int]
Files = tuple[str, ...]  # one, or one for each band of an image or object of a mask


@dataclass(frozen=True)
class MaskRules:
    """What the labels of masks mean, as `PairDataset` takes it."""

    ignore_index: int | None = IGNORE_INDEX
    colors: Mapping[tuple[int, int, int], int] | None = None
    unknown: str | int = "error"
    remap: Mapping[int, int] | None = None
    unmapped: str | int = "error"
    pages: str | None = None

    def pages_of(self, info: ImageInfo) -> list[Any]:
        """Which pages of a file are counted, each as `page` of `read_image`.

        Raises:
            DataError: it has several, and `pages` does not say what they are.
        """
        if info.pages > 1 and self.pages is None:
            raise DataError(
                f"it has {info.pages} pages; say what they are: pages='channels', 'samples' (each is counted), 'first'"
            )
        if self.pages == "samples":
            return list(range(info.pages))
        return ["channels" if self.pages == "channels" and info.pages > 1 else 0]

    def renumbered(self, labels: list[int]) -> list[int]:
        """The class of each of these labels of a file.

        Raises:
            DataError: `remap` does not name one of them.
        """
        if self.remap is None:
            return labels
        mapping = {IGNORE_INDEX: IGNORE_INDEX, **self.remap}
        missing = [label for label in labels if label not in mapping]
        if missing and self.unmapped == "error":
            raise DataError(f"it has the labels {missing[:8]}, which `remap` does not name; pass unmapped=")
        rest = {} if self.unmapped == "keep" else dict.fromkeys(missing, int(self.unmapped)) if missing else {}
        return [mapping.get(label, rest.get(label, label)) for label in labels]

    def read(self, files: Files, page: int, window: Window | None) -> np.ndarray:
        """The labels [h, w] as stored: those of one file, or 1 where one of several is not 0."""
        from segkit import io

        # Each only where it is asked for: what read_mask can do grows.
        more: dict[str, Any] = {} if self.unknown == "error" else {"unknown": self.unknown}
        parts = [io.read_mask(path, colors=self.colors, page=page, window=window, **more) for path in files]
        return parts[0] if len(parts) == 1 else np.any([part != 0 for part in parts], axis=0).astype(np.uint8)


@dataclass
class OpenPair:
    """An image and its mask in bands."""

    size: tuple[int, int]  # height and width, upright
    bits: int  # that the values fill
    whole: bool  # whether one band is all
    bands: Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]  # pixels, labels, where there are data


def open_pair(
    opened: ExitStack, image: Files, mask: Files | None, rules: MaskRules, at: Callable[[str], None]
) -> Iterator[OpenPair]:
    """Open a pair, page by page where these are samples; `at` is told which file is looked at, for messages."""
    from segkit import io

    at(image[0])
    handles = [opened.enter_context(io.open_image(path)) for path in image]
    for page in rules.pages_of(handles[0].info):
        yield _open_page(handles, page, mask, rules, at)


def _open_page(
    handles: Sequence[ImageHandle], page: Any, mask: Files | None, rules: MaskRules, at: Callable[[str], None]
) -> OpenPair:
    from segkit import io

    info = handles[0].info
    bands = _bands(info, len(handles) * (info.pages if page == "channels" else 1))

    def pixels(window: Window | None) -> np.ndarray:
        parts = [handle.read(window=window, page=page) for handle in handles]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    images = _in_bands(info, pixels, bands)
    masks: Iterable[np.ndarray | None] = [None] * len(bands)
    if mask is not None:
        at(mask[0])
        read = partial(rules.read, mask, 0 if page == "channels" else page)
        masks = _in_bands(None if len(bands) == 1 else io.image_info(mask[0]), read, bands)
    nodata = getattr(info, "nodata", None)
    each = ((x, labels, with_data(x, nodata)) for x, labels in zip(images, masks, strict=True))
    return OpenPair(info.upright_size, info.value_bits, len(bands) == 1, each)


def with_data(pixels: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Where there are data: not every channel holds the value that the file declares to be none.

    Args:
        pixels: [H, W, C], as stored.
        nodata: the value, as `image_info(path).nodata` tells it; may be NaN. None where the file declares nothing.

    Returns:
        bool [H, W]; None where there are data everywhere.

    Example:
        >>> with_data(np.array([[[3], [-1]]], np.int16), -1).tolist()
        [[True, False]]
    """
    if nodata is None:
        return None
    if math.isnan(nodata):
        there = ~np.isnan(pixels).all(2) if pixels.dtype.kind == "f" else None
    elif pixels.dtype.kind != "f" and nodata != int(nodata):
        there = None
    else:
        value = np.float64(nodata).astype(pixels.dtype) if pixels.dtype.kind == "f" else int(nodata)
        there = (pixels != value).any(2)
    return None if there is None or there.all() else there


def _bands(info: ImageInfo, files: int) -> Sequence[Window]:
    """The windows in which an image is counted: one, the whole, or bands of one that is too large to hold."""
    height, width = info.upright_size
    line = width * info.channels * files * info.dtype.itemsize
    rows = height if height * line <= _BAND else max(1, _BAND // line // 256) * 256
    return [(top, 0, min(rows, height - top), width) for top in range(0, height, rows)]


def _in_bands(
    info: ImageInfo | None, read: Callable[[Window | None], np.ndarray], bands: Sequence[Window]
) -> Iterable[np.ndarray]:
    """The pixels of each band: read by itself where the file allows it, else cut from the whole."""
    if info is None or info.format not in ("TIFF", "BigTIFF") or len(bands) == 1:
        whole = read(None)
        return [whole] if len(bands) == 1 else [whole[top : top + rows] for top, _, rows, _ in bands]
    end = bands[-1]
    if info.upright_size != (end[0] + end[2], end[3]):
        found, size = info.upright_size, (end[0] + end[2], end[3])
        raise DataError(f"it is {found[0]} x {found[1]}, its image {size[0]} x {size[1]}")
    return (read(window) for window in bands)
