"""The Pillow backend: what Pillow keeps as it is stored, which is mostly what has 8 bits or fewer."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from segkit.io._backends.jpeg_end import refuse_early_end
from segkit.io._backends.png_rows import inflate_rows, unfiltered
from segkit.io._backends.request import Request, crop
from segkit.io._backends.tiff_blocks import block_numbers, minimal_tiff, read_blocks
from segkit.io._headers.gif_webp_jp2 import minimal_webp
from segkit.io._headers.info import Header
from segkit.io._headers.jpeg import minimal_jpeg
from segkit.io._headers.png import minimal_png, verify_data

if TYPE_CHECKING:
    from PIL import ImageFile

__all__ = ["Pillow", "decode_jpeg", "encode_palette_png"]

OLD_JPEG = 6
HEADER = 64  # bytes, more than the text of a PNM is long


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
        if info.format == "PNM":
            if header.detail.top not in (255, 65535) and info.photometric != "miniswhite":
                return f"Pillow spreads samples up to {header.detail.top:g} over the whole range"
            return "Pillow cuts 16-bit colour to 8 bits" if info.channels == 3 and info.bits_per_sample == 16 else ""
        if info.format in ("JP2", "J2K"):
            return "" if info.bits_per_sample == 8 else "Pillow shifts or cuts JPEG 2000 samples of other than 8 bits"
        if info.format in ("BMP", "GIF", "WebP", "PFM"):
            return ""
        return f"Pillow is not proven to keep the samples of {info.format}"

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        info = header.info
        if info.format in ("PNG", "APNG"):
            verify_data(header)
            rows = inflate_rows(header)
            samples = unfiltered(header, rows)
            if samples is not None:
                return crop(samples, request)
            data = minimal_png(header, rows=rows)
        else:
            data = _minimal(header)
        with _plugin(info.format)(io.BytesIO(data)) as image:
            whole = _pixels(image)
        if info.format == "JPEG":
            refuse_early_end(header, data, whole)
        if whole.dtype == bool:
            whole = (whole.view(np.uint8) != 0).astype(np.uint8)  # Pillow's bool holds 255
            if info.format == "PNM":
                whole = 1 - whole  # in a PBM, 1 is black
        if whole.dtype == np.int32 and info.dtype == np.uint16:
            whole = whole.astype(np.uint16)
        return crop(whole.reshape(info.height, info.width, -1), request)


def decode_jpeg(data: bytes) -> np.ndarray:
    """The samples of a JPEG, whatever its colours mean."""
    with _plugin("JPEG")(io.BytesIO(data)) as image:
        return _pixels(image)


class _Samples:
    """A file in memory that is there from the start: a growing buffer would be copied as it grows."""

    def __init__(self, count: int) -> None:
        self.array = np.empty(count + HEADER, np.uint8)
        self.end = 0

    def write(self, part: bytes) -> None:
        self.array.data[self.end : self.end + len(part)] = part
        self.end += len(part)


def _pixels(image: ImageFile.ImageFile) -> np.ndarray:
    """`np.asarray(image)`, in memory that can be written to where the mode is plain.

    Pillow's array joins its chunks into `bytes`, which would have to be copied once more. A PNM is a line of text and
    then the samples, written chunk by chunk. (`Image.save` would first ask the system where it is.)
    """
    from PIL import Image, PpmImagePlugin  # noqa: F401 - the second registers PPM

    if image.mode not in ("L", "RGB"):
        return np.asarray(image)
    shape = (image.height, image.width, len(image.mode))
    out = _Samples(math.prod(shape))
    Image.SAVE["PPM"](image, out, "")  # type: ignore[arg-type]
    return out.array[out.end - math.prod(shape) : out.end].reshape(shape)


def _plugin(form: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Pillow's class for a format. Image.open would look at Pillow's own, global limit on pixels as well."""
    from PIL import (
        BmpImagePlugin,
        GifImagePlugin,
        Jpeg2KImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    return {
        "PNG": PngImagePlugin.PngImageFile,
        "APNG": PngImagePlugin.PngImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "BigTIFF": TiffImagePlugin.TiffImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "PNM": PpmImagePlugin.PpmImageFile,
        "PFM": PpmImagePlugin.PpmImageFile,
        "JP2": Jpeg2KImagePlugin.Jpeg2KImageFile,
        "J2K": Jpeg2KImagePlugin.Jpeg2KImageFile,
    }[form]


def _minimal(header: Header) -> bytes:
    """The file that Pillow gets to see."""
    info = header.info
    if info.format == "JPEG":
        return minimal_jpeg(header)
    if info.format == "WebP" and info.pages == 1:
        return minimal_webp(header)
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
