"""Image and mask through the usual augmentations, compared with albumentations, torchvision v2 and kornia.

    python benchmarks/bench_transforms.py [--repeats 60]

One thread, one 768 x 1024 picture of uint8 with its mask, to 512 x 512. Each line: median and quartiles in milliseconds
over the repeats, taken in turns so that a busy machine slows all alike, and the ratio of the medians to albumentations,
with the goal. The peers come with ``pip install segkit[bench]``; one that is not installed is left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
import torch

import segkit
from segkit.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    Cutout,
    ElasticDeform,
    GaussianBlur,
    GaussianNoise,
    GridCrop,
    HorizontalFlip,
    Normalize,
    PadTo,
    RandomAffine,
    RandomCrop,
    RandomResizedCrop,
    RandomScale,
    Resize,
    Rotate90,
    ToTensor,
    VerticalFlip,
)

SIZE = 512


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
    base = statistics.median(times[baseline]) if baseline in times else float("nan")
    print(f"\n{title}\n{'':32}{'median':>8}{'quartiles':>16}{'ratio':>8}   goal")
    for name, all_times in times.items():
        low, middle, high = statistics.quantiles(all_times, n=4)
        goal = f"at most {goals[name]:.1f}" if name in goals else ""
        print(f"{name:32}{middle:8.2f}{low:8.2f}{high:8.2f}{middle / base:8.2f}   {goal}")


class Picture:
    """One picture in the layout of each library."""

    def __init__(self, height=768, width=1024, channels=3, dtype=np.uint8):
        rng = np.random.default_rng(0)
        self.array = rng.integers(0, 256, (height, width, channels)).astype(dtype)
        self.labels = rng.integers(0, 5, (height, width), dtype=np.uint8)
        self.image = torch.from_numpy(np.ascontiguousarray(self.array.transpose(2, 0, 1)))
        self.mask = torch.from_numpy(self.labels)


def albumentations_row(name, picture):
    try:
        import albumentations as A
    except ImportError:
        return {}
    affine = A.Affine(rotate=(-15, 15), scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), fill_mask=255, p=1)
    rows = {
        "crop": {"albumentations": [A.RandomCrop(SIZE, SIZE), A.HorizontalFlip(p=0.5), affine]},
        "affine": {"albumentations": [affine, A.HorizontalFlip(p=0.5), A.RandomCrop(SIZE, SIZE)]},
        "resize": {
            "albumentations": [A.Resize(SIZE, SIZE, area_for_downscale="image")],
            "albumentations, aliased": [A.Resize(SIZE, SIZE)],
        },
        "elastic": {
            "albumentations": [A.ElasticTransform(alpha=50, sigma=10, fill_mask=255, p=1)],
            "albumentations, approximate": [
                A.ElasticTransform(alpha=50, sigma=10, fill_mask=255, approximate=True, p=1)
            ],
        },
    }
    composed = {label: A.Compose(row) for label, row in rows[name].items()}
    return {label: lambda t=t: t(image=picture.array, mask=picture.labels) for label, t in composed.items()}


def torchvision_row(name, picture):
    try:
        from torchvision import tv_tensors
        from torchvision.transforms import v2
    except ImportError:
        return {}
    affine = v2.RandomAffine(15, translate=(0.05, 0.05), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR)
    row = {
        "crop": v2.Compose([v2.RandomCrop(SIZE), v2.RandomHorizontalFlip(), affine]),
        "affine": v2.Compose([affine, v2.RandomHorizontalFlip(), v2.RandomCrop(SIZE)]),
        "resize": v2.Resize((SIZE, SIZE), antialias=True),
        "elastic": v2.ElasticTransform(alpha=50.0, sigma=10.0),
    }[name]
    image, mask = tv_tensors.Image(picture.image), tv_tensors.Mask(picture.mask[None])
    return {"torchvision v2": lambda: row(image, mask)}


def kornia_row(name, picture):
    try:
        import kornia.augmentation as K
    except ImportError:
        return {}
    affine = K.RandomAffine(15.0, translate=(0.05, 0.05), scale=(0.9, 1.1), p=1.0)
    members = {
        "crop": [K.RandomCrop((SIZE, SIZE)), K.RandomHorizontalFlip(), affine],
        "affine": [affine, K.RandomHorizontalFlip(), K.RandomCrop((SIZE, SIZE))],
        "resize": [K.Resize((SIZE, SIZE), antialias=True)],
        "elastic": [K.RandomElasticTransform(p=1.0)],
    }[name]
    row = K.AugmentationSequential(*members, data_keys=["input", "mask"])
    image, mask = picture.image[None].float() / 255, picture.mask[None, None].float()  # it takes floats only
    return {"kornia": lambda: row(image, mask)}


def segkit_row(name, picture):
    affine = RandomAffine(15, translate=0.05, scale=(0.9, 1.1))
    row = {
        "crop": Compose([RandomCrop(SIZE), HorizontalFlip(), affine]),
        "affine": Compose([affine, HorizontalFlip(), RandomCrop(SIZE)]),
        "resize": Compose([Resize(SIZE)]),
        "elastic": Compose([ElasticDeform(6, spacing=48)]),
    }[name]
    candidates = {"segkit": lambda: row(picture.image, picture.mask)}
    if name == "resize":
        aliased = Resize(SIZE, antialias=False)
        candidates["segkit, aliased"] = lambda: aliased(picture.image, picture.mask)
    return candidates


def who_takes_13_bands():
    """Crop, flip and affine of 13 channels of 16 bits and the mask, in one call: what comes out, and how fast."""
    picture = Picture(channels=13, dtype=np.uint16)
    picture.image = torch.from_numpy(np.ascontiguousarray(picture.array.transpose(2, 0, 1)).astype(np.int32))
    print("\ncrop + flip + affine of 13 channels of 16 bits")
    taken = {}
    for name, make in ROWS.items():
        try:
            runs = make("crop", picture)
        except Exception as error:  # whatever a peer does with such an image
            runs = {name: error}
        for label, run in runs.items():
            try:
                result = run() if callable(run) else (_ for _ in ()).throw(run)
                image = result["image"] if isinstance(result, dict) else result[0]
                kept = "uint16 values" if "float" not in str(image.dtype) else f"as {image.dtype} only"
                print(f"{label:32}takes it: {tuple(image.shape)}, {kept}")
                taken[label] = run
            except Exception as error:
                print(f"{label:32}refuses it: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
    report("the same, in time", measure(taken, 10), "albumentations", {})


def one_by_one(repeats):
    """Each transform that albumentations has too, alone: uint8, and the same picture as float32 where it differs."""
    try:
        import albumentations as A
    except ImportError:
        return
    affine = A.Affine(rotate=(-15, 15), scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), fill_mask=255, p=1)
    area = {"area_for_downscale": "image"}
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)
    pairs = {
        "HorizontalFlip": (A.HorizontalFlip(p=1), HorizontalFlip(1)),
        "VerticalFlip": (A.VerticalFlip(p=1), VerticalFlip(1)),
        "Rotate90": (A.RandomRotate90(p=1), Rotate90()),
        "RandomCrop to 512": (A.RandomCrop(SIZE, SIZE), RandomCrop(SIZE)),
        "CenterCrop to 512": (A.CenterCrop(SIZE, SIZE), CenterCrop(SIZE)),
        "PadTo 1024": (A.PadIfNeeded(1024, 1024, position="top_left", border_mode=0, fill_mask=255), PadTo(1024)),
        "Resize to 512": (A.Resize(SIZE, SIZE, **area), Resize(SIZE)),
        "RandomScale by 0.5 to 2": (A.RandomScale((-0.5, 1), p=1, **area), RandomScale((0.5, 2))),
        "RandomResizedCrop to 512": (
            A.RandomResizedCrop((SIZE, SIZE), scale=(0.25, 1), **area),
            RandomResizedCrop(SIZE),
        ),
        "RandomAffine": (affine, RandomAffine(15, translate=0.05)),
        "ElasticDeform": (
            A.ElasticTransform(alpha=50, sigma=10, fill_mask=255, p=1),
            ElasticDeform(6, spacing=48),
        ),
        "ColorJitter: brightness, contrast": (A.RandomBrightnessContrast(p=1), ColorJitter(0.2, 0.2)),
        "ColorJitter: all four": (
            A.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.1, 0.1), p=1),
            ColorJitter(0.2, 0.2, 0.2, 0.1),
        ),
        "GaussianNoise": (A.GaussNoise((0.02, 0.02), per_channel=True, p=1), GaussianNoise((0.02, 0.02))),
        "GaussianBlur": (A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 2), p=1), GaussianBlur((0.5, 2))),
        "Cutout": (A.CoarseDropout((1, 1), (0.1, 0.4), (0.1, 0.4), fill_mask=255, p=1), Cutout(1)),
        "Normalize": (A.Normalize(mean, std), Compose([ToTensor(), Normalize(mean, std)])),
    }
    picture = Picture()
    floats = picture.array.astype(np.float32) / 255, picture.image.float() / 255
    print(f"\neach alone, 768 x 1024 x 3{'':10}{'uint8, ms':>12}{'ratio':>8}{'float32, ms':>14}{'ratio':>8}")
    for name, (theirs, ours) in pairs.items():
        theirs, ours, line = A.Compose([theirs]), Compose([ours]), ""
        for array, image in ((picture.array, picture.image), floats):
            if name == "Normalize" and array is floats[0]:
                theirs, ours = A.Compose([A.Normalize(mean, std, max_pixel_value=1.0)]), Normalize(mean, std)
            times = measure(
                {
                    "theirs": lambda t=theirs, x=array: t(image=x, mask=picture.labels),
                    "ours": lambda t=ours, x=image: t(x, picture.mask),
                },
                repeats,
            )
            middle = {each: statistics.median(values) for each, values in times.items()}
            line += f"{middle['ours']:12.2f}{middle['ours'] / middle['theirs']:10.2f}"
        print(f"{name:34}{line}")


ROWS = {
    "albumentations": albumentations_row,
    "segkit": segkit_row,
    "torchvision v2": torchvision_row,
    "kornia": kornia_row,
}

MERGE = """
import resource, torch
from segkit.transforms import GridCrop, merge_crops
side, classes, crop = 4096, 21, GridCrop(512, 128)
boxes = crop.geometry((side, side))
logits = torch.empty(1, 1, classes, 512, 512).normal_().expand(1, len(boxes), classes, 512, 512)  # no room
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
merged = merge_crops(logits, boxes, (side, side))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * 1024 / merged.nbytes)
"""


def merge_memory():
    done = subprocess.run(
        [sys.executable, "-c", MERGE], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    crops = len(GridCrop(512, 128).geometry((4096, 4096)))
    print(f"\nmerge_crops of {crops} crops of 512 x 512 to 21 x 4096 x 4096: peak memory / output")
    print(f"{'segkit':32}{float(done.stdout):8.2f}   goal: at most 1.3")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")  # what the peers say about themselves
    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
    print(
        f"segkit {segkit.__version__}, torch {torch.__version__}, OpenCV {cv2.__version__}, "
        f"{platform.processor() or platform.machine()}, one thread"
    )
    goals = {
        "crop": ("crop + flip + affine", 1.0),
        "affine": ("affine + flip + crop: the crop of the picture, without a corner of fill", 1.0),
        "resize": ("resize with antialiasing", 1.2),
        "elastic": ("elastic deformation at 512 x 512", 1.0),
    }
    for name, (title, goal) in goals.items():
        picture = Picture(SIZE, SIZE) if name == "elastic" else Picture()
        candidates = {}
        for make in ROWS.values():
            candidates |= make(name, picture)
        report(title, measure(candidates, repeats), "albumentations", {"segkit": goal})
    who_takes_13_bands()
    one_by_one(max(20, repeats // 2))
    merge_memory()


if __name__ == "__main__":
    main()
