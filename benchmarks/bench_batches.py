"""A batch augmented, each sample by its own draw, compared with kornia and torchvision v2's loop.

    python benchmarks/bench_batches.py [--repeats 9] [--size 512] [--batch 16]

On the CPU: affine, flip and jitter of float32 images and their masks, milliseconds a batch, one of each in turn so that
a busy machine slows all alike, and the ratio of the medians; and how many operators a batch of 2 and of 32 takes. With
a GPU: images a second for a whole batch there, beside the peers and beside a loader on the CPU with 8 workers, and how
many such workers it replaces. The peers come with ``pip install segkit[bench]``; one that is not installed is left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

import cv2
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

import segkit
from segkit.transforms import ColorJitter, Compose, HorizontalFlip, PerSample, RandomAffine

GOAL = 0.35
ROW = [RandomAffine(15, translate=0.05, scale=(0.9, 1.1)), HorizontalFlip(), ColorJitter(0.2, 0.2)]


def kornia_row():
    try:
        import kornia.augmentation as K
    except ImportError:
        return None
    row = K.AugmentationSequential(
        K.RandomAffine(15.0, translate=(0.05, 0.05), scale=(0.9, 1.1), p=1.0, same_on_batch=False),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJiggle(0.2, 0.2, p=1.0),
        data_keys=["input", "mask"],
    )
    return lambda images, masks: row(images, masks[:, None].float())


def torchvision_row():
    try:
        from torchvision import tv_tensors
        from torchvision.transforms import v2
    except ImportError:
        return None
    bilinear = v2.InterpolationMode.BILINEAR
    row = v2.Compose(
        [
            v2.RandomAffine(
                15, (0.05, 0.05), (0.9, 1.1), interpolation=bilinear, fill={tv_tensors.Mask: 255, "others": 0}
            ),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2),
        ]
    )

    def each(images, masks):
        pairs = [row(tv_tensors.Image(i), tv_tensors.Mask(m[None])) for i, m in zip(images, masks, strict=True)]
        return [torch.stack(part) for part in zip(*pairs, strict=True)]

    return each


def ways(**options):
    rows = {
        "segkit": PerSample(Compose(ROW), **options),
        "kornia": kornia_row(),
        "torchvision, a loop": torchvision_row(),
    }
    return {name: row for name, row in rows.items() if row is not None}


def pictures(batch, size, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, size, size, generator=generator).to(device)
    return images, torch.randint(0, 5, (batch, size, size), generator=generator, dtype=torch.uint8).to(device)


def on_the_cpu(batch, size, repeats):
    images, masks = pictures(batch, size)
    times = {name: [] for name in ways()}
    for repeat in range(repeats + 1):
        for name, row in ways().items():
            start = time.perf_counter()
            row(images, masks)
            if repeat:
                times[name].append(1e3 * (time.perf_counter() - start))
    ours = statistics.median(times["segkit"])
    print(f"\nbatch of {batch}, 3 x {size} x {size}, float32, masks with fill 255, {torch.get_num_threads()} threads")
    print(f"{'':24}{'median ms':>10}{'quartiles':>16}{'ours / it':>11}   goal")
    for name, each in times.items():
        low, middle, high = statistics.quantiles(each, n=4)
        goal = "" if name == "segkit" else f"at most {GOAL}"
        print(f"{name:24}{middle:10.1f}{low:8.1f}{high:8.1f}{ours / middle:11.2f}   {goal}")


def operators():
    row = PerSample(Compose(ROW), batched=True)
    print("\noperators of a whole batch, by torch's profiler")
    for batch in (2, 32):
        images, masks = pictures(batch, 64)
        row(images, masks)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            row(images, masks)
        print(f"  B = {batch:2}: {len(seen.events())}")


class Pictures(Dataset):
    """One picture over and over, through the row."""

    def __init__(self, size, count):
        self.pair, self.count, self.row = [part[0] for part in pictures(1, size)], count, Compose(ROW)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.row(*self.pair)


def on_the_gpu(batch, size, repeats):
    device = torch.device("cuda")
    images, masks = pictures(batch, size, device)
    print(f"\n{torch.cuda.get_device_name()}, batch of {batch}, 3 x {size} x {size}: images/s")
    rates = {}
    for name, row in ways().items():
        for _ in range(3):
            row(images, masks)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10 * repeats):
            row(images, masks)
        torch.cuda.synchronize()
        rates[name] = 10 * repeats * batch / (time.perf_counter() - start)
        print(f"  {name:24}{rates[name]:12.0f}")
    loader = DataLoader(Pictures(size, 64 * batch), batch, num_workers=8, pin_memory=True, persistent_workers=True)
    for _ in range(2):  # the first epoch starts the workers
        start = time.perf_counter()
        for pair in loader:
            for part in pair:
                part.to(device, non_blocking=True)
        torch.cuda.synchronize()
        rate = len(loader.dataset) / (time.perf_counter() - start)
    print(f"  {'our loader, 8 workers':24}{rate:12.0f}")
    print(f"  segkit here does the work of {8 * rates['segkit'] / rate:.1f} workers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    print(f"segkit {segkit.__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{os.cpu_count()} cores, OpenCV {cv2.__version__}")
    on_the_cpu(options.batch, options.size, options.repeats)
    operators()
    if torch.cuda.is_available():
        on_the_gpu(options.batch, options.size, options.repeats)
    else:
        print("\nno GPU is at hand")


if __name__ == "__main__":
    main()
