"""Reading: the header decides, a backend decodes, and what comes back is checked against what the header promised."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from segkit.errors import ImageReadError, ImageReadWarning
from segkit.io._backends.choose import backends, choose
from segkit.io._backends.request import Backend, Request
from segkit.io._display import changes_channels, display, upright, upright_size, window_in_stored
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.parse import parse
from segkit.io._headers.source import File, Source

Window = tuple[int, int, int, int]


@contextlib.contextmanager
def naming(function: str) -> Iterator[None]:
    """What is raised inside, or in a function so decorated, begins with the name of what the user called."""
    try:
        yield
    except ImageReadError as error:
        error.function = function
        raise
    except (TypeError, ValueError) as error:
        error.args = (f"{function}: {error}",)
        raise


@naming("read_image")
def read_image(
    path: File,
    *,
    window: Window | None = None,
    channels: Sequence[int] | None = None,
    page: int | Literal["channels"] | None = None,
    level: int = 0,
    samples: Literal["display", "stored"] = "display",
    backend: str | Backend = "auto",
    orientation: Literal["apply", "ignore"] | None = None,
    max_pixels: int = 2**29,
) -> np.ndarray:
    """The pixels of an image file, [H, W, C], in their stored dtype.

    What is in the file is what comes back, or an error: never fewer channels, fewer bits, other colours or another
    orientation without saying so. Every backend gives the same array or refuses.

    Args:
        path: a file, an fsspec address such as ``s3://bucket/scan.tif``, the bytes of a file, or a file that is open in
            binary mode (read from its start).
        window: (top, left, height, width) of the part to read. A TIFF decodes only the blocks it touches.
        channels: which channels, in this order; all by default.
        page: page of a multi-page TIFF, counted from 0; or "channels": all pages, whose size must be the same, become
            channels, one after another. By default the first, with a warning if there are others.
        level: resolution of a pyramid, 0 is the full one.
        samples: "display" is what a person would see: palettes become RGB(A), miniswhite is inverted, CMYK and YCbCr
            become RGB, 1, 2 and 4 bits fill 0..255. "stored" is the very samples of the file: indices, 1-bit as 0/1.
        backend: "auto", "opencv", "pillow", "tifffile" (with imagecodecs), or a `Backend` of your own.
        orientation: whether to turn the image as EXIF says. None: "apply" for display, "ignore" for stored samples.
        max_pixels: more pixels than this are refused before anything is allocated.

    Returns:
        Array [H, W, C], always with its channel axis: RGB order, native byte order, the file's dtype.

    Raises:
        ImageReadError: damaged, unsupported, too large, or beyond the chosen backend; with the reason and what to do.
        ValueError: an argument does not fit the image.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("bands.tif", np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
        >>> read_image("bands.tif").shape
        (2, 3, 4)
        >>> read_image("bands.tif", window=(1, 1, 1, 2), channels=[3]).tolist()
        [[[19], [23]]]
    """
    with Source(path) as source:
        return read_pages(
            lambda number, survey=False: parse(source, number, level, survey=survey, backend=backend),
            page,
            window=window,
            channels=channels,
            samples=samples,
            backend=backend,
            orientation=orientation,
            max_pixels=max_pixels,
        )


def read_pages(
    find: Callable[..., Header], page: int | str | None, *, channels: Sequence[int] | None, **options: Any
) -> np.ndarray:
    """`read_image` for a file that is open.

    Args:
        find: ``find(page, survey=False)`` is the header of a page.
        page: as in `read_image`.
        channels: as in `read_image`.
        options: the rest of it.
    """
    if page != "channels":
        header = find(page)
        warn_of_others(header)
        return read_header(header, channels=channels, **options)
    first = find(0, survey=True)
    count, each = first.info.pages, first.info.channels
    pages = [first, *(find(number) for number in range(1, count))]
    for header in pages:
        if (header.info.height, header.info.width, header.info.channels, header.info.dtype) != (
            first.info.height,
            first.info.width,
            each,
            first.info.dtype,
        ):
            info = header.info
            reason = (
                f"its pages cannot become channels: page {header.page} has {info.height} x {info.width} x "
                f"{info.channels} {info.dtype}, the first {first.info.height} x {first.info.width} x {each} "
                f"{first.info.dtype}"
            )
            raise ImageReadError(header.path, reason, f"read its pages one by one: page=0 to page={count - 1}")
    read = [read_header(header, channels=None, **options) for header in pages]
    whole = np.concatenate(read, axis=2)
    return whole if channels is None else whole[..., list(_channels(channels, whole.shape[2]))]


def warn_of_others(header: Header) -> None:
    """Warn that a file has further pages, if none was asked for. The text is the same for all files of a kind."""
    if not header.several:
        return
    choices = "only the first can be read. Say page=0 if it is wanted."
    if header.info.format in ("TIFF", "BigTIFF"):
        choices = (
            'the first was read. Say page=0 if it is wanted, another number, or page="channels" for all as channels.'
        )
    axes = f" (axes {header.info.axes})" if header.info.axes else ""
    message = f"this {header.info.format} has several pages{axes}, see image_info(path).pages; {choices}"
    warnings.warn(ImageReadWarning(message), stacklevel=5)  # the caller of the caller, whom `naming` wraps


def read_header(
    header: Header,
    *,
    window: Window | None,
    channels: Sequence[int] | None,
    samples: str,
    backend: str | Backend,
    orientation: str | None,
    max_pixels: int,
) -> np.ndarray:
    """`read_image` for a file that is open and whose header is known."""
    info = header.info
    if samples not in ("display", "stored"):
        raise ValueError(f"samples must be 'display' or 'stored', got {samples!r}. Choose one of them.")
    if orientation not in ("apply", "ignore", None):
        raise ValueError(f"orientation must be 'apply', 'ignore' or None, got {orientation!r}. Choose one of them.")
    if orientation is None:
        orientation = "apply" if samples == "display" else "ignore"
    turn = info.orientation if orientation == "apply" else 1
    size = upright_size(info.height, info.width, turn)
    shown = window_in_stored(_window(window, size), size, turn)
    if info.format in ("TIFF", "BigTIFF") and window is not None:
        _limit(header, shown[2] * shown[3], max_pixels)
        _limit(header, math.prod(header.detail.tile), max(max_pixels, 2**29))  # a block is decoded whole
    else:
        # Of a PNG only the rows down to the window's last one are decoded.
        part = backend == "auto" and info.format == "PNG" and not header.detail.interlaced
        _limit(header, (shown[0] + shown[2] if part else info.height) * info.width, max_pixels)
    reader = choose(header, backend)
    try:
        pixels = _pixels(header, reader, shown, channels, samples)
        return upright(pixels, turn)
    except MemoryError as error:
        reason = "it does not fit into memory"
        raise ImageReadError(header.path, reason, "read a window of it, or use a machine with more memory") from error


def _pixels(
    header: Header, reader: Backend, window: Window, channels: Sequence[int] | None, samples: str
) -> np.ndarray:
    count = header.info.channels
    mixes = samples == "display" and changes_channels(header)
    wanted = tuple(range(count)) if mixes or channels is None else _channels(channels, count)
    stored = _decode(header, Request(window, wanted), reader)
    if samples == "display":
        stored = display(stored, header)
        if mixes and channels is not None:
            stored = stored[..., list(_channels(channels, stored.shape[2]))]
    return stored


def _decode(header: Header, request: Request, reader: Backend) -> np.ndarray:
    try:
        stored = reader.read(header, request)
    except (ImageReadError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        if "emory" in text:  # OpenCV's and the codecs' own way of saying it
            raise MemoryError(text) from error
        reason = f"{reader.name} cannot decode it: {type(error).__name__}: {text}"
        raise ImageReadError(header.path, reason, "the file is damaged: copy or export it again") from error
    if stored.shape != request.shape or stored.dtype != header.info.dtype:
        reason = (
            f"{reader.name} gave {stored.shape} {stored.dtype}, but the header promises {request.shape} "
            f"{header.info.dtype}"
        )
        raise ImageReadError(header.path, reason, "try another backend")
    stored = np.ascontiguousarray(stored)
    return stored if stored.flags.writeable else stored.copy()  # a user may draw on it, and torch wants it so


@naming("image_info")
def image_info(path: File) -> ImageInfo:
    """What the header of an image file says, without decoding a pixel.

    Args:
        path: as in `read_image`.

    Returns:
        The facts about the first page, with the number of pages and of resolution levels.

    Raises:
        ImageReadError: no known format, or the header is damaged.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("bands.tif", np.zeros((2, 3, 13), np.uint16))
        >>> info = image_info("bands.tif")
        >>> info.format, info.height, info.width, info.channels, info.bits_per_sample
        ('TIFF', 2, 3, 13, 16)
    """
    with Source(path) as source:
        return parse(source, survey=True).info


@naming("explain_backends")
def explain_backends(path: File) -> list[tuple[str, bool, str]]:
    """Which backends give the stored samples of a file, and what would be wrong with the others.

    Args:
        path: as in `read_image`.

    Returns:
        (backend, verdict, reason) for each: the verdict is True if it reads the file exactly, else the reason says
        why it would not. The first True is what ``backend="auto"`` takes.

    Raises:
        ImageReadError: no known format, or the header is damaged.

    Example:
        >>> import numpy as np
        >>> from segkit.io import write_image
        >>> write_image("deep.png", np.zeros((2, 3, 3), np.uint16))
        >>> dict((name, reason) for name, verdict, reason in explain_backends("deep.png") if not verdict)["pillow"]
        'Pillow cuts 16-bit colour to 8 bits'
    """
    with Source(path) as source:
        header = parse(source)
        return [(reader.name, not (reason := reader.refuses(header)), reason) for reader in backends(header)]


def _window(window: Window | None, size: tuple[int, int]) -> Window:
    if window is None:
        return 0, 0, *size
    if len(window) != 4:
        raise ValueError(f"window must be (top, left, height, width), got {window!r}. Give four numbers.")
    top, left, height, width = (int(v) for v in window)
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > size[0] or left + width > size[1]:
        raise ValueError(
            f"window must be (top, left, height, width) inside {size[0]} x {size[1]}, got {tuple(window)}. "
            "Clip it to the image first."
        )
    return top, left, height, width


def _channels(channels: Sequence[int], count: int) -> tuple[int, ...]:
    wanted = tuple(int(c) for c in channels)
    if not wanted or not all(0 <= c < count for c in wanted):
        raise ValueError(f"channels must be among 0..{count - 1}, got {wanted}. Count from 0.")
    return wanted


def _limit(header: Header, pixels: int, most: int) -> None:
    if pixels > most:
        reason = f"it has {pixels} pixels, more than max_pixels={most}"
        raise ImageReadError(header.path, reason, "read a window of it, or raise max_pixels if you trust the file")
