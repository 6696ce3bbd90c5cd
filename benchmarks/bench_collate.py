"""What it costs to make a batch, compared with torch's default_collate, F.pad with stack, and MONAI.

    python benchmarks/bench_collate.py [--repeats 40]

One thread. Each line: median and quartiles in milliseconds over the repeats, taken in turns so that a busy machine
slows all alike, and the ratio of the medians to the baseline, with the goal. The peers come with
``pip install segkit[bench]``; one that is not installed is left out.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from torch.utils.data import default_collate

import segkit
from segkit.collate import crop_stack_collate, pad_collate, resize_collate, stack_collate


def measure(candidates, repeats):
    """Milliseconds of each candidate, one of each in turn."""
    times = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            times[name].append(1e3 * (time.process_time() - start))
    return times


def report(title, times, baseline, goals):
    base = statistics.median(times[baseline])
    print(f"\n{title}\n{'':32}{'median':>8}{'quartiles':>16}{'ratio':>8}   goal")
    for name, all_times in times.items():
        low, middle, high = statistics.quantiles(all_times, n=4)
        goal = f"at most {goals[name]:.1f}" if name in goals else ""
        print(f"{name:32}{middle:8.2f}{low:8.2f}{high:8.2f}{middle / base:8.2f}   {goal}")


def sample(height, width, index, *lead):
    return {
        "image": torch.rand(*lead, 3, height, width),
        "mask": torch.randint(5, (*lead, height, width), dtype=torch.uint8),
        "index": index,
    }


def pad_and_stack(batch):
    height, width = (max(each["image"].shape[axis] for each in batch) for axis in (1, 2))
    images, masks = [], []
    for each in batch:
        margin = (0, width - each["image"].shape[2], 0, height - each["image"].shape[1])
        images.append(F.pad(each["image"], margin))
        masks.append(F.pad(each["mask"], margin, value=255))
    return {"image": torch.stack(images), "mask": torch.stack(masks)}


def monai_pad(batch):
    try:
        from monai.data.utils import pad_list_data_collate
    except ImportError:
        return {}
    with_channel = [{**each, "mask": each["mask"][None]} for each in batch]  # it takes no mask without
    return {"MONAI pad_list_data_collate": lambda: pad_list_data_collate(with_channel)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=40)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"segkit {segkit.__version__}, torch {torch.__version__}, {platform.machine()}, one thread")

    sizes = [(512, 480), (500, 512), (490, 500), (512, 512), (505, 495), (480, 510), (512, 500), (496, 512)]
    ragged = [sample(h, w, i) for i, (h, w) in enumerate(sizes)]
    even = [sample(512, 512, i) for i in range(8)]
    candidates = {
        "default_collate, padded already": lambda: default_collate(even),
        "segkit pad_collate": lambda: pad_collate(ragged),
        "segkit stack_collate": lambda: stack_collate(even),
        "F.pad + stack": lambda: pad_and_stack(ragged),
        "segkit resize_collate": lambda: resize_collate(ragged, size=512),
    }
    candidates |= monai_pad(ragged)
    goals = {"segkit pad_collate": 1.3}
    title = "ragged batch of 8, about 512 x 512: 3 x float32 and a uint8 mask"
    report(title, measure(candidates, repeats), "default_collate, padded already", goals)

    stacks = [sample(256, 256, i, 5) for i in range(8)]
    candidates = {
        "default_collate": lambda: default_collate(stacks),
        "segkit crop_stack_collate": lambda: crop_stack_collate(stacks),
    }
    goals = {"segkit crop_stack_collate": 1.1}
    report("8 stacks of 5 crops of 256 x 256", measure(candidates, repeats), "default_collate", goals)


if __name__ == "__main__":
    main()
