"""The image of a pair: one file or one for each band, in the channels that were asked for, whole or a window of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.errors import DataError
from segkit.io import ImageHandle, ImageInfo, open_image

Window = tuple[int, int, int, int]  # top, left, height, width


class Picture:
    """An open image. `size` is (height, width) as it is read, `info` the header's facts of its first file."""

    def __init__(self, files: Sequence[str], *, channels: str | Sequence[int] | None, page: int | str) -> None:
        self.files, self.channels, self.page = files, channels, page
        self._handles: list[ImageHandle] = []
        try:
            for path in files:
                self._handles.append(open_image(path))
        except BaseException:
            self.close()
            raise
        self.info: ImageInfo = self._handles[0].info
        self.turned: str = "apply"
        for path, handle in zip(files[1:], self._handles[1:], strict=True):
            ours, first = _kind(handle.info), _kind(self.info)
            if ours != first:
                raise DataError(
                    f"PairDataset: the bands of an image must have one size and dtype, got {first} in {files[0]!r} and "
                    f"{ours} in {path!r}. Write them at one size, or leave the band out."
                )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as read."""
        return self.info.upright_size if self.turned == "apply" else (self.info.height, self.info.width)

    @property
    def top(self) -> int | None:
        """The stored value that stands for 1; None for floats, which stay as they are."""
        dtype = np.dtype(self.info.dtype)
        if dtype.kind == "f":
            return None
        if dtype.kind == "b":
            return 1
        return min(int(np.iinfo(dtype).max), (1 << self.info.value_bits) - 1)

    def read(self, window: Window | None, *, data_only: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """[h, w, C] as stored, and with `data_only` True [h, w] where the file says that nothing was measured.

        Raises:
            DataError: "rgb" was asked for and cannot be had without guessing.
        """
        named = None if isinstance(self.channels, str) else self.channels
        bands = named if len(self._handles) == 1 else None
        where: dict[str, Any] = {"window": window, "orientation": self.turned}
        parts = [handle.read(channels=bands, page=self.page, **where) for handle in self._handles]  # type: ignore[arg-type]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        missing = None
        if data_only and self.page in (0, "channels"):
            at_hand = pixels if bands is None and len(parts) == 1 and self.page == 0 else None
            missing = ~self._handles[0].read_valid(alpha=True, image=at_hand, **where)
        if bands is None and named is not None:
            pixels = np.ascontiguousarray(pixels[..., list(named)])
        if self.channels == "rgb":
            pixels = self._as_rgb(pixels, missing)
        return pixels, missing

    def _as_rgb(self, pixels: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        count = pixels.shape[2]
        if count in (2, 4):
            opaque = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
            through = pixels[..., -1] != opaque
            if (through if missing is None else through & ~missing).any():
                raise DataError(
                    f"PairDataset: channels='rgb' must find an opaque alpha in {self.files[0]!r}, got {count} "
                    f"channels of which the last is not {opaque} everywhere. Name the channels, channels="
                    f"{list(range(count - 1))}, to drop it"
                    + (", or pass nodata='ignore', which leaves out where it is 0." if missing is None else ".")
                )
            pixels, count = pixels[..., :-1], count - 1
        if count == 1:
            return np.repeat(pixels, 3, axis=2)
        if count != 3:
            raise DataError(
                f"PairDataset: channels='rgb' must find grey or RGB in {self.files[0]!r}, got {count} channels. Name "
                "three of them: channels=[3, 2, 1]."
            )
        return np.ascontiguousarray(pixels)

    def close(self) -> None:
        """Close all files."""
        for handle in self._handles:
            handle.close()


def _kind(info: ImageInfo) -> str:
    return f"{info.height} x {info.width} {info.dtype}"
