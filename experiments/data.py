"""The data set in memory, and what an experiment does to it."""

from __future__ import annotations

import csv
import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segkit import IGNORE_INDEX
from segkit.datasets import Pair
from segkit.io import read_image, read_mask


@dataclass(frozen=True)
class Images:
    """uint8 images [N, C, H, W], uint8 masks [N, H, W], and the files they come from."""

    images: Tensor
    masks: Tensor
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.images)


def load(folder: pathlib.Path) -> dict[str, Images]:
    """``train`` and ``val`` of a folder with images/, masks/ and pairs.csv (columns "file" and "split")."""
    with open(folder / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sets = {}
    for split in ("train", "val"):
        names = [row["file"] for row in rows if row["split"] == split]
        pairs = tuple(Pair(str(folder / "images" / name), str(folder / "masks" / name)) for name in names)
        images = np.stack([read_image(pair.image) for pair in pairs])
        masks = np.stack([read_mask(pair.mask) for pair in pairs])
        sets[split] = Images(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks), pairs)
    return sets


def with_foreground(data: Images, foreground: int, share: float, *, block: int, seed: int) -> Images:
    """Two classes, with foreground in about a ``share`` of the pixels that count.

    Blocks of ``block`` x ``block`` pixels keep their foreground or have it ignored: no pixel gets a label that it does
    not have in the real mask.
    """
    masks = (data.masks == foreground).to(torch.uint8)
    masks[data.masks == IGNORE_INDEX] = IGNORE_INDEX
    there = float((masks == 1).float().sum() / (masks != IGNORE_INDEX).float().sum())
    keep = share * (1 - there) / ((1 - share) * there)  # so that kept / (kept + background) is the share
    draw = torch.rand(
        (len(masks), -(-masks.shape[1] // block), -(-masks.shape[2] // block)),
        generator=torch.Generator().manual_seed(seed),
    )
    kept = draw < min(keep, 1.0)
    kept = kept.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, : masks.shape[1], : masks.shape[2]]
    return Images(data.images, torch.where((masks == 1) & ~kept, IGNORE_INDEX, masks).to(torch.uint8), data.pairs)


def boundary(masks: Tensor, width: int) -> Tensor:
    """bool [N, H, W]: pixels with another class at most ``width`` pixels away (square neighbourhood)."""
    if width == 0:
        return torch.zeros_like(masks, dtype=torch.bool)
    x = masks.float()[:, None]
    size = 2 * width + 1
    high = F.max_pool2d(x, size, 1, width)
    low = -F.max_pool2d(-x, size, 1, width)
    return (high != low)[:, 0]
