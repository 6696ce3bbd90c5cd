"""Thirteen bands of uint16 with gaps in the class indices, from files to a map of land cover.

python satellite.py            # or --quick; draws its own scenes
python satellite.py --images DIR --masks DIR --classes 1,2,3,4,8
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import numpy as np
import torch
from torch.utils.data import DataLoader
from unet import UNet

from segkit import IGNORE_INDEX, io, stats, viz
from segkit import transforms as T
from segkit.collate import stack_collate
from segkit.datasets import PairDataset, find_pairs
from segkit.losses import DiceCELoss
from segkit.metrics import ConfusionMatrix
from segkit.predict import predict_scene
from segkit.samplers import ClassBalancedSampler


def draw_scenes(folder: pathlib.Path, count: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Fields of four kinds of land, and in a corner 0: no data. Each kind has a spectrum of 13 bands."""
    images, masks = folder / "images", folder / "masks"
    for made in (images, masks):
        made.mkdir(parents=True)
    spectra = np.random.default_rng(0).uniform(300, 3000, (9, 13))
    for i in range(count):
        rng = np.random.default_rng([1, i])
        land = rng.choice([1, 1, 1, 2, 2, 3, 8], (6, 6)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        land[:10, :20] = 0
        scene = spectra[land] * rng.normal(1, 0.15, (96, 96, 1)) + rng.normal(0, 250, (96, 96, 13))
        io.write_image(images / f"scene{i}.tif", scene.clip(0, 65535).astype(np.uint16))
        io.write_mask(masks / f"scene{i}.tif", land)
    return images, masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--masks", type=pathlib.Path)
    parser.add_argument("--classes", default="1,2,3,8", help="the ids that count; all others are ignored")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("satellite.png"))
    parser.add_argument("--quick", action="store_true", help="few scenes, few steps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.images is None:
            options.images, options.masks = draw_scenes(pathlib.Path(scratch), 6 if options.quick else 24)
        train(options, [int(label) for label in options.classes.split(",")])


def train(options, classes: list[int]) -> None:
    pairs = find_pairs(options.images, options.masks)
    info = io.image_info(pairs[0].image)
    print(f"{info.channels} bands of {info.dtype}, {info.height} x {info.width}, {info.compression}")
    train_pairs, test_pairs = pairs[:-1], pairs[-1:]

    # Over the pixels that count.
    numbers = stats.dataset_statistics(train_pairs, ignore_index=0, progress=False)
    normalize = T.Normalize.from_statistics(numbers)
    # Ids with gaps become 0, 1, 2, ...; 0 ("no data") and whatever is not named become 255.
    labels = {"remap": {label: number for number, label in enumerate(classes)}, "unmapped": IGNORE_INDEX}

    augment = T.Compose([T.PadTo(64), T.RandomCrop(64), T.HorizontalFlip(), T.Rotate90(), normalize])
    dataset = PairDataset(train_pairs, transform=augment, **labels)
    pixels = np.array([np.bincount(io.read_mask(pair.mask).ravel(), minlength=256)[classes] for pair in train_pairs])
    # Each class equally often, and crops that contain it: the sampler says which, RandomCrop looks for it.
    balanced = ClassBalancedSampler(pixels, num_samples=96 if options.quick else 640, seed=0)
    loader = DataLoader(dataset, batch_size=8, sampler=balanced, collate_fn=stack_collate)

    torch.manual_seed(0)
    net = UNet(info.channels, len(classes), width=8)
    criterion = DiceCELoss(scope="batch")
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(1 if options.quick else 5):
        for batch in loader:
            loss = criterion(net(batch["image"]), batch["mask"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    land = options.out.with_suffix(".tif")
    predict_scene(net, test_pairs[0].image, land, size=64, transform=normalize)
    scene, predicted = io.read_image(test_pairs[0].image), io.read_mask(land)
    truth = PairDataset(test_pairs, **labels)[0]["mask"]
    judged = ConfusionMatrix(len(classes))
    judged.update(torch.from_numpy(predicted), truth)
    print(f"loss {loss.item():.3f}; {judged.accuracy():.1%} of the pixels of a scene never seen are right")
    masks = {"scene": None, "truth": truth.numpy(), "prediction": predicted}
    sheet = viz.contact_sheet([{"image": scene, "mask": m, "name": n} for n, m in masks.items()], columns=3, tile=256)
    io.write_image(options.out, sheet)
    print(f"see {options.out} and {land}")


if __name__ == "__main__":
    main()
