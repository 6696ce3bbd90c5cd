"""An open file: its header is read once, then windows of it, from any thread and any process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from segkit.io._backends.request import Backend
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.parse import is_tiff, parse
from segkit.io._headers.source import File, Source
from segkit.io._headers.tiff import parse_mask_page
from segkit.io._mask import mask_of
from segkit.io._read import Window, naming, read_header, read_pages


class ImageHandle:
    """An image file that stays open, for reading many windows of it.

    It holds no file position, so threads share it. It pickles as its path, and after a fork each process opens the file
    for itself. Use it in a ``with`` block, or call `close`.

    Args:
        path: as in `read_image`.
        backend: as in `read_image`, for every read that names no other. It pickles along.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("bands.tif", np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
        >>> with ImageHandle("bands.tif") as handle:
        ...     handle.info.channels, handle.read(window=(1, 2, 1, 1)).tolist()
        (4, [[[20, 21, 22, 23]]])
    """

    def __init__(self, path: File, backend: str | Backend = "auto") -> None:
        self._source = Source(path)
        self._backend = backend
        self._headers: dict[tuple[int | None, int, bool], Header] = {}
        try:
            if not is_tiff(self._source):
                self._source.read_all()  # it will be decoded whole, and the parser then walks in memory
            header = parse(self._source, survey=True, backend=backend)
            self._headers[0, 0, True] = self._headers[0, 0, False] = header
            self._info = header.info
        except BaseException:
            self._source.close()
            raise

    @property
    def path(self) -> str:
        """The path it was opened with."""
        return self._source.path

    @property
    def info(self) -> ImageInfo:
        """The header's facts, as from `image_info`."""
        return self._info

    @naming("ImageHandle.read")
    def read(
        self,
        *,
        window: Window | None = None,
        channels: Sequence[int] | None = None,
        page: int | Literal["channels"] | None = None,
        level: int = 0,
        samples: Literal["display", "stored"] = "display",
        backend: str | Backend | None = None,
        orientation: Literal["apply", "ignore"] | None = None,
        max_pixels: int = 2**29,
    ) -> np.ndarray:
        """As `read_image`, without opening the file and reading its header again."""
        return read_pages(
            lambda number, survey=False: self._header(number, level, survey),
            page,
            window=window,
            channels=channels,
            samples=samples,
            backend=self._backend if backend is None else backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )

    @naming("ImageHandle.read_mask")
    def read_mask(
        self,
        *,
        colors: Mapping[tuple[int, int, int], int] | None = None,
        values: Literal["index", "grey"] | None = None,
        unknown: Literal["error"] | int = "error",
        window: Window | None = None,
        page: int | None = None,
        orientation: Literal["apply", "ignore"] = "apply",
        max_pixels: int = 2**29,
    ) -> np.ndarray:
        """As `io.read_mask`, without opening the file and reading its header again."""
        return mask_of(
            self._header(page, 0),
            colors=colors,
            values=values,
            unknown=unknown,
            window=window,
            backend=self._backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )

    @naming("ImageHandle.read_valid")
    def read_valid(
        self,
        *,
        window: Window | None = None,
        alpha: bool = False,
        image: np.ndarray | None = None,
        orientation: Literal["apply", "ignore"] = "apply",
        max_pixels: int = 2**29,
    ) -> np.ndarray:
        """Which pixels of the first page were measured, as far as the file says: bool [H, W].

        Args:
            window: as in `read`.
            alpha: whether a pixel whose alpha is 0 counts as not measured.
            image: what `read` gave for the same window and orientation, if it is at hand: it is not decoded again.
            orientation: whether to turn the answer as EXIF says.
            max_pixels: as in `read`.

        Returns:
            False where every channel has the value of ``info.nodata``, where the mask page that belongs to the image
            (GDAL writes such) is 0, and with `alpha` where the image is transparent; else True.

        Raises:
            ImageReadError: as in `read`.
            ValueError: an argument does not fit the image.
        """
        header = self._header(0, 0)
        options: dict[str, Any] = {"window": window, "channels": None, "orientation": orientation}
        options |= {"backend": self._backend, "max_pixels": max_pixels}
        alpha = alpha and (header.alpha != "none" or header.info.photometric == "palette")
        mask = parse_mask_page(self._source) if header.info.format in ("TIFF", "BigTIFF") else None
        if image is None and (alpha or header.info.nodata is not None or mask is None):
            image = read_header(header, samples="display", **options)
        valid: np.ndarray = np.ones(image.shape[:2] if image is not None else (1, 1), bool)
        if image is not None and header.info.nodata is not None:
            valid &= ~_equals(image, header.info.nodata).all(axis=2)
        if image is not None and alpha and image.shape[2] in (2, 4):
            valid &= image[..., -1] != 0
        if mask is not None:
            valid = valid & (read_header(mask, samples="stored", **options)[..., 0] != 0)
        return valid

    def _header(self, page: int | None, level: int, survey: bool = False) -> Header:
        # No lock: one that another thread held during a fork would never open in the child. Parsing twice is harmless.
        key = page, level, survey
        header = self._headers.get(key)
        if header is None:
            header = self._headers[key] = parse(self._source, page, level, survey=survey, backend=self._backend)
        return header

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self._source.close()

    def __enter__(self) -> ImageHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ImageHandle({self.path!r})"

    def __reduce__(self) -> tuple[type[ImageHandle], tuple[str | bytes, str | Backend]]:
        return type(self), (self._source.origin, self._backend)


def _equals(image: np.ndarray, nodata: float) -> np.ndarray:
    if math.isnan(nodata):
        return np.isnan(image) if image.dtype.kind == "f" else np.zeros(image.shape, bool)
    if image.dtype.kind == "f":
        return image == image.dtype.type(nodata)  # the tag holds more digits than a float32
    limits = np.iinfo(image.dtype)
    whole = math.isfinite(nodata) and nodata == int(nodata) and limits.min <= nodata <= limits.max
    return image == image.dtype.type(int(nodata)) if whole else np.zeros(image.shape, bool)


@naming("open_image")
def open_image(path: File, *, backend: str | Backend = "auto") -> ImageHandle:
    """Open an image file once, to read many windows of it.

    Args:
        path: as in `read_image`.
        backend: as in `read_image`, for every read that names no other.

    Returns:
        A handle with ``.info`` and ``.read(window=...)``; a context manager that pickles and survives a fork.

    Raises:
        ImageReadError: no known format, or the header is damaged.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("scan.tif", np.arange(6, dtype=np.uint8).reshape(2, 3, 1))
        >>> with open_image("scan.tif") as handle:
        ...     handle.read(window=(0, 1, 2, 1)).ravel().tolist()
        [1, 4]
    """
    return ImageHandle(path, backend)
