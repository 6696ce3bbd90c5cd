"""The Pillow backend: what Pillow keeps as it is stored, which is mostly what has 8 bits or fewer."""

from __future__ import annotations

import io
from functools import partial

import numpy as np

from segkit.io._backends.jpeg_end import refuse_early_end
from segkit.io._backends.pillow_plugins import decode
from segkit.io._backends.png_rows import inflate_rows, rows_of
from segkit.io._backends.request import Request, crop
from segkit.io._backends.tiff_blocks import block_numbers, minimal_tiff, read_blocks
from segkit.io._headers.bmp import PLAIN, masked_samples
from segkit.io._headers.gif_webp import minimal_webp
from segkit.io._headers.info import Header
from segkit.io._headers.jp2 import minimal_jp2
from segkit.io._headers.jpeg import has_several_scans, minimal_jpeg
from segkit.io._headers.png import minimal_png
from segkit.io._headers.pnm import raw_samples

OLD_JPEG = 6
RAW = ("P2", "P3", "P7", "PF")  # kinds of PNM and PFM


class Pillow:
    """PNG with palettes and fewer than 8 bits, 8-bit JPEG, BMP, GIF, WebP, PNM, and plain TIFFs."""

    name = "pillow"

    def refuses(self, header: Header) -> str:
        """Why the stored samples would not come out exactly; an empty text if they do."""
        info = header.info
        if info.format in ("PNG", "APNG"):
            return "Pillow cuts 16-bit colour to 8 bits" if info.bits_per_sample == 16 and info.channels > 1 else ""
        if info.format == "JPEG":
            if info.bits_per_sample != 8 or info.compression != "jpeg":
                return "Pillow decodes 8-bit lossy JPEGs only"
            return "" if info.channels in (1, 3) else "Pillow inverts some CMYK JPEGs"
        if info.format in ("TIFF", "BigTIFF"):
            return _refuses_page(header)
        if info.format in ("PNM", "PFM") and header.detail.kind in RAW:
            return ""
        if info.format == "PNM":
            if header.detail.top not in (255, 65535) and info.photometric != "miniswhite":
                return f"Pillow spreads samples up to {header.detail.top:g} over the whole range"
            return "Pillow cuts 16-bit colour to 8 bits" if info.channels == 3 and info.bits_per_sample == 16 else ""
        if info.format in ("JP2", "J2K"):
            plain = info.dtype == np.uint8 and info.bits_per_sample == 8 and info.channels <= 4
            return "" if plain else "Pillow shifts or cuts JPEG 2000 samples of other than 8 bits, and extra channels"
        if info.format in ("BMP", "GIF", "WebP", "PFM"):
            return ""
        return f"Pillow is not proven to keep the samples of {info.format}"

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        info, height = header.info, header.info.height
        if info.format in ("PNM", "PFM") and header.detail.kind in RAW:
            return crop(raw_samples(header), request)  # Pillow takes grey ones and spreads the others
        if info.format == "BMP" and header.detail.masks != PLAIN.get(header.detail.depth, ()):
            return crop(masked_samples(header), request)  # Pillow knows a few masks only
        if info.format in ("PNG", "APNG"):
            height = rows_of(header, request)
            data = minimal_png(header, rows=inflate_rows(header, height), height=height)
        else:
            data = _minimal(header)
        whole = decode(info.format, data)
        if info.format == "JPEG":
            several = has_several_scans(header)
            refuse_early_end(header.path, data, whole, partial(decode, "JPEG"), several=several)
        if whole.dtype == bool:
            whole = (whole.view(np.uint8) != 0).astype(np.uint8)  # Pillow's bool holds 255
            if info.format == "PNM":
                whole = 1 - whole  # in a PBM, 1 is black
        if whole.dtype == np.int32 and info.dtype == np.uint16:
            whole = whole.astype(np.uint16)
        return crop(whole.reshape(height, info.width, -1), request)


def _minimal(header: Header) -> bytes:
    """The file that Pillow gets to see."""
    info = header.info
    if info.format == "JPEG":
        return minimal_jpeg(header)
    if info.format == "WebP" and info.pages == 1:
        return minimal_webp(header)
    if info.format in ("JP2", "J2K"):
        return minimal_jp2(header)
    if info.format not in ("TIFF", "BigTIFF") or header.detail.compression == OLD_JPEG:
        return header.source.read_all()
    page = header.detail
    blocks = read_blocks(page, block_numbers(page, (0, 0, info.height, info.width), range(page.planes)))
    # Called minisblack, Pillow inverts nothing; called straight, it leaves the colours beside alpha alone.
    return minimal_tiff(page, blocks, photometric=1 if info.channels == 1 else None, extra=[2] * len(page.extra))


def _refuses_page(header: Header) -> str:
    info, page = header.info, header.detail
    if page.compression == OLD_JPEG:
        if page.ifd.offset != page.ifd.file.first or info.orientation != 1 or page.planar:
            return "Pillow reads the old kind of JPEG from the first, upright page only"
        if info.photometric != "ycbcr" or page.bits != 8 or page.samples != 3:
            return "Pillow reads the old kind of JPEG in colour only"
        return ""
    if page.compression not in (1, 5, 8, 32946) or page.fill_order != 1 or page.predictor not in (1, 2):
        return f"Pillow is proven for uncompressed, LZW and deflate TIFFs, this one is {info.compression}"
    if page.planar:
        return "Pillow is not proven for planar TIFFs"
    if page.sample_format != 1:
        return "Pillow takes signed and float samples for something else"
    if page.samples == 1 and page.bits in (8, 16):
        return ""
    if page.bits == 8 and info.photometric == "rgb" and (page.samples == 3 or (page.samples == 4 and page.extra)):
        return ""
    return f"Pillow changes or refuses {info.photometric} TIFFs with {page.samples} x {page.bits} bits"


def encode_palette_png(pixels: np.ndarray, palette: np.ndarray) -> bytes:
    """uint8 indices [H, W, 1] and a palette [256, 3] as a palette PNG."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", bits=8)
    return out.getvalue()
