"""Between arrays [H, W, C] and float tensors [C, H, W]. torch is imported only when one of the two is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segkit.io._backends.opencv import channels_apart

if TYPE_CHECKING:
    from torch import Tensor


def to_tensor(image: np.ndarray, *, bits: int | None = None) -> Tensor:
    """An image as a float tensor [C, H, W] in [0, 1].

    Args:
        image: [H, W, C] (or [H, W]): unsigned integers, signed integers, bool or floats.
        bits: the stored depth; the image is divided by ``2**bits - 1``. `image_info` knows it: 12 for a 12-bit scan in
            uint16, which so fills [0, 1] instead of [0, 1/16]. By default the dtype's own depth.

    Returns:
        float32 tensor [C, H, W]. Signed integers are divided by their largest value and may be negative. Floats pass
        unchanged, whatever their range. The arithmetic is NumPy's, so a uint16 image never becomes a `torch.uint16`.

    Raises:
        ValueError: a value needs more than `bits` bits, or the image has not 2 or 3 axes.
        TypeError: `image` is not an array.

    Example:
        >>> to_tensor(np.array([[[0], [255]]], np.uint8))
        tensor([[[0., 1.]]])
        >>> to_tensor(np.array([[[4095]]], np.uint16), bits=12)
        tensor([[[1.]]])
    """
    import torch

    if not isinstance(image, np.ndarray):
        raise TypeError(f"to_tensor: image must be a NumPy array [H, W, C], got {type(image).__name__}.")
    if image.ndim not in (2, 3):
        raise ValueError(
            f"to_tensor: image must have the shape [H, W, C], got {image.shape}. Pass one image at a time."
        )
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    out = np.empty(planes.shape, np.float32)
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):
            np.copyto(out, planes, casting="same_kind")
        if image.dtype.itemsize > 4 and np.isinf(out).any() and not np.isinf(planes).any():
            largest = float(np.abs(planes).max())
            raise ValueError(
                f"to_tensor: image must lie within the range of float32, got {largest:g}. Divide it by its unit first."
            )
        return torch.from_numpy(out)
    if image.dtype.kind not in "uib":
        raise TypeError(f"to_tensor: image must hold integers or floats, got {image.dtype}. Convert it first.")
    top = _top(image, bits)
    # float32 holds 24 bits; wider integers are divided in float64 before they are rounded once.
    wide = np.float32 if image.dtype.itemsize <= 2 else np.float64
    if image.size and len(planes) in (2, 3, 4) and image.dtype in (np.uint8, np.uint16):
        # NumPy walks through interleaved channels sample by sample. OpenCV takes them apart in less time than that
        # costs; by some rows, so that they are divided while they lie in the cache.
        step = max(1, 2**17 // image.shape[1])
        for start in range(0, len(image), step):
            rows = slice(start, start + step)
            for plane, place in zip(channels_apart(image[rows]), out[:, rows], strict=True):
                np.divide(plane, wide(top), out=place, dtype=wide, casting="unsafe")
    else:
        np.divide(planes, wide(top), out=out, dtype=wide, casting="unsafe")
    return torch.from_numpy(out)


def _top(image: np.ndarray, bits: int | None) -> int:
    if image.dtype.kind == "b":
        return 1
    full = int(np.iinfo(image.dtype).max)
    if bits is None:
        return full
    depth = full.bit_length()
    if not 1 <= bits <= 64:
        raise ValueError(f"to_tensor: bits must be 1..64, got {bits}. Take image_info(path).bits_per_sample.")
    if bits >= depth:
        return full
    top = (1 << bits) - 1
    if image.size and int(image.max()) > top:
        raise ValueError(
            f"to_tensor: bits={bits} must hold every value, got {int(image.max())} > {top}. Leave bits out: samples "
            "that were scaled for display use the full range of their dtype."
        )
    return top


def to_image(tensor: Tensor, *, bits: int = 8) -> np.ndarray:
    """A float tensor [C, H, W] in [0, 1] as an image of integers: the inverse of `to_tensor`.

    Args:
        tensor: float [C, H, W], values in [0, 1].
        bits: 1 to 16. Up to 8 gives uint8, above uint16; 1.0 becomes ``2**bits - 1``.

    Returns:
        Array [H, W, C], values rounded to the nearest level.

    Raises:
        ValueError: not three axes, not float, `bits` out of range, or values that are NaN or outside [0, 1].

    Example:
        >>> import torch
        >>> to_image(torch.tensor([[[0.0, 0.5, 1.0]]])).ravel().tolist()
        [0, 128, 255]
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"to_image: bits must be 1..16, got {bits}. Use 8 for PNG and JPEG, 16 for deep PNG and TIFF.")
    if tensor.ndim != 3 or not tensor.is_floating_point():
        raise ValueError(
            f"to_image: tensor must be float [C, H, W], got {tensor.dtype} {tuple(tensor.shape)}. "
            "Pass one image at a time."
        )
    top = (1 << bits) - 1
    values = tensor.detach().cpu().double().numpy().transpose(1, 2, 0) * top
    # Half a level is what rounding may take; anything beyond is not an image in [0, 1].
    if values.size and not (values.min() >= -0.5 and values.max() <= top + 0.5):
        raise ValueError(
            f"to_image: tensor must lie in [0, 1], got {values.min() / top:.4g} to {values.max() / top:.4g}. "
            "Undo the normalisation or call tensor.clamp(0, 1)."
        )
    return np.ascontiguousarray(np.rint(values).clip(0, top).astype(np.uint8 if bits <= 8 else np.uint16))
