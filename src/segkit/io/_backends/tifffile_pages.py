"""TIFF pages block by block: which are touched, how each is decoded, and where its samples go."""

from __future__ import annotations

import functools
import io
import multiprocessing
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.jpeg_end import refuse_early_end
from segkit.io._backends.request import Request
from segkit.io._backends.tiff_blocks import block_numbers, block_page, block_ranges, minimal_tiff
from segkit.io._backends.tiff_chroma import refuses_chroma, spread_chroma
from segkit.io._backends.tiff_frames import check_frame
from segkit.io._headers.info import Header
from segkit.io._headers.tiff import COMPRESSIONS, TiffPage, block_tags

READS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 33003, 33005, 34712, 34887, 34925, 50000, 50001, 50002}
CCITT = {2, 3, 4}
LZW = 5
OLD_JPEG = 6
JPEG = 7
END = b"\xff\xd9"  # of a JPEG
DEFLATE = {8, 32946}
# Fewer bytes than this are decoded before a pool of threads has started.
WORTH_THREADS = 1 << 22


def refuses_page(page: TiffPage) -> str:
    """Why tifffile and imagecodecs would not give the samples of a page; an empty text if they do."""
    name = COMPRESSIONS.get(page.compression, f"number {page.compression}")
    if page.compression == OLD_JPEG:
        return "" if _whole_jpegs(page) else "its old kind of JPEG is not in whole grey streams"
    if page.compression not in READS:
        return f"tifffile does not decode the compression {name}"
    if page.photometric == 6 and page.subsampling != (1, 1) and (page.subsampled or page.planar):
        reason = refuses_chroma(page)
        if reason:
            return reason
    if page.compression in CCITT and not _decodes_fax():
        return f"{name} needs imagecodecs 2026.3.6 or newer"
    if page.bits == 24 and page.sample_format != 3 and page.predictor != 1:
        return "24-bit samples with a predictor are not proven"
    if page.compression in CCITT and (page.bits != 1 or page.samples != 1):
        return f"{name} is for 1-bit images, this one has {page.samples} x {page.bits} bits"
    if page.predictor not in (1, 2, 3):
        return f"its predictor {page.predictor} is unknown"
    if page.predictor == 3 and page.sample_format != 3:
        return "a floating-point predictor on integers makes no sense"
    if page.fill_order == 2 and page.compression in (7, 33003, 33005, 34712, 50001, 50002):
        return "a reversed bit order makes no sense for this compression"
    return ""


def _whole_jpegs(page: TiffPage) -> bool:
    """Whether each block is a JPEG file of its own, as some writers of the old kind made them, and grey.

    Colour ones do not say whether they are YCbCr.
    """
    if page.samples != 1 or page.bits != 8 or block_tags(page)[0] not in page.ifd.tags or page.fill_order != 1:
        return False
    try:
        ranges = block_ranges(page, range(page.grid[0] * page.grid[1]))
    except ImageReadError:
        return False
    source = page.ifd.file.source
    return all(size > 4 and source.pread(offset, 3) == b"\xff\xd8\xff" for offset, size in ranges)


def _decodes_fax() -> bool:
    import imagecodecs

    return bool(getattr(getattr(imagecodecs, "CCITTFAX4", None), "available", False))


def _agree(header: Header, page: TiffPage, row: int, number: int, stored: bytes, data: np.ndarray) -> None:
    """Fax decoders guess on over damaged codes, in silence, and each guesses differently: so two must agree."""
    import imagecodecs

    try:
        other = imagecodecs.tiff_decode(minimal_tiff(block_page(page, page.block_rows(row)), [stored]))
    except Exception:
        other = None
    if other is None or other.shape != data.shape[1:3] or not np.array_equal(other, data[0, :, :, 0]):
        reason = f"two decoders disagree about the fax codes of its block {number}"
        raise ImageReadError(header.path, reason, "the file is damaged: copy or scan it again")


def _facts(page: TiffPage, rows: int) -> TiffPage:
    """What tifffile is told about a block. 24-bit samples are decoded as three of 8 bits, then joined.

    Older versions of imagecodecs unpack 24 bits wrongly, in silence.
    """
    facts = block_page(page, rows)
    if page.bits == 24 and page.sample_format != 3:
        facts = replace(facts, bits=8, samples=3 * facts.samples, photometric=1, extra=())
    return facts


