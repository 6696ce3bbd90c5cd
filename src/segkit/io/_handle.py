"""An open file: its header is read once, then windows of it, from any thread and any process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np

from segkit.io._backends.request import Backend
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.parse import parse
from segkit.io._headers.source import Source
from segkit.io._read import Window, naming, read_header


class ImageHandle:
    """An image file that stays open, for reading many windows of it.

    It holds no file position, so threads share it. It pickles as its path, and after a fork each process opens the file
    for itself. Use it in a ``with`` block, or call `close`.

    Args:
        path: a file, or an fsspec address.
        backend: as in `read_image`, for every read that names no other. It pickles along.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("bands.tif", np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
        >>> with ImageHandle("bands.tif") as handle:
        ...     handle.info.channels, handle.read(window=(1, 2, 1, 1)).tolist()
        (4, [[[20, 21, 22, 23]]])
    """

    def __init__(self, path: str | os.PathLike[str], backend: str | Backend = "auto") -> None:
        self._source = Source(path)
        self._backend = backend
        self._headers: dict[tuple[int, int], Header] = {}
        try:
            self._info = parse(self._source, survey=True, backend=backend).info
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
        page: int = 0,
        level: int = 0,
        samples: Literal["display", "stored"] = "display",
        backend: str | Backend | None = None,
        orientation: Literal["apply", "ignore"] | None = None,
        max_pixels: int = 2**29,
    ) -> np.ndarray:
        """As `read_image`, without opening the file and reading its header again."""
        return read_header(
            self._header(page, level),
            window=window,
            channels=channels,
            samples=samples,
            backend=self._backend if backend is None else backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )

    def _header(self, page: int, level: int) -> Header:
        # No lock: one that another thread held during a fork would never open in the child. Parsing twice is harmless.
        header = self._headers.get((page, level))
        if header is None:
            header = self._headers[page, level] = parse(self._source, page, level, backend=self._backend)
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

    def __reduce__(self) -> tuple[type[ImageHandle], tuple[str, str | Backend]]:
        return type(self), (self.path, self._backend)


@naming("open_image")
def open_image(path: str | os.PathLike[str], *, backend: str | Backend = "auto") -> ImageHandle:
    """Open an image file once, to read many windows of it.

    Args:
        path: a file, or an fsspec address.
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
