"""Predict on crops and merge them: five crops, a grid, mirrored ones, and what each gains or costs.

python test_time_crops.py            # or --quick
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable

import torch
from shapes import CLASS_NAMES, draw_pairs
from torch import Tensor
from torch.utils.data import DataLoader
from unet import UNet

from segkit import losses
from segkit import transforms as T
from segkit.collate import stack_collate
from segkit.datasets import PairDataset, find_pairs
from segkit.metrics import ConfusionMatrix
from segkit.samplers import ShuffleSampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps on a few images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pairs = find_pairs(*draw_pairs(pathlib.Path(scratch) / "data", pairs=24 if options.quick else 160))
        cut = len(pairs) * 3 // 4
        net = train(pairs[:cut], epochs=8 if options.quick else 15)
        for name, predict in WAYS.items():
            start = time.perf_counter()
            iou = test(net, PairDataset(pairs[cut:]), predict)
            print(f"{name:30} mean IoU {iou:.3f} in {time.perf_counter() - start:.1f} s")


def train(pairs: list, epochs: int) -> UNet:
    augment = T.Compose([T.PadTo(64), T.RandomCrop(64), T.HorizontalFlip()])
    dataset = PairDataset(pairs, transform=augment)
    sampler = ShuffleSampler(len(dataset), seed=0)
    loader = DataLoader(dataset, batch_size=6, sampler=sampler, collate_fn=stack_collate)
    torch.manual_seed(0)
    net = UNet(3, len(CLASS_NAMES), width=8)
    criterion, optimizer = losses.DiceCELoss(), torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(epochs):
        for batch in loader:
            loss = criterion(net(batch["image"]), batch["mask"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def whole(net: UNet, image: Tensor) -> Tensor:
    """[C, H, W] → logits [1, classes, H, W]: all at once, if memory allows. The margin is cut off again."""
    height, width = image.shape[-2:]
    return net(T.PadToMultiple(net.multiple_of)(image)[None])[..., :height, :width]


def in_crops(crop: T.FiveCrop | T.TenCrop | T.GridCrop, net: UNet, image: Tensor) -> Tensor:
    """The same from crops; `crop.geometry` says where they lie, and merging averages where they overlap."""
    size = image.shape[-2:]
    crops = crop(image[None])  # [1, K, C, h, w]
    logits = net(T.stack_crops(crops))  # [K, classes, h, w]: the network knows four axes
    return T.merge_crops(logits, crop.geometry(size), size)  # mirrored crops are turned back


def five(net: UNet, image: Tensor) -> Tensor:
    return in_crops(T.FiveCrop(three_quarters(net, image)), net, image)


def ten(net: UNet, image: Tensor) -> Tensor:
    return in_crops(T.TenCrop(three_quarters(net, image)), net, image)


def grid(net: UNet, image: Tensor) -> Tensor:
    return in_crops(T.GridCrop(64, overlap=0.5), net, image)


def three_quarters(net: UNet, image: Tensor) -> tuple[int, int]:
    """Of each side, up to the next multiple of what the network takes: five such crops cover the image and overlap."""
    height, width = (-(-side * 3 // 4) // net.multiple_of * net.multiple_of for side in image.shape[-2:])
    return height, width


WAYS: dict[str, Callable[[UNet, Tensor], Tensor]] = {
    "the whole image": whole,
    "five crops": five,
    "five crops and their mirrors": ten,
    "a grid of 64, half overlapping": grid,
}


@torch.no_grad()
def test(net: UNet, dataset: PairDataset, predict: Callable[[UNet, Tensor], Tensor]) -> float:
    confusion = ConfusionMatrix(len(CLASS_NAMES))
    for sample in dataset:
        confusion.update(predict(net, sample["image"]), sample["mask"][None])
    return confusion.mean_iou()


if __name__ == "__main__":
    main()
