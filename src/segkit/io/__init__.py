"""What is in a file: images and masks, exactly as they are stored, or a clear refusal.

Images are RGB, channel-last arrays ``[H, W, C]`` in their stored dtype, always with the channel axis; masks are
``[H, W]`` integers. The header is parsed first. A backend (OpenCV, Pillow, tifffile with imagecodecs) reads a file only
when the header proves that it gives the stored samples unchanged; otherwise another one does, or
`segkit.errors.ImageReadError` says why none can.

Example:
    >>> import numpy as np
    >>> from segkit.io import image_info, read_image, to_tensor, write_image
    >>> write_image("scan.png", np.full((4, 6, 3), 1000, np.uint16))
    >>> image = read_image("scan.png")
    >>> image.shape, image.dtype, to_tensor(image).shape
    ((4, 6, 3), dtype('uint16'), torch.Size([3, 4, 6]))
"""

from __future__ import annotations

from segkit.io._backends.request import Backend, Request
from segkit.io._handle import ImageHandle, open_image
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._mask import read_mask
from segkit.io._read import explain_backends, image_info, read_image
from segkit.io._tensor import to_image, to_tensor
from segkit.io._write import write_image, write_mask

__all__ = [
    "Backend",
    "Header",
    "ImageHandle",
    "ImageInfo",
    "Request",
    "explain_backends",
    "image_info",
    "open_image",
    "read_image",
    "read_mask",
    "to_image",
    "to_tensor",
    "write_image",
    "write_mask",
]
