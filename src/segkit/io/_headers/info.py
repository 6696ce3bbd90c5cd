"""What a header says: `ImageInfo` for people, `Header` for the backends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segkit.io._headers.source import Source

# Names of compressions that change samples, and of their coders. A WebP of its own says whether it is lossless.
LOSSY = {"jpeg": "JPEG", "old-jpeg": "JPEG", "webp": "lossy WebP", "av1": "AVIF", "hevc": "HEIC"}


@dataclass(frozen=True)
class ImageInfo:
    """The facts in a file's header, about its stored samples: no orientation applied, no palette expanded.

    Attributes:
        format: "PNG", "APNG", "JPEG", "TIFF", "BigTIFF", "BMP", "GIF", "WebP", "JP2", "J2K", "JPEG XL", "AVIF",
            "HEIC", "PNM" or "PFM".
        height: rows as stored.
        width: columns as stored.
        channels: samples per pixel; 1 for a palette image, whose samples are indices.
        dtype: NumPy dtype of `read_image(path, samples="stored")`.
        bits_per_sample: the stored depth, for example 12 in a 12-bit TIFF whose dtype is uint16.
        photometric: "minisblack", "miniswhite", "rgb", "palette", "cmyk", "ycbcr", "cielab", ...
        planar: whether channels are stored one after another.
        tiled: whether the samples are stored in tiles.
        compression: "none", "deflate", "lzw", "jpeg", ...
        pages: number of pages: full-resolution directories of a TIFF, or the planes that ImageJ, tifffile and MetaMorph
            store behind a single one; frames of a GIF or an APNG. Thumbnails, reduced copies and masks are not pages.
        levels: number of resolution levels of this page; 1 when there is no pyramid.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        icc: the embedded colour profile, or None. It is reported, never applied.
        level_shapes: (height, width) of each level, the largest first.
        axes: what the pages are, where the file says so (OME, ImageJ, tifffile): "CYX" are channels, "ZYX" slices,
            "TYX" times, the slowest first. Empty if there is one page, or nothing is said.
        nodata: the value that means "nothing was measured here" (GDAL_NODATA), or None.

    Example:
        >>> from segkit.io import image_info, write_image
        >>> import numpy as np
        >>> write_image("scan.png", np.zeros((2, 3, 1), np.uint16))
        >>> info = image_info("scan.png")
        >>> info.format, info.height, info.width, info.channels, str(info.dtype), info.bits_per_sample
        ('PNG', 2, 3, 1, 'uint16', 16)
        >>> info.upright_size, info.value_bits, info.lossy
        ((2, 3), 16, '')
    """

    format: str
    height: int
    width: int
    channels: int
    dtype: np.dtype
    bits_per_sample: int
    photometric: str
    planar: bool = False
    tiled: bool = False
    compression: str = "none"
    pages: int = 1
    levels: int = 1
    orientation: int = 1
    icc: bytes | None = field(default=None, repr=False)
    level_shapes: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    axes: str = ""
    nodata: float | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) once the image is turned as its orientation says."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    @property
    def lossy(self) -> str:
        """The coder that changed the samples when they were stored ("JPEG", ...), which no labels survive; or "".

        Of JPEG 2000, JPEG XL and LERC the header does not say.
        """
        return LOSSY.get(self.compression, "")

    @property
    def value_bits(self) -> int:
        """Bits that the values of `read_image` fill, for `to_tensor(image, bits=...)`.

        These are the stored ones, 12 of a 12-bit scan in uint16; but fewer than 8, and palettes, fill their dtype.
        """
        full = 8 * self.dtype.itemsize
        deep = self.dtype.kind == "u" and full > 8 and self.photometric != "palette"
        return min(full, self.bits_per_sample) if deep else full


@dataclass(frozen=True)
class Header:
    """One page of one file, parsed once: its info, the file, and what the format's own parser found (`detail`).

    A backend of your own gets it: ``header.info`` says what to give, ``header.source.read_all()`` the file's bytes.

    Example:
        >>> from segkit.io import image_info, write_image
        >>> write_image("grey.png", np.zeros((2, 3, 1), np.uint8))
        >>> with Source("grey.png") as source:
        ...     Header(image_info("grey.png"), source).path
        'grey.png'
    """

    info: ImageInfo
    source: Source
    detail: Any = None
    page: int = 0
    palette: np.ndarray | None = None  # uint8 or uint16 [entries, 3 or 4], for photometric "palette"
    alpha: str = "none"  # what the last channel is: "none", "straight", "premultiplied"
    several: bool = False  # whether there are further pages, when none was asked for

    @property
    def path(self) -> str:
        """The file's path, for messages."""
        return self.source.path
