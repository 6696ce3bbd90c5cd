"""A TIFF that does not fit into memory: train on windows of it, and write the map of the whole, window by window.

    python examples/gigapixel.py            # 8,192 x 8,192, or --side 65536; --quick: 1,024 x 1,024

Only the tiles that a window touches are read and decoded. The handle is in the data set: it pickles as its path, and
each worker opens the file for itself.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import numpy as np
import tifffile
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from unet import UNet

from segkit import io
from segkit.losses import DiceCELoss
from segkit.samplers import ShuffleSampler
from segkit.transforms import GridCrop

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


class Windows(Dataset):
    """Random windows of one large picture; which one is a pure function of the sampler's key."""

    def __init__(self, slide: pathlib.Path, labels: pathlib.Path, *, size: int) -> None:
        self.slide, self.labels = io.open_image(slide), io.open_image(labels)
        self.size = size

    def __getitem__(self, key) -> tuple[torch.Tensor, torch.Tensor]:
        info = self.slide.info
        room = torch.tensor([info.height - self.size + 1, info.width - self.size + 1])
        top, left = (torch.rand(2, generator=key.generator()) * room).int().tolist()
        window = (top, left, self.size, self.size)
        image = io.to_tensor(self.slide.read(window=window))
        return image, torch.from_numpy(self.labels.read(window=window, samples="stored")[..., 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small slide, few steps")
    parser.add_argument("--side", type=int, default=8192, help="of the slide, in pixels: a multiple of 256")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        slide, labels = write_slide(pathlib.Path(scratch), 1024 if options.quick else options.side)
        windows = Windows(slide, labels, size=96)
        sampler = ShuffleSampler(240 if options.quick else 1600, seed=0)  # as many windows as you like
        loader = DataLoader(windows, batch_size=8, sampler=sampler, num_workers=options.workers)
        torch.manual_seed(0)
        net = UNet(3, 2, width=4)
        criterion = DiceCELoss()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for image, mask in loader:
            loss = criterion(net(image), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        out = pathlib.Path(scratch) / "map.tif"
        iou = predict(net.eval(), windows, out, size=256 if options.quick else 1024)
        print(f"cells: IoU {iou:.3f}; the map is {io.image_info(out).height} pixels high")


@torch.no_grad()
def predict(net: UNet, windows: Windows, out: pathlib.Path, *, size: int, margin: int = 16) -> float:
    """Write the map of the whole slide. Of each window only the inside is kept, as its margin lacks surroundings."""
    height, width = windows.slide.info.height, windows.slide.info.width
    result = tifffile.memmap(out, shape=(height, width), dtype=np.uint8, photometric="minisblack")
    both = either = 0
    for top, left, h, w, _ in tqdm(GridCrop(size, 2 * margin).geometry((height, width)), disable=None):
        image = io.to_tensor(windows.slide.read(window=(top, left, h, w)))
        found = net(image[None]).argmax(1)[0].numpy()
        up, side = margin * (top > 0), margin * (left > 0)  # at the edge of the slide there is nothing to wait for
        result[top + up : top + h, left + side : left + w] = found[up:, side:]
        truth = windows.labels.read(window=(top, left, h, w), samples="stored")[..., 0]
        both += int((truth & found).sum())
        either += int((truth | found).sum())
    result.flush()
    return both / either


if __name__ == "__main__":
    main()