def _joined(page: TiffPage, data: np.ndarray) -> np.ndarray:
    """The samples of a block, those of 24 bits put together from their bytes."""
    if page.bits != 24 or page.sample_format == 3:
        return data
    parts = data.reshape(*data.shape[:2], -1, 3).astype(np.uint32)
    # A stream of bits, the highest first, whatever the byte order of the file: so GDAL and tifffile have it, too.
    return parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]


def _decode_plain(page: TiffPage, row: int, plain: bytes) -> np.ndarray:
    """Samples from the bytes of a block that is decompressed already."""
    facts = replace(_facts(page, page.block_rows(row)), compression=1, fill_order=1)
    data, _, _ = _decoder(minimal_tiff(facts, [bytes(16)]))(plain, 0)
    return data[0]


def _unlzw(page: TiffPage, row: int, stored: bytes) -> bytes:
    """LZW through libtiff, which is faster than the decoder of imagecodecs and survives damaged codes.

    The one of imagecodecs (2026.3.6) looks up an unset table entry when a code after a clear code is no literal: it
    crashes, or gives wrong bytes in silence.
    """
    import imagecodecs

    rows = page.block_rows(row)
    need = page.row_bytes(page.tile[1]) * rows
    one_row = replace(
        block_page(page, 1), width=need, tile=(1, need), samples=1, bits=8, sample_format=1, predictor=1, photometric=1,
        extra=(), tiled=False,
    )  # fmt: skip
    return imagecodecs.tiff_decode(minimal_tiff(one_row, [stored])).tobytes()


def _inflate(page: TiffPage, row: int, stored: bytes) -> bytes:
    """A deflate block that holds more rows than it should: libdeflate refuses it, zlib stops where we say."""
    need = page.row_bytes(page.tile[1]) * page.block_rows(row)
    plain = zlib.decompressobj().decompress(stored, need)
    if len(plain) < need:
        raise ValueError(f"deflate data give {len(plain)} of {need} bytes")
    return plain


