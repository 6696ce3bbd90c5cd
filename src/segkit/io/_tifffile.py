"""The tifffile backend: TIFF of every kind through tifffile's block decoder, and other formats through imagecodecs."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._header_container import minimal_webp
from segkit.io._header_jpeg import minimal_jpeg
from segkit.io._header_png import minimal_png, verify_data
from segkit.io._header_tiff import COMPRESSIONS, TiffPage
from segkit.io._info import Header
from segkit.io._protocol import Request, crop
from segkit.io._tiff_blocks import block_numbers, block_page, block_ranges, minimal_tiff

__all__ = ["Tifffile"]

READS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 33003, 33005, 34712, 34887, 34925, 50000, 50001, 50002}
CCITT = {2, 3, 4}
LZW = 5
DEFLATE = {8, 32946}


class Tifffile:
    """TIFF and BigTIFF with every depth, plane order, tiling and predictor; only the blocks touched are decoded."""

    name = "tifffile"

    def refuses(self, header: Header) -> str:
        """Why the stored samples would not come out exactly; an empty text if they do."""
        if header.info.format in ("TIFF", "BigTIFF"):
            return _refuses_page(header.detail)
        if header.info.format in ("PNG", "APNG"):
            lost = header.detail.interlaced and header.info.channels == 2
            return "imagecodecs does not decode an interlaced PNG of grey and alpha" if lost else ""
        if header.info.format == "JPEG":
            if header.info.channels == 4:
                return "imagecodecs and others disagree about four-channel JPEGs"
            return ""
        if header.info.format in ("WebP", "JP2", "J2K"):
            return ""
        return f"neither tifffile nor imagecodecs is proven to keep the samples of {header.info.format}"

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        if header.info.format in ("TIFF", "BigTIFF"):
            return _read_page(header, request)
        import imagecodecs

        if header.info.format == "JPEG":
            whole = imagecodecs.jpeg_decode(minimal_jpeg(header))
        elif header.info.format == "WebP":
            whole = imagecodecs.webp_decode(minimal_webp(header), hasalpha=header.info.channels == 4)
        elif header.info.format in ("JP2", "J2K"):
            whole = imagecodecs.jpeg2k_decode(header.source.read_all())
        else:
            verify_data(header)
            as_grey = header.info.photometric == "palette"
            # libpng warns about interlaced files on stderr; libspng does not.
            decode = imagecodecs.spng_decode if header.detail.interlaced else imagecodecs.png_decode
            whole = decode(minimal_png(header, as_grey=as_grey))
            if as_grey and header.info.bits_per_sample < 8:
                whole = whole // (255 // ((1 << header.info.bits_per_sample) - 1))
            elif header.info.bits_per_sample == 1:
                whole = whole // 255
        return crop(whole.reshape(header.info.height, header.info.width, header.info.channels), request)


def _refuses_page(page: TiffPage) -> str:
    name = COMPRESSIONS.get(page.compression, f"number {page.compression}")
    if page.compression not in READS:
        return f"tifffile does not decode the compression {name}"
    if page.photometric == 6 and page.subsampling != (1, 1) and (page.compression != 7 or page.planar):
        return "its chroma is subsampled without JPEG, which tifffile does not decode"
    if page.compression in CCITT and (page.bits != 1 or page.samples != 1):
        return f"{name} is for 1-bit images, this one has {page.samples} x {page.bits} bits"
    if page.predictor not in (1, 2, 3):
        return f"its predictor {page.predictor} is unknown"
    if page.predictor == 3 and page.sample_format != 3:
        return "a floating-point predictor on integers makes no sense"
    if page.fill_order == 2 and page.compression in (7, 33003, 33005, 34712, 50001, 50002):
        return "a reversed bit order makes no sense for this compression"
    return ""


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


def _decode_plain(page: TiffPage, row: int, plain: bytes) -> np.ndarray:
    """Samples from the bytes of a block that is decompressed already."""
    facts = replace(block_page(page, page.block_rows(row)), compression=1, fill_order=1)
    data, _, _ = _decoder(minimal_tiff(facts, [bytes(16)]))(plain, 0)
    return data


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


def _decode_block(
    page: TiffPage, row: int, stored: bytes, decode: Callable[..., Any], options: dict[str, Any]
) -> np.ndarray:
    """The samples [1, rows, columns, channels] of one block."""
    if page.compression == LZW:
        return _decode_plain(page, row, _unlzw(page, row, stored))
    try:
        data, _, _ = decode(stored, 0, **options)
    except Exception:
        if page.compression not in DEFLATE:
            raise
        data = _decode_plain(page, row, _inflate(page, row, stored))
    return data


def _read_page(header: Header, request: Request) -> np.ndarray:
    page: TiffPage = header.detail
    top, left, height, width = request.window
    planes = request.channels if page.planar else (0,)
    numbers = block_numbers(page, request.window, planes)
    ranges = block_ranges(page, numbers)
    source = header.source
    # tifffile looks at the start of a JPEG for its colour space; other data do not matter for the decoder.
    first = bytes(16)
    if page.compression == 7:
        first = next((source.pread(offset, min(size, 16)) for offset, size in ranges if size), b"")
    options = {"jpegtables": page.ifd.raw(347)} if page.compression == 7 and 347 in page.ifd.tags else {}
    whole_pixel = not page.planar and request.channels != tuple(range(page.samples))
    channels = page.samples if not page.planar else len(planes)
    out = np.empty((height, width, channels), header.info.dtype)
    rows, columns = page.grid
    for number, (offset, size) in zip(numbers, ranges, strict=True):
        plane, row, column = number // (rows * columns), number // columns % rows, number % columns
        y, x = row * page.tile[0], column * page.tile[1]
        target = out[
            max(y - top, 0) : max(y + page.tile[0] - top, 0),
            max(x - left, 0) : max(x + page.tile[1] - left, 0),
            slice(None) if not page.planar else slice(planes.index(plane), planes.index(plane) + 1),
        ]
        if not size:
            target[...] = 0
            continue
        decode = _decoder(minimal_tiff(block_page(page, page.block_rows(row)), [first]))
        stored = source.pread(offset, size)
        data = _decode_block(page, row, stored, decode, options)
        if page.compression in CCITT:
            _agree(header, page, row, number, stored, data)
        block = data[0, max(top - y, 0) :, max(left - x, 0) :][: target.shape[0], : target.shape[1]]
        if block.shape != target.shape:
            reason = f"its block {number} decodes to {block.shape[0]} x {block.shape[1]} pixels, too few"
            raise ImageReadError(header.path, reason, "the file is damaged: copy or export it again")
        target[...] = block
    return out[..., list(request.channels)] if whole_pixel else out


def encode_png(pixels: np.ndarray) -> bytes:
    """[H, W, 1..4] of uint8 or uint16 as a PNG."""
    import imagecodecs

    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(native[..., 0] if native.shape[2] == 1 else native)))


def encode_tiff(pixels: np.ndarray, palette: np.ndarray | None) -> bytes:
    """[H, W, C] of any dtype as a TIFF, compressed with deflate. Four channels of uint8 or uint16 are RGBA."""
    import tifffile

    channels, integer = pixels.shape[2], pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2
    options: dict[str, Any] = {"photometric": "minisblack"}
    if palette is not None:
        options = {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    elif channels in (3, 4) and integer:
        options = {"photometric": "rgb", "extrasamples": ["unassalpha"] * (channels - 3)}
    elif channels == 2 and integer:
        options["extrasamples"] = ["unassalpha"]
    if channels > 1:
        options["planarconfig"] = "contig"
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        pixels[..., 0] if channels == 1 else pixels,
        compression="zlib",
        predictor=pixels.dtype.itemsize <= 8 and pixels.dtype.kind in "ui",
        metadata=None,
        bigtiff=pixels.nbytes > 1 << 31,
        **options,
    )
    return out.getvalue()
