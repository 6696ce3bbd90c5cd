"""A TIFF that does not fit into memory: train on windows of it, and write the map of the whole, window by window.

    python gigapixel.py            # 8,192 x 8,192, or --side 65536; --quick: 1,024 x 1,024

Only the tiles that a window touches are read and decoded: for training random windows by `PairDataset` and
`RandomCrop`, for the map every window once by `predict_scene`, which can be stopped and run again.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import numpy as np
import tifffile
import torch
from torch.utils.data import DataLoader
from unet import UNet

from segkit import io
from segkit.datasets import PairDataset
from segkit.losses import DiceCELoss
from segkit.metrics import ConfusionMatrix
from segkit.predict import predict_scene
from segkit.samplers import ShuffleSampler
from segkit.transforms import RandomCrop

TILE = 256


def write_slide(folder: pathlib.Path, side: int) -> tuple[pathlib.Path, pathlib.Path]:
    """A slide with round cells, and the mask of the cells, tile by tile: it never exists as an array."""

    def tiles(mask: bool):
        y, x = np.mgrid[:TILE, :TILE]
        for number in range((side // TILE) ** 2):
            rng = np.random.default_rng(number)
            cells = np.zeros((TILE, TILE), np.uint8)
            for cy, cx, radius in rng.uniform([20, 20, 8], [TILE - 20, TILE - 20, 18], (12, 3)):
                cells[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 1
            if mask:
                yield cells
            else:
                tissue = rng.normal([220, 190, 210], 12, (TILE, TILE, 3)) - cells[..., None] * [90, 110, 40]
                yield tissue.clip(0, 255).astype(np.uint8)

    slide, labels = folder / "slide.tif", folder / "labels.tif"
    layout = {"tile": (TILE, TILE), "dtype": np.uint8, "compression": "deflate", "bigtiff": True}
    tifffile.imwrite(slide, tiles(False), shape=(side, side, 3), photometric="rgb", **layout)
    tifffile.imwrite(labels, tiles(True), shape=(side, side), photometric="minisblack", **layout)
    return slide, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small slide, few steps")
    parser.add_argument("--side", type=int, default=8192, help="of the slide, in pixels: a multiple of 256")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        slide, labels = write_slide(pathlib.Path(scratch), 1024 if options.quick else options.side)
        # Of the slide no more is read than the window that the sampler's key draws; as many windows as you like.
        dataset = PairDataset([(slide, labels)] * (240 if options.quick else 1600), transform=RandomCrop(96))
        sampler = ShuffleSampler(len(dataset), seed=0)
        loader = DataLoader(dataset, batch_size=8, sampler=sampler, num_workers=options.workers)
        torch.manual_seed(0)
        net = UNet(3, 2, width=4)
        criterion = DiceCELoss()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for batch in loader:
            loss = criterion(net(batch["image"]), batch["mask"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        out = pathlib.Path(scratch) / "map.tif"
        predict_scene(net, slide, out, size=256 if options.quick else 1024, overlap=32)
        iou = judge(out, labels).iou()[1]
        print(f"cells: IoU {iou:.3f}; the map is {io.image_info(out).height} pixels high")


def judge(out: pathlib.Path, labels: pathlib.Path, rows: int = 1024) -> ConfusionMatrix:
    """Compare two maps, some rows at a time."""
    confusion = ConfusionMatrix(2)
    with io.open_image(out) as found, io.open_image(labels) as truth:
        height, width = found.info.height, found.info.width
        for top in range(0, height, rows):
            window = (top, 0, min(rows, height - top), width)
            both = (handle.read(window=window, samples="stored")[..., 0] for handle in (found, truth))
            confusion.update(*both)
    return confusion


if __name__ == "__main__":
    main()
