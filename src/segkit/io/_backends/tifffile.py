"""The tifffile backend: TIFF of every kind through tifffile's block decoder, and other formats through imagecodecs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from segkit.io._backends.jpeg_end import refuse_early_end
from segkit.io._backends.request import Request, crop
from segkit.io._backends.tifffile_pages import read_page, refuses_page
from segkit.io._headers.gif_webp_jp2 import minimal_webp
from segkit.io._headers.info import Header
from segkit.io._headers.jpeg import minimal_jpeg
from segkit.io._headers.png import minimal_png, verify_data


class Tifffile:
    """TIFF and BigTIFF with every depth, plane order, tiling and predictor; only the blocks touched are decoded."""

    name = "tifffile"

    def refuses(self, header: Header) -> str:
        """Why the stored samples would not come out exactly; an empty text if they do."""
        if header.info.format in ("TIFF", "BigTIFF"):
            return refuses_page(header.detail)
        if header.info.format in ("PNG", "APNG"):
            lost = header.detail.interlaced and header.info.channels == 2
            return "imagecodecs does not decode an interlaced PNG of grey and alpha" if lost else ""
        if header.info.format in ("JPEG", "JP2", "J2K"):
            return ""
        if header.info.format == "WebP":
            return "imagecodecs is not proven for animations" if header.info.pages > 1 else ""
        return f"neither tifffile nor imagecodecs is proven to keep the samples of {header.info.format}"

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        if header.info.format in ("TIFF", "BigTIFF"):
            return read_page(header, request)
        import imagecodecs

        if header.info.format == "JPEG":
            data = minimal_jpeg(header)
            whole = imagecodecs.jpeg_decode(data)
            refuse_early_end(header, data, whole)
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
