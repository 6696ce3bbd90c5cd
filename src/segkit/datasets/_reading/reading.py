"""How pairs are read: what a data set was told once, and a pair that is open."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit import IGNORE_INDEX
from segkit.datasets._reading.picture import Picture, Window
from segkit.errors import DataError
from segkit.io import ImageHandle, ImageInfo, open_image, read_mask, to_tensor
from segkit.labels import remap

if TYPE_CHECKING:
    from torch import Tensor

PAGES = ("first", "channels", "samples")


@dataclasses.dataclass(frozen=True)
class Reading:
    """The options of a data set that say what is in its files. Checked once, named as the constructor names them."""

    name: str
    colors: Mapping[tuple[int, int, int], int] | None = None
    unknown: str | int = "error"
    remap: Mapping[int, int] | None = None
    unmapped: str | int = "error"
    masks: Callable[..., np.ndarray] | None = None
    channels: str | tuple[int, ...] | None = None
    orientation: str | None = None
    nodata: str = "keep"
    pages: str | None = None
    mask_scale: float = 1
    scale: bool = True

    def __post_init__(self) -> None:
        for argument, value, allowed in (
            ("channels", self.channels if isinstance(self.channels, str) else None, ("rgb", None)),
            ("orientation", self.orientation, ("apply", "ignore", None)),
            ("nodata", self.nodata, ("keep", "ignore")),
            ("pages", self.pages, (*PAGES, None)),
        ):
            if value not in allowed:
                raise ValueError(f"{self.name}: `{argument}` must be one of {allowed}, got {value!r}.")
        ratio = self.mask_scale if self.mask_scale >= 1 else 1 / self.mask_scale if self.mask_scale > 0 else 0.5
        if ratio != int(ratio):
            raise ValueError(
                f"{self.name}: `mask_scale` must be a whole number, or 1 over one, got {self.mask_scale!r}. It is how "
                "many pixels of the image one of the mask covers along each side."
            )

    @functools.cached_property
    def draws_windows(self) -> bool:
        """Whether `masks` can be asked for a part of a mask."""
        return self.masks is not None and "window" in inspect.signature(self.masks).parameters

    def open(self, image: Sequence[str], mask: Sequence[str], page: int = 0) -> OpenPair:
        """The pair, open and checked by its headers."""
        return OpenPair(self, image, mask, page)


class OpenPair:
    """An image and its mask of one size: windows of both, as arrays."""

    def __init__(self, reading: Reading, image: Sequence[str], mask: Sequence[str], page: int) -> None:
        self.reading, self.image_files, self.mask_files = reading, image, mask
        self.page = page
        self._whole_mask: np.ndarray | None = None
        self._mask: ImageHandle | None = None
        which: int | str = "channels" if reading.pages == "channels" else page
        self._picture = Picture(image, channels=reading.channels, page=which)
        try:
            self._mask = open_image(mask[0]) if mask else None
            # Without a mask, the image is what its mask would have to agree with.
            self._mask_info = self._picture.info if self._mask is None else self._mask.info
            self._check_pages()
            self.turned = self._orientation()
            self._picture.turned = self.turned
            if mask:
                self._check_size()
        except BaseException:
            self.close()
            raise

    @property
    def _has_mask(self) -> bool:
        return bool(self.mask_files) or self.reading.masks is not None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of both."""
        return self._picture.size

    @property
    def info(self) -> ImageInfo:
        """What the image's header says."""
        return self._picture.info

    @property
    def top(self) -> int | None:
        """The stored value of the image that stands for 1."""
        return self._picture.top

    def read(self, window: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The image [h, w, C] as stored and the mask [h, w] in classes; zeros where there is no mask file."""
        ignores = self.reading.nodata == "ignore"
        pixels, missing = self._picture.read(window, data_only=ignores)
        self._check_top(pixels)
        mask = self.read_mask(window) if self._has_mask else np.zeros(pixels.shape[:2], np.uint8)
        if missing is not None and missing.any():
            mask = _holding(mask, IGNORE_INDEX)
            mask[missing] = IGNORE_INDEX
            pixels[missing] = 0
        return pixels, mask

    def image_tensor(self, pixels: np.ndarray) -> Tensor:
        """The image as the data set yields it: float32 over `top`, or in its integers."""
        import torch

        if self.reading.scale:
            try:
                return to_tensor(pixels, bits=self.info.value_bits)
            except ValueError as error:
                raise DataError(f"{self.reading.name}: {self.image_files[0]!r}: {error}") from error
        if large := _too_large(pixels):
            raise DataError(
                f"{self.reading.name}: {self.image_files[0]!r} must hold values below 2**63 with scale=False, as torch "
                f"computes with int64, got {large}. Pass scale=True."
            )
        return torch.from_numpy(np.array(np.moveaxis(pixels, -1, 0), dtype=_signed(pixels), order="C"))

    def mask_tensor(self, mask: np.ndarray) -> Tensor:
        """The mask in the smallest dtype that torch computes with."""
        import torch

        if large := _too_large(mask):
            raise DataError(
                f"{self.reading.name}: {self.mask_files[0]!r} must hold labels below 2**63, as torch computes with "
                f"int64, got {large}. Pass remap={{{large}: 255, ...}}."
            )
        mask = mask.view(np.uint8) if mask.dtype == np.bool_ else mask.astype(_signed(mask), copy=False)
        return torch.from_numpy(np.ascontiguousarray(mask))

    def find_mask(self) -> Tensor:
        """The whole mask, for a transform that looks for a class before it decides what to read."""
        if self._whole_mask is None:
            self._whole_mask = self._classes(None)
        return self.mask_tensor(self._whole_mask)

    def read_mask(self, window: Window | None) -> np.ndarray:
        """The mask [h, w] of a window in classes, of the image's size."""
        if self._whole_mask is None:
            return self._classes(window)
        if window is None:
            return self._whole_mask.copy()
        top, left, height, width = window
        return self._whole_mask[top : top + height, left : left + width].copy()

    def _classes(self, window: Window | None) -> np.ndarray:
        stored = self._stored_mask(window)
        if self.reading.remap is None:
            return stored
        try:
            return remap(stored, self.reading.remap, unmapped=self.reading.unmapped)  # type: ignore[arg-type]
        except DataError as error:
            raise DataError(f"{self.reading.name}: {(self.mask_files or self.image_files)[0]!r}: {error}") from error

    def _stored_mask(self, window: Window | None) -> np.ndarray:
        if self.reading.masks is not None:
            return self._drawn_mask(window)
        scale = self.reading.mask_scale
        if window is None or scale == 1:
            return _enlarged(self._joined_masks(window), scale)
        if scale > 1:  # the coarse pixels that the window touches, each repeated
            k = int(scale)
            top, left = window[0] // k, window[1] // k
            bottom, right = -(-(window[0] + window[2]) // k), -(-(window[1] + window[3]) // k)
            coarse = self._joined_masks((top, left, bottom - top, right - left))
            down, across = window[0] - top * k, window[1] - left * k
            fine = _enlarged(coarse, k)[down : down + window[2], across : across + window[3]]
            return np.ascontiguousarray(fine)
        k = round(1 / scale)
        return _enlarged(self._joined_masks((window[0] * k, window[1] * k, window[2] * k, window[3] * k)), scale)

    def _drawn_mask(self, window: Window | None) -> np.ndarray:
        """The mask that is made instead of read; by a function that takes windows, no more than this one."""
        draw, size = self.reading.masks, self.size
        assert draw is not None
        part = window is not None and self.reading.draws_windows
        mask = np.asarray(draw(self.image_files[0], size, **({"window": window} if part else {})))
        expected = window[2:] if window is not None and part else size
        if mask.shape != expected or mask.dtype.kind not in "biu":
            raise DataError(
                f"{self.reading.name}: `masks` must give integers of the size of {self.image_files[0]!r}, {expected}, "
                f"got {mask.dtype} {mask.shape}."
            )
        top, left, height, width = window if window is not None and not part else (0, 0, *expected)
        return mask[top : top + height, left : left + width]

    def _joined_masks(self, window: Window | None) -> np.ndarray:
        """The mask file; of several, one for each object, 1 where any is not 0."""
        options: dict[str, Any] = {"window": window, "orientation": self.turned}
        options["page"] = 0 if self.reading.pages == "channels" else self.page
        options |= {"colors": self.reading.colors, "unknown": self.reading.unknown}
        assert self._mask is not None
        first = self._mask.read_mask(**options)
        if len(self.mask_files) == 1:
            return first
        joined = first != 0
        for path in self.mask_files[1:]:
            one = read_mask(path, **options)
            if one.shape != joined.shape:
                raise DataError(
                    f"{self.reading.name}: the masks of an image's objects must have one size, got {joined.shape} in "
                    f"{self.mask_files[0]!r} and {one.shape} in {path!r}. Leave the pair out."
                )
            joined |= one != 0
        return joined.view(np.uint8)

    def _check_pages(self) -> None:
        for path, info in zip(
            (self.image_files[0], *self.mask_files), (self._picture.info, self._mask_info), strict=False
        ):
            if info.pages > 1 and self.reading.pages is None:
                raise DataError(
                    f"{self.reading.name}: `pages` must say what the {info.pages} pages of {path!r} are, got None. "
                    "pages='channels' stacks them, pages='samples' makes each page a sample, beside the same page of "
                    "its mask, pages='first' leaves the others out."
                )
        ours, theirs = self._picture.info.pages, self._mask_info.pages
        if self.reading.pages == "samples" and ours != theirs:
            raise DataError(
                f"{self.reading.name}: {self.mask_files[0]!r} must have a page for each of the {ours} of its image "
                f"{self.image_files[0]!r}, got {theirs}. Leave the pair out, or pass another `pages`."
            )

    def _orientation(self) -> str:
        """Whether to turn both as EXIF says; a pair of which that is not known is refused."""
        turn, name, info = self.reading.orientation, self.reading.name, self._picture.info
        if turn is not None or info.orientation == 1 or self._mask_info.orientation == info.orientation:
            return turn or "apply"
        drawn = self._mask_size(self._mask_info)
        stored, upright = (info.height, info.width), info.upright_size
        if upright != stored and drawn != stored:
            return "apply"
        hint = "it has the size of the stored pixels" if upright != stored else "its size fits either way"
        raise DataError(
            f"{name}: `orientation` must say whether {self.mask_files[0]!r} was drawn on the upright picture or on the "
            f"stored pixels of {self.image_files[0]!r}, which EXIF turns (orientation {info.orientation}), while the "
            f"mask says nothing: {hint}. Pass orientation='ignore' for stored pixels, 'apply' for upright ones."
        )

    def _mask_size(self, info: ImageInfo, turned: str = "apply") -> tuple[int, int]:
        height, width = info.upright_size if turned == "apply" else (info.height, info.width)
        scale = self.reading.mask_scale
        if scale >= 1:
            return height * int(scale), width * int(scale)
        k = round(1 / scale)
        return (height // k, width // k) if height % k == width % k == 0 else (-1, -1)

    def _check_size(self) -> None:
        found = self._mask_size(self._mask_info, self.turned)
        if found == self.size:
            return
        height, width = self._mask_info.height, self._mask_info.width
        remedy = "Leave the pair out: audit.audit_dataset finds all such pairs."
        ratio = self.size[0] / height
        if self.reading.mask_scale == 1 and ratio == self.size[1] / width and _is_whole(max(ratio, 1 / ratio)):
            shown = f"{int(ratio)}" if ratio > 1 else f"1 / {round(1 / ratio)}"
            remedy = f"If both show the same ground, pass mask_scale={shown}."
        raise DataError(
            f"{self.reading.name}: {self.mask_files[0]!r} must have the size of its image {self.image_files[0]!r}, "
            f"{self.size}, got {(height, width)}. {remedy}"
        )

    def _check_top(self, pixels: np.ndarray) -> None:
        top = self.top
        if top is None or pixels.dtype.kind != "u" or top == np.iinfo(pixels.dtype).max or not pixels.size:
            return
        if int(pixels.max()) > top:
            raise DataError(
                f"{self.reading.name}: {self.image_files[0]!r} must hold values up to {top}, as its header says, "
                f"got {int(pixels.max())}. Write it again with its true depth, or pass scale=False."
            )

    def close(self) -> None:
        """Close the image and the mask."""
        self._picture.close()
        if self._mask is not None:
            self._mask.close()

    def __enter__(self) -> OpenPair:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def files_of(side: Any) -> tuple[str, ...]:
    """The files of an image or a mask, of which there is mostly one."""
    files: tuple[Any, ...] = (side,) if isinstance(side, str | bytes | os.PathLike) else tuple(side)
    return tuple(os.fsdecode(path) for path in files)


def read_sample(opened: OpenPair, transform: Callable[..., Any] | None, carried: Mapping[str, Any]) -> tuple[Any, Any]:
    """The image and the mask after the transform; no more is read than the head of the transform needs."""
    ask = getattr(transform, "plan", None)
    plan = None if ask is None else ask(opened.size, find_mask=opened.find_mask, **carried)
    if plan is None:
        pixels, mask = opened.read()
        sample = opened.image_tensor(pixels), opened.mask_tensor(mask)
        return sample if transform is None else transform(*sample, **carried)
    window = tuple(plan.window)
    pixels, mask = opened.read(None if window == (0, 0, *opened.size) else window)
    labels = opened.mask_tensor(mask)
    if opened.reading.scale and getattr(plan, "takes_stored", False):
        return plan(pixels, labels, top=opened.top)
    return plan(opened.image_tensor(pixels), labels)


def _signed(array: np.ndarray) -> np.dtype:
    """Its dtype, or the signed one that torch computes with in place of uint16, uint32 and uint64."""
    return np.dtype({"u2": "i4", "u4": "i8", "u8": "i8"}.get(array.dtype.str[1:], array.dtype))


def _too_large(array: np.ndarray) -> int:
    """The largest value, where int64 does not hold it; else 0."""
    top = int(array.max()) if array.dtype == np.uint64 and array.size else 0
    return top if top > np.iinfo(np.int64).max else 0


def _holding(mask: np.ndarray, value: int) -> np.ndarray:
    """The mask, writeable and of a dtype that holds the value."""
    if mask.dtype == np.bool_ or value > np.iinfo(mask.dtype).max:
        return mask.astype(np.uint8 if mask.dtype == np.bool_ else np.int16)
    return mask if mask.flags.writeable else mask.copy()


def _enlarged(mask: np.ndarray, scale: float) -> np.ndarray:
    """Each pixel repeated `scale` times along both axes; below 1, the nearest of so many."""
    if scale == 1:
        return mask
    if scale > 1:
        return mask.repeat(int(scale), axis=0).repeat(int(scale), axis=1)
    k = round(1 / scale)
    return np.ascontiguousarray(mask[k // 2 :: k, k // 2 :: k])


def _is_whole(value: float) -> bool:
    return value == int(value)