@functools.lru_cache(maxsize=64)
def _decoder(minimal: bytes) -> Callable[..., Any]:
    """The function of tifffile that decodes one block, made from a minimal file of this block's facts.

    It depends on nothing else, so equal blocks of many files share it.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(minimal)) as file:
        return file.pages[0].decode


class _Blocks:
    """How the blocks of one page are decoded; the decoders are kept for the time of one read."""

    def __init__(self, header: Header, first: bytes) -> None:
        self.header = header
        self.page: TiffPage = header.detail
        self.first = first
        tables = self.page.compression == JPEG and 347 in self.page.ifd.tags
        self.options = {"jpegtables": self.page.ifd.raw(347)} if tables else {}
        self.decoders: dict[int, Callable[..., Any]] = {}

    def decode(self, number: int, offset: int, size: int) -> np.ndarray:
        """The samples [rows, columns, channels] of one block."""
        page = self.page
        if page.subsampled:
            blocks = _Blocks(replace(self.header, detail=page.as_stored()), self.first)
            return spread_chroma(page, blocks.decode(number, offset, size), number)
        stored = self.header.source.pread(offset, size)
        row = number // page.grid[1] % page.grid[0]
        several = check_frame(self.header.path, page, number, stored)
        if page.compression == LZW:
            return _joined(page, _decode_plain(page, row, _unlzw(page, row, stored)))
        rows = page.block_rows(row)
        if rows not in self.decoders:
            self.decoders[rows] = _decoder(minimal_tiff(_facts(page, rows), [self.first]))
        try:
            data, _, _ = self.decoders[rows](stored, 0, **self.options)
        except Exception:
            if page.compression not in DEFLATE:
                raise
            return _joined(page, _decode_plain(page, row, _inflate(page, row, stored)))
        if page.compression == JPEG:

            def again(changed: bytes) -> np.ndarray:
                return self.decoders[rows](changed, 0, **self.options)[0][0]

            end = stored.rindex(END) + len(END)  # what follows is padding
            what = f"its block {number}:"
            refuse_early_end(self.header.path, stored[:end], data[0], again, several=several, what=what)
        if page.compression in CCITT:
            _agree(self.header, page, row, number, stored, data)
        return _joined(page, data[0])


def read_page(header: Header, request: Request) -> np.ndarray:
    """The stored samples of `request`; only the blocks that it touches are read and decoded."""
    page: TiffPage = header.detail
    if page.compression == OLD_JPEG:  # whole streams: the new kind
        page = replace(page, compression=JPEG)
        header = replace(header, detail=page)
    planes = sorted(set(request.channels)) if page.planar else [0]
    numbers = block_numbers(page, request.window, planes)
    ranges = block_ranges(page, numbers)
    channels = len(planes) if page.planar else page.samples
    out = _read_raw(header, request.window, ranges, planes, channels)
    if out is None:
        out = np.empty((*request.window[2:], channels), header.info.dtype)
        _fill(out, header, request.window, numbers, ranges, planes)
    wanted = [planes.index(channel) for channel in request.channels] if page.planar else list(request.channels)
    return out if wanted == list(range(channels)) else out[..., wanted]


def _fill(
    out: np.ndarray,
    header: Header,
    window: tuple[int, int, int, int],
    numbers: Sequence[int],
    ranges: Sequence[tuple[int, int]],
    planes: Sequence[int],
) -> None:
    page: TiffPage = header.detail
    top, left = window[:2]
    rows, columns = page.grid
    # tifffile looks at the start of a JPEG for its colour space; other data do not matter for the decoder.
    first = bytes(16)
    if page.compression == JPEG:
        first = next((header.source.pread(offset, min(size, 16)) for offset, size in ranges if size), first)
    blocks = _Blocks(header, first)

    def place(number: int, offset: int, size: int) -> None:
        y, x = number // columns % rows * page.tile[0], number % columns * page.tile[1]
        plane = planes.index(number // (rows * columns)) if page.planar else 0
        target = out[
            max(y - top, 0) : max(y + page.tile[0] - top, 0),
            max(x - left, 0) : max(x + page.tile[1] - left, 0),
            plane : plane + 1 if page.planar else None,
        ]
        if not size:
            target[...] = page.nodata or 0
            return
        data = blocks.decode(number, offset, size)
        block = data[max(top - y, 0) :, max(left - x, 0) :][: target.shape[0], : target.shape[1]]
        if block.shape != target.shape:
            reason = f"its block {number} decodes to {block.shape[0]} x {block.shape[1]} pixels, too few"
            raise ImageReadError(header.path, reason, "the file is damaged: copy or export it again")
        target[...] = block

    work = [(number, offset, size) for number, (offset, size) in zip(numbers, ranges, strict=True)]
    workers = _workers(len(work), out.nbytes)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(lambda item: place(*item), work):
                pass
    else:
        for item in work:
            place(*item)


def _workers(blocks: int, size: int) -> int:
    """Threads as tifffile takes them: half the cores. None in a child process, where other workers have the cores."""
    if blocks < 4 or size < WORTH_THREADS or multiprocessing.parent_process() is not None:
        return 1
    return min(blocks, max(1, multiprocessing.cpu_count() // 2))


def _read_raw(
    header: Header,
    window: tuple[int, int, int, int],
    ranges: Sequence[tuple[int, int]],
    planes: Sequence[int],
    channels: int,
) -> np.ndarray | None:
    """Strips without compression that lie one after another are read in one go; None if they are not like that."""
    page: TiffPage = header.detail
    if page.compression != 1 or page.tiled or page.predictor != 1 or page.fill_order != 1:
        return None
    dtype = header.info.dtype
    if page.bits != dtype.itemsize * 8 or page.subsampled:
        return None
    top, left, height, width = window
    strips = len(ranges) // len(planes)
    each = 1 if page.planar else channels
    row_bytes = page.row_bytes(page.width)
    stored = np.dtype(page.ifd.file.order + dtype.str[1:])
    out = np.empty((len(planes), height, width, each), stored)
    for i in range(len(planes)):
        part = ranges[i * strips : (i + 1) * strips]
        first, size = part[0]  # all strips but the last hold as much
        if not size or [offset for offset, _ in part] != list(range(first, first + size * strips, size)):
            return None
        start = part[0][0] + (top % page.tile[0]) * row_bytes
        if width == page.width:
            header.source.pread_into(start, out[i])
        else:
            data = header.source.pread(start, height * row_bytes)
            out[i] = np.frombuffer(data, out.dtype).reshape(height, page.width, each)[:, left : left + width]
    native = out.astype(dtype, copy=False)
    return native[0] if not page.planar else np.ascontiguousarray(native[..., 0].transpose(1, 2, 0))
