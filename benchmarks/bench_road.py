"""From file to batch against albumentations with OpenCV or tifffile, and against torchvision v2, on the same files.

    python benchmarks/bench_road.py [--rows jpeg png scene tiled] [--workers 0 2] [--repeats 7] [--files DIR]

Every contestant reads an image and its mask, turns and scales them a little, crops 512 x 512, mirrors, normalises and
stacks batches of 8 in a `DataLoader`. They take turns in one run, and the ratio is the median over neighbouring runs:
above 1 means that segkit gives more images a second. The table at the end is counted, not timed: what one sample opens
from Python (OpenCV opens its files by itself, where no hook sees it) and reads.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time

import albumentations as A
import albumentations.pytorch
import cv2
import numpy as np
import tifffile
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from segkit import transforms as T
from segkit.collate import stack_collate
from segkit.datasets import PairDataset, tile_images
from segkit.samplers import ShuffleSampler

CROP, BATCH = 512, 8


def photograph(rng, height, width, channels, top):
    """Smooth shapes and a little noise, so that compression has an ordinary day."""
    coarse = rng.integers(0, 256, (height // 16, width // 16, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    smooth += rng.integers(-4, 5, smooth.shape)
    return (smooth.clip(0, 255) * (top / 255)).astype(np.uint8 if top == 255 else np.uint16)


def labels(rng, height, width):
    return rng.integers(0, 19, (height // 16, width // 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)


SIZES = {"jpeg": (16, 768, 1024), "png": (12, 1024, 2048), "scene": (3, 4096, 4096)}  # how many, height, width


def write_files(folder, wanted):
    """Row -> pairs of paths. What is in the folder already is taken as it is."""
    rows = {}
    for row, (count, height, width) in SIZES.items():
        if row not in wanted and not (row == "png" and "tiled" in wanted):
            continue
        end = ".tif" if row == "scene" else f".{row}"
        rows[row] = [(str(folder / row / f"{i}{end}"), str(folder / row / f"{i}_mask.png")) for i in range(count)]
        if row == "scene":
            rows[row] = [(image, mask.replace(".png", ".tif")) for image, mask in rows[row]]
        (folder / row).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for image, mask in rows[row]:
            if not os.path.exists(mask):
                write_pair(rng, image, mask, height, width)
    if "tiled" in wanted:
        images, masks = ([pair[side] for pair in rows["png"]] for side in (0, 1))
        done = [
            tile_images(files, folder / name, progress=False)
            for files, name in ((images, "tiled"), (masks, "tiled_masks"))
        ]
        rows["tiled"] = list(zip(*(one.written for one in done), strict=True))
    return rows


def write_pair(rng, image, mask, height, width):
    if image.endswith(".tif"):
        layout = {"tile": (256, 256), "compression": "deflate", "metadata": None}
        pixels = photograph(rng, height, width, 4, 10_000)
        tifffile.imwrite(image, pixels, photometric="minisblack", planarconfig="contig", **layout)
        tifffile.imwrite(mask, labels(rng, height, width), **layout)
    else:
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if image.endswith(".jpeg") else []
        cv2.imwrite(image, photograph(rng, height, width, 3, 255), quality)
        cv2.imwrite(mask, labels(rng, height, width))


def read_as_people_do(image, mask):
    if image.endswith(".tif"):
        return tifffile.imread(image), tifffile.imread(mask)
    return cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB), cv2.imread(mask, cv2.IMREAD_UNCHANGED)


class Albumentations(Dataset):
    def __init__(self, pairs, channels, top):
        self.pairs = pairs
        self.augment = A.Compose(
            [
                A.Affine(rotate=(-10, 10), scale=(0.9, 1.1), translate_percent=(-0.06, 0.06), fill_mask=255, p=1),
                A.HorizontalFlip(p=0.5),
                A.RandomCrop(CROP, CROP),
                A.Normalize([0.5] * channels, [0.25] * channels, max_pixel_value=top),
                A.pytorch.ToTensorV2(),
            ]
        )

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, mask = read_as_people_do(*self.pairs[index])
        done = self.augment(image=image, mask=mask)
        return {"image": done["image"], "mask": done["mask"]}


class Torchvision(Dataset):
    def __init__(self, pairs, channels, top):
        self.pairs, self.top = pairs, float(top)
        self.augment = v2.Compose(
            [
                v2.RandomAffine(
                    10, translate=(0.06, 0.06), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR
                ),
                v2.RandomHorizontalFlip(),
                v2.RandomCrop(CROP),
            ]
        )
        self.normalize = v2.Normalize([0.5] * channels, [0.25] * channels)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, mask = read_as_people_do(*self.pairs[index])
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32))
        image, mask = self.augment(tv_tensors.Image(planes), tv_tensors.Mask(torch.from_numpy(mask)))
        return {"image": self.normalize(image / self.top), "mask": mask}


def segkit(pairs, channels, top):
    augment = T.Compose(
        [
            T.RandomAffine(10, scale=(0.9, 1.1), translate=0.06),
            T.HorizontalFlip(),
            T.RandomCrop(CROP),
            T.Normalize([0.5] * channels, [0.25] * channels),
        ]
    )
    return PairDataset(pairs, transform=augment)


CONTESTANTS = {"segkit": segkit, "albumentations": Albumentations, "torchvision": Torchvision}


def loader_of(name, pairs, workers, samples):
    channels, top = (4, 65535) if "scene" in pairs[0][0] else (3, 255)
    dataset = CONTESTANTS[name](pairs * -(-samples // len(pairs)), channels, top)
    sampler = ShuffleSampler(len(dataset), seed=0) if name == "segkit" else torch.utils.data.RandomSampler(dataset)
    return DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=sampler,
        num_workers=workers,
        collate_fn=stack_collate if name == "segkit" else None,
        persistent_workers=workers > 0,
    )


def measure(ours, theirs, workers, samples, repeats):
    """Name -> (images a second, CPU seconds a sample, segkit's images a second over its own)."""
    files = {name: ours if name == "segkit" else theirs for name in CONTESTANTS}
    loaders = {name: loader_of(name, files[name], workers, samples) for name in CONTESTANTS}
    speeds = {name: [] for name in CONTESTANTS}
    spent = {name: [] for name in CONTESTANTS}
    for repeat in range(repeats + 1):
        for name in sorted(loaders, reverse=bool(repeat % 2)):
            began, cpu, seen = time.perf_counter(), time.process_time(), 0
            for batch in loaders[name]:
                seen += len(batch["image"])
            if repeat:
                speeds[name].append(seen / (time.perf_counter() - began))
                spent[name].append((time.process_time() - cpu) / seen)
    return {
        name: (
            statistics.median(speeds[name]),
            statistics.median(spent[name]) if not workers else float("nan"),
            statistics.median(ours / theirs for ours, theirs in zip(speeds["segkit"], speeds[name], strict=True)),
        )
        for name in CONTESTANTS
    }


OPENED: list[str] = []


def count(pairs, name):
    """Files opened, bytes and calls of reading for one sample."""
    dataset = loader_of(name, pairs, 0, 1).dataset
    dataset[0]
    torch.manual_seed(0)
    OPENED.clear()
    before = _reads()
    dataset[0]
    after = _reads()
    folder = str(pathlib.Path(pairs[0][0]).parent.parent)
    return sum(str(path).startswith(folder) for path in OPENED), after[0] - before[0], after[1] - before[1]


def _reads():
    lines = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["syscr"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rows", nargs="+", default=["jpeg", "png", "scene", "tiled"])
    parser.add_argument("--files", type=pathlib.Path, help="keep the files here between runs; made where missing")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        rows = write_files(options.files or pathlib.Path(scratch), options.rows)
        print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, albumentations {A.__version__}")
        print(f"{'row':8}{'workers':>8}{'contestant':>16}{'images/s':>10}{'CPU ms':>8}{'segkit is':>11}")
        for row in options.rows:
            for workers in options.workers:
                peers = rows["png"] if row == "tiled" else rows[row]  # who does not tile reads the PNGs
                samples = 8 if row == "scene" else 24
                found = measure(rows[row], peers, workers, samples, options.repeats)
                for name, (speed, cpu, ratio) in found.items():
                    shown = "" if np.isnan(cpu) else f"{cpu * 1e3:.1f}"
                    print(f"{row:8}{workers:>8}{name:>16}{speed:>10.1f}{shown:>8}{ratio:>10.2f}x", flush=True)
                    results.append({"row": row, "workers": workers, "contestant": name, "speed": speed, "ratio": ratio})
        sys.addaudithook(lambda event, args: OPENED.append(args[0]) if event == "open" else None)
        print(f"\n{'row':8}{'contestant':>16}{'files opened':>14}{'MB read':>9}{'reads':>7}")
        for row in options.rows:
            for name in CONTESTANTS:
                if row == "tiled" and name != "segkit":
                    continue
                opened, read, calls = count(rows[row], name)
                print(f"{row:8}{name:>16}{opened:>14}{read / 1e6:>9.2f}{calls:>7}")
                results.append({"row": row, "contestant": name, "opened": opened, "bytes": read, "reads": calls})
        print(f"largest memory of the run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
