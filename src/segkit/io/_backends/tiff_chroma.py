"""TIFF blocks of YCbCr whose chroma is coarser than its luma: each sample of chroma stands for a group of pixels."""

from __future__ import annotations

import numpy as np

from segkit.io._headers.tiff import COMPRESSIONS, TiffPage

CODES_BYTES = {1, 5, 8, 32773, 32946, 34925, 50000}  # those that know nothing of pixels


def refuses_chroma(page: TiffPage) -> str:
    """Why a page with subsampled chroma cannot be decoded; an empty text if it can."""
    across, down = page.subsampling
    if page.planar:
        return "its chroma is subsampled in planes of its own, which no library reads"
    if page.compression not in CODES_BYTES:
        return f"subsampled chroma makes no sense with the compression {COMPRESSIONS.get(page.compression)}"
    if page.samples != 3 or page.bits != 8 or page.sample_format != 1:
        return "subsampled chroma is for three channels of 8 bits"
    if not (across in (1, 2, 4) and down in (1, 2, 4)):
        return f"its chroma is subsampled {across} x {down}"
    if page.predictor != 1:
        return "a predictor does not know the groups of subsampled chroma"
    if page.grid != page.as_stored().grid:
        return "its blocks cut through the groups of subsampled chroma"
    return ""


def spread_chroma(page: TiffPage, stored: np.ndarray, number: int) -> np.ndarray:
    """The samples [rows, columns, channels] of a block, each of chroma repeated for the pixels it stands for.

    Args:
        page: with subsampled chroma.
        stored: the block as an image of bytes, as `TiffPage.as_stored` says.
        number: of the block.
    """
    across, down = page.subsampling
    rows, columns = page.block_rows(number // page.grid[1] % page.grid[0]), page.tile[1]
    groups = stored.reshape(stored.shape[0], -1, across * down + 2)
    luma = groups[..., :-2].reshape(*groups.shape[:2], down, across).swapaxes(1, 2)
    chroma = groups[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([luma.reshape(*chroma.shape[:2], 1), chroma], axis=2)[:rows, :columns]
