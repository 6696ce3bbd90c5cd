"""The OpenCV backend: PNG and JPEG, and the plainest TIFFs. What it would convert, scale or drop is refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._backends.jpeg_end import refuse_early_end
from segkit.io._backends.pillow_plugins import decode
from segkit.io._backends.request import Request, crop
from segkit.io._backends.tiff_blocks import block_numbers, minimal_tiff, read_blocks
from segkit.io._headers.info import Header
from segkit.io._headers.jpeg import has_several_scans, minimal_jpeg
from segkit.io._headers.png import minimal_png, verify_data


class OpenCV:
    """Fast for whole PNGs, JPEGs and PNMs of 8 and 16 bits."""

    name = "opencv"

    def refuses(self, header: Header) -> str:
        """Why the stored samples would not come out exactly; an empty text if they do."""
        reason = _refuses(header)
        if not reason:
            try:
                import cv2  # noqa: F401
            except Exception as error:  # a slim container lacks its X libraries; a small one the memory
                reason = f"OpenCV cannot be imported ({error}); pip install opencv-python-headless needs no X libraries"
        return reason

    def read(self, header: Header, request: Request) -> np.ndarray:
        """The stored samples of `request`."""
        import cv2

        info = header.info
        if info.format == "JPEG":
            data = minimal_jpeg(header)
        elif info.format in ("PNG", "APNG"):
            verify_data(header)  # libpng does too, but only tells stderr which chunk it was
            data = minimal_png(header, as_grey=info.photometric == "palette")
        elif info.format == "PNM":
            data = header.source.read_all()
        else:
            page = header.detail
            blocks = read_blocks(page, block_numbers(page, (0, 0, info.height, info.width), range(page.planes)))
            data = minimal_tiff(page, blocks, photometric=1 if info.channels == 1 else None)
        # Newer versions decode to RGB at once, which saves turning BGR round.
        rgb = getattr(cv2, "IMREAD_COLOR_RGB", None) if info.channels == 3 and info.format in ("JPEG", "PNG") else None
        flags = cv2.IMREAD_UNCHANGED if rgb is None else rgb | cv2.IMREAD_ANYDEPTH
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if whole is None:
            raise ImageReadError(header.path, "OpenCV cannot decode it", "the file is damaged: copy or export it again")
        if whole.ndim == 2:
            whole = whole[..., None]
        if info.format in ("PNG", "APNG") and info.channels == 2 and whole.shape[2] == 4:
            whole = whole[..., 2:]  # OpenCV repeats grey three times before the alpha
        elif whole.shape[2] == 3 and rgb is None:
            whole = cv2.cvtColor(whole, cv2.COLOR_BGR2RGB, whole)  # in place
        elif whole.shape[2] == 4:
            whole = cv2.cvtColor(whole, cv2.COLOR_BGRA2RGBA, whole)
        if info.format == "JPEG":
            several = has_several_scans(header)
            silent = partial(decode, "JPEG")  # OpenCV tells stderr of what follows the last code
            refuse_early_end(header.path, data, whole, silent, several=several)
        if info.format in ("PNG", "APNG") and (info.bits_per_sample == 1 or info.photometric == "palette"):
            # libpng spreads fewer bits over 0..255
            whole = whole // (255 // ((1 << info.bits_per_sample) - 1)) if info.bits_per_sample < 8 else whole
        return crop(whole, request)


def _refuses(header: Header) -> str:
    info = header.info
    if info.height * info.width > 1 << 30 or max(info.height, info.width) > 1 << 20:
        return "OpenCV opens at most 2**30 pixels and 2**20 per side"
    if info.format in ("PNG", "APNG"):
        return ""
    if info.format == "JPEG":
        if info.bits_per_sample != 8 or info.compression != "jpeg":
            return "OpenCV decodes 8-bit lossy JPEGs only"
        return "" if info.channels in (1, 3) else "OpenCV turns a CMYK JPEG into RGB"
    if info.format in ("TIFF", "BigTIFF"):
        return _refuses_page(header)
    if info.format == "PNM":
        return "" if header.detail.kind in ("P5", "P6") else "OpenCV spreads bits over 0..255"
    return f"OpenCV is not proven to keep the samples of {info.format}"


def _refuses_page(header: Header) -> str:
    info, page = header.info, header.detail
    if page.compression not in (1, 5, 8, 32946) or page.fill_order != 1:
        return f"OpenCV is proven for uncompressed, LZW and deflate TIFFs, this one is {info.compression}"
    if page.planar:
        return "OpenCV reads planar TIFFs wrongly (16-bit ones as uninitialised memory)"
    if page.sample_format != 1 or page.bits not in (8, 16):
        return f"OpenCV changes {page.bits}-bit samples of this kind, or refuses them"
    if page.bits == 8 and page.compression != 1:
        return "OpenCV fills what a damaged 8-bit block lacks with zeros, in silence"
    if page.predictor not in (1, 2):
        return "OpenCV is not proven for this predictor"
    if page.samples == 1:
        return ""
    if page.samples == 3 and info.photometric == "rgb":
        return ""
    return f"OpenCV drops or changes channels of a {info.photometric} TIFF with {page.samples} samples per pixel"


def channels_apart(pixels: np.ndarray) -> Sequence[np.ndarray]:
    """The planes [H, W] of [H, W, C], each by itself in memory."""
    import cv2

    return cv2.split(pixels)
