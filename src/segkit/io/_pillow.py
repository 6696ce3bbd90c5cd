"""The Pillow backend: everything of 8 bits that Pillow keeps as it is stored."""

from __future__ import annotations

import io

import numpy as np

from segkit.io._header_jpeg import minimal_jpeg
from segkit.io._header_png import minimal_png, verify_data
from segkit.io._info import Header
from segkit.io._protocol import Request, crop
from segkit.io._tiff_blocks import block_numbers, minimal_tiff, read_blocks

__all__ = ["Pillow"]


class Pillow:
    """PNG with palettes and fewer than 8 bits, 8-bit JPEG, and plain 8-bit and 16-bit grey TIFFs."""

    name = "pillow"

    def refuses(self, header: Header) -> str:
        """Why the stored samples would not come out exactly; an empty text if they do."""
        info = header.info
        if info.format in ("PNG", "APNG"):
            if info.bits_per_sample == 16 and info.channels > 1:
                return "Pillow cuts 16-bit colour to 8 bits"
            return ""
        if info.format == "JPEG":
            if info.bits_per_sample != 8 or info.compression != "jpeg":
                return "Pillow decodes 8-bit lossy JPEGs only"
            return "" if info.channels in (1, 3) else "Pillow inverts some CMYK JPEGs"
        if info.format in ("TIFF", "BigTIFF"):
            return _refuses_page(header)
        return f"Pillow is not proven to keep the samples of {info.format}"

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        from PIL import ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

        info = header.info
        # The plugins are called directly: Image.open would look at Pillow's own, global limit on pixels, while
        # max_pixels was checked already.
        if info.format == "JPEG":
            data = minimal_jpeg(header)
            plugin: type[ImageFile.ImageFile] = JpegImagePlugin.JpegImageFile
        elif info.format in ("PNG", "APNG"):
            verify_data(header)
            data, plugin = minimal_png(header), PngImagePlugin.PngImageFile
        else:
            page = header.detail
            blocks = read_blocks(page, block_numbers(page, (0, 0, info.height, info.width), range(page.planes)))
            photometric = 1 if info.channels == 1 else None
            data = minimal_tiff(page, blocks, photometric=photometric, extra=[2] * len(page.extra))
            plugin = TiffImagePlugin.TiffImageFile
        with plugin(io.BytesIO(data)) as image:
            whole: np.ndarray = np.asarray(image)
        if whole.dtype == bool:
            whole = (whole.view(np.uint8) != 0).astype(np.uint8)  # Pillow's bool holds 255
        if whole.dtype == np.int32 and info.dtype == np.uint16:
            whole = whole.astype(np.uint16)
        return crop(whole.reshape(info.height, info.width, -1), request)


def _refuses_page(header: Header) -> str:
    info, page = header.info, header.detail
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
