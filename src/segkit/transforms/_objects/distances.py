"""How far each pixel lies from a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np


def distance_to(region: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """Exact Euclidean distance of each pixel to the nearest of the region [H, W] or [D, H, W], float32.

    Args:
        region: bool, not empty.
        spacing: length of a pixel along each axis; None for 1.
    """
    if region.ndim == 2 and (spacing is None or spacing[0] == spacing[1]):
        distance = _by_opencv(region)
        return distance if spacing is None else distance * np.float32(spacing[0])
    return needed("scipy.ndimage").distance_transform_edt(~region, sampling=spacing).astype(np.float32)


def needed(module: str) -> Any:
    """A module that only volumes and oblong pixels need."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"scipy": "scipy", "skimage": "scikit-image"}[module.partition(".")[0]]
        raise ImportError(
            f"segkit.transforms: targets of volumes, and of pixels that are longer than wide, need {package}. Type pip "
            f"install {package}."
        ) from error


def _by_opencv(region: np.ndarray) -> np.ndarray:
    height, width = region.shape
    memory = np.empty(height * (width + 15) + 16, np.float32)
    # OpenCV takes the root of a row with another last bit if the row begins elsewhere in a block of 64 bytes, and where
    # it begins is chance: rows that all begin one make every run give the same.
    first = -memory.ctypes.data % 64 // 4
    rows = memory[first : first + height * (-(-width // 16) * 16)].reshape(height, -1)[:, :width]
    return cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, dst=rows)
