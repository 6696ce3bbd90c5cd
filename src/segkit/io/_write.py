"""Writing: lossless, checked against what the format can hold, and atomic."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping

import numpy as np

from segkit.errors import ImageWriteError
from segkit.io._headers.source import at_home, is_remote

TIFF_DTYPES = (
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an image [H, W, C] so that `read_image` gives it back bit for bit.

    The name's ending chooses the format: ``.png`` (uint8 and uint16, 1 to 4 channels) or ``.tif``/``.tiff`` (any
    integer or float dtype, any number of channels; deflate). The file appears whole or not at all: it is
    written beside its place and moved there.

    Args:
        path: a local file; an existing one is replaced.
        image: [H, W, C], or [H, W] for one channel. Two and four channels end in alpha, as in PNG.

    Raises:
        ImageWriteError: the format would lose something (the message names one that does not), or writing failed.
        TypeError: `image` is not an array.
        ValueError: it has not two or three axes.

    Example:
        >>> import numpy as np
        >>> from segkit.io import read_image
        >>> image = np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
        >>> write_image("deep.png", image)
        >>> bool((read_image("deep.png") == image).all())
        True
    """
    _check_array("write_image", "image", image)
    if image.ndim not in (2, 3):
        raise ValueError(f"write_image: image must have the shape [H, W, C], got {image.shape}. Pass one image.")
    pixels = image[..., None] if image.ndim == 2 else image
    _write(os.fspath(path), pixels, None)


def write_mask(
    path: str | os.PathLike[str], mask: np.ndarray, *, colors: Mapping[tuple[int, int, int], int] | None = None
) -> None:
    """Write a mask [H, W] of classes so that `read_mask` gives it back bit for bit.

    Args:
        path: a local file ending in ``.png`` (uint8, uint16) or ``.tif``/``.tiff`` (any integer dtype).
        mask: [H, W], integers.
        colors: {(r, g, b): index}: write a palette image, which viewers show in these colours and which still holds
            the indices. uint8 only. Classes that are not listed become black; 255 becomes white unless it is listed.

    Raises:
        ImageWriteError: the format would change classes (a JPEG does), or writing failed.
        TypeError: `mask` is not an array of integers.
        ValueError: it has not two axes.

    Example:
        >>> import numpy as np
        >>> from segkit.io import read_mask
        >>> write_mask("mask.png", np.array([[0, 1], [1, 255]], np.uint8), colors={(0, 0, 0): 0, (255, 0, 0): 1})
        >>> read_mask("mask.png").tolist()
        [[0, 1], [1, 255]]
    """
    _check_array("write_mask", "mask", mask)
    if mask.ndim != 2:
        raise ValueError(f"write_mask: mask must have the shape [H, W], got {mask.shape}. Drop the channel axis.")
    if mask.dtype.kind not in "ui":
        raise TypeError(f"write_mask: mask must hold integers, got {mask.dtype}. Use mask.astype(np.uint8).")
    palette = None
    if colors is not None:
        if mask.dtype != np.uint8:
            raise ImageWriteError(
                path, f"a palette image holds uint8, the mask is {mask.dtype}", "use mask.astype(np.uint8)"
            )
        palette = np.zeros((256, 3), np.uint8)
        palette[255] = 255
        for color, index in colors.items():
            if len(color) != 3 or not all(0 <= int(v) <= 255 for v in color) or not 0 <= int(index) <= 255:
                raise ValueError(
                    "write_mask: colors must be {(r, g, b): index}, all in 0..255, got "
                    f"{color!r}: {index!r}. Correct this entry."
                )
            palette[int(index)] = color
    _write(os.fspath(path), mask[..., None], palette)


def _check_array(function: str, name: str, value: object) -> None:
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{function}: {name} must be a NumPy array, got {type(value).__name__}. For a tensor use "
            "segkit.io.to_image(tensor) or tensor.numpy()."
        )
    if 0 in value.shape:
        raise ValueError(f"{function}: {name} must hold at least one pixel, got the shape {value.shape}.")


def _write(path: str, pixels: np.ndarray, palette: np.ndarray | None) -> None:
    if is_remote(path):
        raise ImageWriteError(path, "only local files can be written", "write it locally, then copy it")
    path = at_home(path)
    data = _encode(path, pixels, palette)
    folder, name = os.path.split(path)
    start = os.fsdecode(os.fsencode(name)[:200])  # a name may have 255 bytes, and the dots come on top
    temporary = os.path.join(folder, f".{start}.{secrets.token_hex(8)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name with the contents missing
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise ImageWriteError(
            path, error.strerror or str(error), "check the folder, its permissions and its space"
        ) from error


def _encode(path: str, pixels: np.ndarray, palette: np.ndarray | None) -> bytes:
    ending = os.path.splitext(path)[1].lower()
    dtype, channels = pixels.dtype.name, pixels.shape[2]
    if ending == ".png":
        better = os.path.splitext(os.path.basename(path))[0] + ".tif"
        if dtype not in ("uint8", "uint16"):
            raise ImageWriteError(path, f"PNG holds uint8 and uint16, the array is {dtype}", f"write {better!r}")
        if channels > 4:
            raise ImageWriteError(path, f"PNG holds 1 to 4 channels, the array has {channels}", f"write {better!r}")
        if palette is not None:
            from segkit.io._backends.pillow import encode_palette_png

            return encode_palette_png(pixels, palette)
        from segkit.io._backends.tifffile import encode_png

        return encode_png(pixels)
    if ending in (".tif", ".tiff"):
        if dtype not in TIFF_DTYPES:
            hint = "use .astype(np.uint8)" if dtype == "bool" else "convert it to an integer or float dtype"
            raise ImageWriteError(path, f"TIFF files of {dtype} are not portable", hint)
        from segkit.io._backends.tifffile import encode_tiff

        return encode_tiff(pixels, palette)
    if ending in (".jpg", ".jpeg"):
        raise ImageWriteError(path, "JPEG changes values", "write a .png or a .tif")
    raise ImageWriteError(
        path, f"the ending {ending!r} names no lossless format that segkit writes", "use .png or .tif"
    )
