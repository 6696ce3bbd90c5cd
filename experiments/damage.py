"""Labels as they go wrong in real life."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from experiments.data import Images

KINDS = ("shifted", "of another image", "empty", "interpolated")


def damaged_masks(data: Images, share: float, *, seed: int) -> tuple[list[np.ndarray], set[int]]:
    """All masks [H, W], a share of them damaged, in turn in each of the KINDS; and which."""
    rng = np.random.default_rng(seed)
    masks = [mask.numpy().copy() for mask in data.masks]
    hurt = [int(i) for i in rng.permutation(len(masks))[: round(share * len(masks))]]
    for turn, i in enumerate(hurt):
        kind = KINDS[turn % len(KINDS)]
        if kind == "shifted":
            masks[i] = np.roll(masks[i], (16, 16), axis=(0, 1))
        elif kind == "of another image":
            masks[i] = data.masks[(i + len(masks) // 2) % len(masks)].numpy().copy()
        elif kind == "empty":
            masks[i] = np.zeros_like(masks[i])
        else:  # made smaller and larger again as if it were a picture: new values at the edges
            small = ndimage.zoom(masks[i].astype(np.float32), 0.5, order=1)
            masks[i] = ndimage.zoom(small, 2, order=1).round().astype(np.uint8)
    return masks, set(hurt)
