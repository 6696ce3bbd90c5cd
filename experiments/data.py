"""The four data sets in memory, and what an experiment does to them."""

from __future__ import annotations

import csv
import hashlib
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segkit import IGNORE_INDEX
from segkit.datasets import Pair
from segkit.io import read_image, read_mask


@dataclass(frozen=True)
class Images:
    """uint8 images [N, C, H, W], uint8 masks [N, H, W], and the files they come from, if any."""

    images: Tensor
    masks: Tensor
    pairs: tuple[Pair, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def at(self, index: list[int]) -> Images:
        """Those with these numbers, in this order."""
        return Images(self.images[index], self.masks[index], tuple(self.pairs[i] for i in index) if self.pairs else ())


@dataclass(frozen=True)
class Data:
    """What is learnt from and what is tested on; ``rare``: the classes with less than 5 % of the training pixels."""

    name: str
    train: Images
    val: Images
    classes: int
    rare: tuple[int, ...]
    sha256: str  # of all pixels and labels, in order


def load(root: pathlib.Path, name: str) -> Data:
    """One of `SETS`, read from its folder in ``root`` or drawn.

    Raises:
        FileNotFoundError: ``root`` has no such folder.
    """
    train, val, classes = SETS[name](root)
    digest = hashlib.sha256()
    for part in (train, val):
        for values in (part.images, part.masks):
            digest.update(f"{tuple(values.shape)}".encode())
            digest.update(values.numpy().tobytes())
    counts = torch.bincount(train.masks.flatten(), minlength=256)[:classes].double()
    rare = tuple((counts / counts.sum() < 0.05).nonzero().flatten().tolist())
    return Data(name, train, val, classes, rare, digest.hexdigest()[:16])


def inner(data: Data) -> Data:
    """The last quarter of the training images as the test: what a learning rate may be chosen on.

    Images are in the order of their films and times, so most of that quarter is of films, or times, of its own.
    """
    cut = len(data.train) * 3 // 4
    order = list(range(len(data.train)))
    return replace(data, train=data.train.at(order[:cut]), val=data.train.at(order[cut:]))


def sandstone(root: pathlib.Path) -> tuple[Images, Images, int]:
    """X-ray CT of sandstone, the slices of `pairs.csv`; two of the four classes are rare."""
    folder = root / "sandstone_ct"
    rows = _rows(folder)
    train, val = (_read(folder, [r["file"] for r in rows if r["split"] == split]) for split in ("train", "val"))
    return train, val, 4


def camvid(root: pathlib.Path) -> tuple[Images, Images, int]:
    """Street scenes at half size, 176 x 240, split by film: 0006R0 is the test."""
    folder = root / "camvid"
    names = [row["file"] for row in _rows(folder)]
    parts = []
    for test in (False, True):
        part = _read(folder, [name for name in names if name.startswith("0006R0") == test])
        images = F.avg_pool2d(part.images.float(), 2).round().to(torch.uint8)
        masks = part.masks[:, ::2, ::2]
        masks = torch.where(masks < 11, masks, IGNORE_INDEX).to(torch.uint8)
        parts.append(Images(images[..., :176, :].contiguous(), masks[:, :176].contiguous(), part.pairs))
    return parts[0], parts[1], 11


def membrane(root: pathlib.Path) -> tuple[Images, Images, int]:
    """Electron microscopy; class 1 is the thin membrane."""
    folder = root / "membrane"
    rows = _rows(folder)
    parts = [_read(folder, [r["file"] for r in rows if r["split"] == split]) for split in ("train", "val")]
    train, val = (Images(part.images, (part.masks == 0).to(torch.uint8), part.pairs) for part in parts)
    return train, val, 2


def shapes(root: pathlib.Path) -> tuple[Images, Images, int]:
    """The quickstart's own drawings, their upper left 96 x 96 pixels; class 3 is rare."""
    examples = str(pathlib.Path(__file__).parents[1] / "examples")
    if examples not in sys.path:
        sys.path.append(examples)
    from shapes import draw_pair

    pairs = [draw_pair(np.random.default_rng([0, i])) for i in range(160)]
    images = torch.from_numpy(np.stack([image[:96, :96] for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    whole = Images(images, torch.from_numpy(np.stack([mask[:96, :96] for _, mask in pairs])))
    return whole.at(list(range(100))), whole.at(list(range(100, 160))), 4


SETS: dict[str, Callable[[pathlib.Path], tuple[Images, Images, int]]] = {
    "sandstone": sandstone, "camvid": camvid, "membrane": membrane, "shapes": shapes,
}  # fmt: skip


def _rows(folder: pathlib.Path) -> list[dict[str, str]]:
    with open(folder / "pairs.csv", newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["file"])


def _read(folder: pathlib.Path, names: list[str]) -> Images:
    pairs = tuple(Pair(str(folder / "images" / name), str(folder / "masks" / name)) for name in names)
    images = np.stack([read_image(pair.image) for pair in pairs])
    masks = np.stack([read_mask(pair.mask) for pair in pairs])
    return Images(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks), pairs)


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
    return replace(data, masks=torch.where((masks == 1) & ~kept, IGNORE_INDEX, masks).to(torch.uint8))


def boundary(masks: Tensor, width: int) -> Tensor:
    """bool [N, H, W]: pixels with another class at most ``width`` pixels away (square neighbourhood)."""
    if width == 0:
        return torch.zeros_like(masks, dtype=torch.bool)
    x = masks.float()[:, None]
    size = 2 * width + 1
    high = F.max_pool2d(x, size, 1, width)
    low = -F.max_pool2d(-x, size, 1, width)
    return (high != low)[:, 0]
