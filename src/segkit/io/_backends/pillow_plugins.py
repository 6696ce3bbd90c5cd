"""A file in memory through Pillow's own plugin of its format, into memory that can be written to."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFile


HEADER = 64  # bytes, more than the text of a PNM is long


def decode(form: str, data: bytes) -> np.ndarray:
    """The samples of a file in memory, as Pillow's plugin of `ImageInfo.format` has them."""
    with _plugin(form)(io.BytesIO(data)) as image:
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
