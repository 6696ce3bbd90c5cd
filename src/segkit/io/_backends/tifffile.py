"""The tifffile backend: TIFF of every kind through tifffile's block decoder, and other formats through imagecodecs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from segkit.io._backends.jpeg_end import refuse_early_end
from segkit.io._backends.request import Request, crop
from segkit.io._backends.tifffile_pages import read_page, refuses_page
from segkit.io._backends.tifffile_png import read_interlaced, read_rows
from segkit.io._headers.gif_webp import minimal_webp
from segkit.io._headers.info import Header
from segkit.io._headers.jp2 import minimal_jp2
from segkit.io._headers.jpeg import has_several_scans, minimal_jpeg, rows_of

# Formats that only imagecodecs decodes, and what it calls them. Not every build of it brings each.
CODECS = {"AVIF": "avif", "HEIC": "heif", "JPEG XL": "jpegxl"}


class Tifffile:
    """TIFF and BigTIFF with every depth, plane order, tiling and predictor; only the blocks touched are decoded."""

    name = "tifffile"

    def refuses(self, header: Header) -> str:
        """Why the stored samples would not come out exactly; an empty text if they do."""
        if header.info.format in ("TIFF", "BigTIFF"):
            return refuses_page(header.detail)
        if header.info.format in ("PNG", "APNG"):
            lost = header.info.channels == 2 or (header.info.channels == 1 and header.info.bits_per_sample == 16)
            lost = lost and header.detail.interlaced
            return "libspng does not decode an interlaced PNG of 16-bit grey, or of grey and alpha" if lost else ""
        if header.info.format in ("JPEG", "JP2", "J2K"):
            return ""
        if header.info.format == "WebP":
            return "imagecodecs is not proven for animations" if header.info.pages > 1 else ""
        if header.info.format in CODECS:
            import imagecodecs

            name = CODECS[header.info.format]
            if header.info.format == "HEIC" and header.info.orientation != 1:
                return "a HEIC that is turned by its boxes is turned by its decoder, too"
            brought = getattr(getattr(imagecodecs, name.upper(), None), "available", False)
            return "" if brought else f"the imagecodecs installed here has no decoder for {header.info.format}"
        return f"neither tifffile nor imagecodecs is proven to keep the samples of {header.info.format}"

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        if header.info.format in ("TIFF", "BigTIFF"):
            return read_page(header, request)
        import imagecodecs

        height = header.info.height
        if header.info.format == "JPEG":
            height = rows_of(header, request.window[0] + request.window[2])
            data = minimal_jpeg(header, height)
            whole = imagecodecs.jpeg_decode(data)
            block = 8 if header.info.compression == "jpeg" else 1
            several = has_several_scans(header)
            refuse_early_end(header.path, data, whole, imagecodecs.jpeg_decode, several=several, block=block)
        elif header.info.format == "WebP":
            whole = imagecodecs.webp_decode(minimal_webp(header), hasalpha=header.info.channels == 4)
        elif header.info.format in CODECS:
            options = {"keeporientation": True} if header.info.format == "JPEG XL" else {}
            whole = getattr(imagecodecs, f"{CODECS[header.info.format]}_decode")(header.source.read_all(), **options)
        elif header.info.format in ("JP2", "J2K"):
            whole = imagecodecs.jpeg2k_decode(minimal_jp2(header))
        else:
            return read_interlaced(header, request) if header.detail.interlaced else read_rows(header, request)
        return crop(whole.reshape(height, header.info.width, header.info.channels), request)


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
        predictor=pixels.dtype.itemsize <= 4 and pixels.dtype.kind in "ui",
        metadata=None,
        bigtiff=pixels.nbytes > 1 << 31,
        **options,
    )
    return out.getvalue()
