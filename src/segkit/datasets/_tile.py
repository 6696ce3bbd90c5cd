"""Files that are slow to cut, written once as tiled TIFF: after that every crop reads a few blocks."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from segkit._tasks import map_in_chunks
from segkit.datasets._pairing.files import Files, list_files
from segkit.errors import DataError, ImageReadError, ImageWriteError, SegkitError
from segkit.io import ImageHandle, ImageInfo, image_info, open_image, read_image

_COMPRESSIONS = {"zstd": "zstd", "deflate": "deflate", "lzw": "lzw", "none": None}
# What places a picture on the earth, and its value for no data: the same numbers mean the same in the copy.
_KEPT_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)


class Tiled(NamedTuple):
    """What `tile_images` did.

    Args:
        written: the tiled files, in the order of their sources; those that were there already, too.
        failed: (path, reason) of the sources that were left out.

    Example:
        >>> Tiled(["out/a.tif"], []).written
        ['out/a.tif']
    """

    written: list[str]
    failed: list[tuple[str, str]]


def tile_images(
    files: Files,
    out: str | os.PathLike[str],
    *,
    tile: int = 256,
    compression: str = "zstd",
    workers: int | None = None,
    progress: bool = True,
) -> Tiled:
    """Write every image, or mask, as a lossless tiled TIFF of the same stored samples under the same name.

    Orientation, palette, colour profile, ground coordinates and the value for no data come along. A file appears whole
    or not at all, after it was read back and compared, so a stopped run is resumed by the same call: what is there and
    newer than its source is not made again.

    Args:
        files: a folder, with its subfolders, or a list of paths.
        out: a folder, created if missing; subfolders are kept.
        tile: side of a tile in pixels, a multiple of 16.
        compression: "zstd" (fast to read), "deflate" and "lzw" (read by everything), or "none".
        workers: processes; as many as CPUs when None.
        progress: show a bar, if standard error is a terminal.

    Returns:
        The new files, and those that were left out with the reason: damaged ones, several pages, and kinds of samples
        that a tiled TIFF does not hold as they are (CMYK, 12 bits, transparent palettes).

    Raises:
        DataError: two files would get one name.
        ValueError: `tile` or `compression` is none of these.

    Example:
        >>> from segkit.io import write_image
        >>> write_image("wide.png", np.zeros((300, 500, 3), np.uint8))
        >>> done = tile_images(["wide.png"], "tiled", progress=False)
        >>> os.path.basename(done.written[0]), image_info(done.written[0]).tiled
        ('wide.tif', True)
    """
    if tile < 16 or tile % 16:
        raise ValueError(f"tile_images: `tile` must be a multiple of 16, got {tile}. Pass 256 or 512.")
    if compression not in _COMPRESSIONS:
        raise ValueError(f"tile_images: `compression` must be one of {list(_COMPRESSIONS)}, got {compression!r}.")
    targets = _targets(files, os.fspath(out))
    make = functools.partial(_tile, tile=tile, compression=compression, ending=f"{secrets.token_hex(8)}.tmp")
    failed: list[tuple[str, str]] = []
    written: list[str] = []
    try:
        reasons = map_in_chunks(
            make, targets, on_lost=_lost, progress=progress, describe="tile", chunk_size=1, workers=workers
        )
        for (source, target), reason in zip(targets, reasons, strict=True):
            if reason is None:
                written.append(target)
            else:
                failed.append((source, reason))
    finally:
        for _, target in targets:  # of a worker that was killed
            with contextlib.suppress(OSError):
                os.unlink(_unfinished(target, make.keywords["ending"]))
    return Tiled(written, failed)


def _targets(files: Files, out: str) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for file in list_files("tile_images", files, "files"):
        target = os.path.join(out, f"{file.stem}.tif")
        if target in found:
            raise DataError(
                f"tile_images: every file must get a name of its own in `out`, got {target!r} for {found[target]!r} "
                f"and {file.path!r}. Tile them into two folders."
            )
        if os.path.realpath(target) == os.path.realpath(file.path):
            raise DataError(f"tile_images: `out` must be another folder than that of {file.path!r}, got {out!r}.")
        found[target] = file.path
    return [(source, target) for target, source in found.items()]


def _unfinished(target: str, ending: str) -> str:
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{ending}")


def _lost(job: tuple[str, str], reason: str) -> str:
    return f"{job[0]}: {reason}"


def _tile(jobs: list[tuple[str, str]], tile: int, compression: str, ending: str) -> str | None:
    """Why the one job could not be done."""
    ((source, target),) = jobs
    try:
        _tile_one(source, target, _unfinished(target, ending), tile, compression)
    except (SegkitError, OSError, ValueError) as error:
        return str(error)
    return None


def _tile_one(source: str, target: str, temporary: str, tile: int, compression: str) -> None:
    if os.path.exists(target) and os.path.getmtime(target) >= os.path.getmtime(source):
        return
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    try:
        with open_image(source) as handle:
            _write(handle, temporary, tile, compression)
            _compare(handle, temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write(handle: ImageHandle, path: str, tile: int, compression: str) -> None:
    import tifffile

    info = handle.info
    options, read = _description(handle)
    first = read((0, 0, 1, 1))
    bilevel = info.bits_per_sample == 1 and info.photometric in ("minisblack", "miniswhite")
    dtype = np.dtype(bool) if bilevel else first.dtype
    shape: tuple[int, ...] = (info.height, info.width, first.shape[2])
    if shape[2] == 1:
        shape = shape[:2]
    packs = _COMPRESSIONS[compression] is not None
    predictor = packs and dtype in (np.uint8, np.uint16) and info.photometric != "palette"
    with tifffile.TiffWriter(path, bigtiff=np.prod(shape) * dtype.itemsize > 3 << 30) as writer:
        writer.write(
            _tiles(read, shape, tile, dtype),
            shape=shape,
            dtype=dtype,
            tile=(tile, tile),
            compression=_COMPRESSIONS[compression],
            predictor=predictor or None,
            planarconfig="contig" if len(shape) == 3 else None,
            metadata=None,
            maxworkers=1,
            **options,
        )
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _description(handle: ImageHandle) -> tuple[dict[str, Any], Callable[[Any], np.ndarray]]:
    """What to say of the samples in the copy, and a function that reads a window of them.

    Raises:
        ImageReadError: a tiled TIFF would not hold them as they are.
    """
    info, path = handle.info, handle.path
    if info.pages > 1:
        raise ImageReadError(path, f"it has {info.pages} pages", "write them as files of their own")
    options: dict[str, Any] = {"extratags": _kept_tags(handle)}
    if info.orientation != 1:
        options["extratags"].append((274, 3, 1, info.orientation, True))
    if info.icc:
        options["iccprofile"] = info.icc
    whole: list[np.ndarray] = []

    def read(window: Any, samples: Any = "stored") -> np.ndarray:
        if info.format in ("TIFF", "BigTIFF"):  # a band at a time: memory does not grow with the picture
            return handle.read(window=window, samples=samples, orientation="ignore")
        if not whole:
            whole.append(handle.read(samples=samples, orientation="ignore"))
        top, left, height, width = window
        return whole[0][top : top + height, left : left + width]

    kind = info.photometric
    if kind == "palette":
        options["photometric"] = "palette"
        options["colormap"] = _colormap(handle)
    elif kind in ("minisblack", "miniswhite", "mask"):
        options["photometric"] = "miniswhite" if kind == "miniswhite" else "minisblack"
    elif kind in ("rgb", "ycbcr"):
        options["photometric"] = "rgb"
        if kind == "ycbcr":  # as decoded: the copy holds RGB
            return options, lambda window: read(window, "display")
    else:
        raise ImageReadError(path, f"its samples are {kind}", "write them as RGB first")
    if info.dtype.kind == "u" and info.dtype.itemsize > 1 and info.bits_per_sample < 8 * info.dtype.itemsize:
        reason = f"its samples have {info.bits_per_sample} bits, which would be taken for {8 * info.dtype.itemsize}"
        raise ImageReadError(path, reason, "leave the file as it is")
    colors = 3 if kind == "rgb" else 1
    if info.channels > colors:
        options["extrasamples"] = _extra(handle, info.channels - colors)
    return options, read


def _tiles(
    read: Callable[[Any], np.ndarray], shape: tuple[int, ...], tile: int, dtype: np.dtype
) -> Iterator[np.ndarray]:
    height, width = shape[:2]
    for top in range(0, height, tile):
        band = read((top, 0, min(tile, height - top), width))
        for left in range(0, width, tile):
            part = band[:, left : left + tile]
            padded = np.zeros((tile, tile, part.shape[2]), dtype)
            padded[: part.shape[0], : part.shape[1]] = part
            yield padded if len(shape) == 3 else padded[..., 0]


def _colormap(handle: ImageHandle) -> np.ndarray:
    """uint16 [3, 256] of a palette, from what its indices look like."""
    indices = handle.read(samples="stored", orientation="ignore")[..., 0]
    shown = handle.read(samples="display", orientation="ignore")
    if shown.shape[2] != 3 or indices.dtype != np.uint8:
        raise ImageReadError(handle.path, "its palette is transparent or deep", "write it as RGB(A), or as indices")
    if shown.dtype == np.uint8:
        shown = shown.astype(np.uint16) * 257
    table = np.zeros((256, 3), np.uint16)
    present, first = np.unique(indices, return_index=True)
    table[present] = shown.reshape(-1, 3)[first]
    return np.ascontiguousarray(table.T)


def _extra(handle: ImageHandle, count: int) -> list[int]:
    """What the samples beyond the colours mean: as the TIFF says; in other formats the last is alpha."""
    if handle.info.format in ("TIFF", "BigTIFF"):
        import tifffile

        with tifffile.TiffFile(handle.path) as file:
            tag = file.pages[0].tags.get(338)
            told = [] if tag is None else [int(v) for v in np.atleast_1d(tag.value)]
        return (told + [0] * count)[:count]
    return [0] * (count - 1) + [2]


def _kept_tags(handle: ImageHandle) -> list[tuple[int, int, int, Any, bool]]:
    if handle.info.format not in ("TIFF", "BigTIFF"):
        return []
    import tifffile

    with tifffile.TiffFile(handle.path) as file:
        tags = file.pages[0].tags
        found = [tags[code] for code in _KEPT_TAGS if code in tags]
        # A text has its end in its count, which the writer adds by itself.
        return [
            (tag.code, int(tag.dtype), 0 if isinstance(tag.value, str) else tag.count, tag.value, True) for tag in found
        ]


def _compare(handle: ImageHandle, copy: str) -> None:
    """Read the copy back, a band at a time where the source can: it has to show what its source shows."""
    info = handle.info
    bands = info.height if info.format not in ("TIFF", "BigTIFF") else 1024
    for samples in ("stored", "display"):
        if samples == "stored" and info.photometric == "ycbcr":
            continue
        for top in range(0, info.height, bands):
            window = (top, 0, min(bands, info.height - top), info.width)
            ours = handle.read(window=window, samples=samples, orientation="ignore")
            theirs = read_image(copy, window=window, samples=samples, orientation="ignore")
            if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
                raise ImageWriteError(copy, "the copy does not hold what its source does", "leave the file as it is")
    if _facts(image_info(copy)) != _facts(info):
        raise ImageWriteError(copy, "the copy does not say what its source says", "leave the file as it is")


def _facts(info: ImageInfo) -> tuple[Any, ...]:
    return info.height, info.width, info.channels, str(info.dtype), info.orientation
