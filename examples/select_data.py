"""Look at the data first: audit it, count it, leave out what is unusable, and say so."""

from __future__ import annotations

import csv
import os
import pathlib
import warnings
from typing import NamedTuple

import numpy as np
from torch import Tensor

from segkit import IGNORE_INDEX, audit, stats
from segkit.datasets import Pair, find_pairs
from segkit.errors import DataError
from segkit.io import image_info, read_mask


class Data(NamedTuple):
    """What training needs to know of the files."""

    train: list[Pair]
    val: list[Pair]
    channels: list[int]  # those that vary; an opaque alpha says nothing
    mean: list[float]  # of each of them, in the units that PairDataset yields: [0, 1] for integers
    std: list[float]
    remap: dict[int, int]  # id in the masks → class, or 255 for "does not count"
    names: list[str]
    weights: Tensor  # per class, from their shares in the training masks
    area: float  # pixels of an image, on average

    def crops_per_image(self, crop: int, batch_size: int) -> int:
        """As many as cover an image, so that an epoch sees each pixel about once; more for a handful of images."""
        covering = min(16, max(1, round(self.area / crop**2)))
        return max(covering, 12 * batch_size // len(self.train))  # 12 batches are a short epoch


def look_at(options) -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files without partner come again below, as findings
        pairs = find_pairs(options.images, options.masks, pattern=options.pattern)
    report = audit.audit_dataset(
        options.images,
        options.masks,
        pattern=options.pattern,
        colors=options.colors,
        ignore_index=options.ignore_index,
    )
    report.to_html(options.out / "audit.html")
    usable = keep_usable(pairs, report)

    numbers = stats.dataset_statistics(usable, ignore_index=None, colors=options.colors)
    check_one_kind(usable, numbers)
    remap, names = choose_classes(usable, numbers, options)
    train, val = split(usable, options)
    pixels = np.zeros(len(names))
    for label, (count, _) in stats.dataset_statistics(train, ignore_index=None, colors=options.colors).labels.items():
        if remap[label] != IGNORE_INDEX:
            pixels[remap[label]] += count
    channels = choose_channels(numbers)
    print(f"{len(train)} pairs to train on, {len(val)} to test on, {numbers.kind[1]} channel(s) of {numbers.kind[0]}")
    for name, share in zip(names, pixels / max(1, pixels.sum()), strict=True):
        print(f"  {share:7.2%}  {name}")
    return Data(
        train=train,
        val=val,
        channels=channels,
        mean=(numbers.mean / numbers.scale)[channels].tolist(),
        std=(numbers.std / numbers.scale)[channels].tolist(),
        remap=remap,
        names=names,
        weights=stats.class_weights(pixels, "log"),
        area=sum(h * w * n for (h, w), n in numbers.sizes.items()) / numbers.images,
    )


_DECIDED_BELOW = ("foreground-is-ignored", "unexpected-channels")  # by choose_classes and check_one_kind


def keep_usable(pairs: list[Pair], report: audit.AuditReport) -> list[Pair]:
    """The pairs whose files have no finding of severity "error"; each of the others is named with its reason."""
    bad = {}
    for finding in report.findings:
        if finding.severity == "error" and finding.code not in _DECIDED_BELOW:
            for path in (finding.path, finding.related):
                if path:
                    bad.setdefault(os.fspath(path), finding)
    usable = [pair for pair in pairs if pair.image not in bad and pair.mask not in bad]
    for finding in dict.fromkeys(bad.values()):
        print(f"left out: {finding.path}: {finding.code}: {finding.reason}")
    if len(usable) < 2:
        raise DataError(
            f"at least two usable pairs are needed, got {len(usable)} of {len(pairs)}. "
            f"The files and the reasons are above, with pictures in the audit report."
        )
    return usable


def check_one_kind(pairs: list[Pair], numbers: stats.DatasetStatistics) -> None:
    """A network takes one number of channels; a few other images among many are not something to guess about."""
    if len({channels for _, channels in numbers.kinds}) < 2:
        return
    first: dict[int, str] = {}
    for pair in pairs:
        first.setdefault(image_info(pair.image).channels, pair.image)
    found = ", ".join(f"{channels} ({path})" for channels, path in sorted(first.items()))
    raise DataError(f"all images must have the same number of channels, got {found}. Convert them, or move them away.")


def choose_channels(numbers: stats.DatasetStatistics) -> list[int]:
    """All channels but those with one value in every image, as an opaque alpha has: jitter would make noise of it."""
    count = numbers.kind[1]
    varying = [channel for channel in range(count) if numbers.min[channel] < numbers.max[channel]]
    if not varying:
        raise DataError("the images must show something, got one value everywhere. Look at them with segkit info.")
    for channel in sorted(set(range(count)) - set(varying)):
        what = "an opaque alpha" if channel == count - 1 and count in (2, 4) else "constant in every image"
        print(f"left out: channel {channel} of {count} (from 0): {what}")
    return varying


def choose_classes(pairs: list[Pair], numbers: stats.DatasetStatistics, options) -> tuple[dict[int, int], list[str]]:
    """Which id of the masks is which class: as the flags say, else every id that was found."""
    found = sorted(numbers.labels)
    counted = [label for label in found if label != options.ignore_index]
    if options.binary:
        remap = {label: int(label != 0) for label in found}
        ids = [0, 1]
    elif (
        found == [0, 255]
        and options.classes is None
        and options.num_classes in (None, 2)
        and options.ignore_index == 255
    ):
        print("the masks hold 0 and 255 only: 255 is taken as class 1, not as 'ignored'")
        remap, ids = {0: 0, 255: 1}, [0, 255]
    else:
        ids = options.classes or (list(range(options.num_classes)) if options.num_classes else counted)
        strange = [label for label in counted if label not in ids]
        if strange and not options.classes:
            path = next(p.mask for p in pairs if strange[0] in read_mask(p.mask, colors=options.colors))
            raise DataError(
                f"every id in the masks must be in [0, {options.num_classes}) or {options.ignore_index} (ignored), got "
                f"{strange[0]} in {path}. Raise --num-classes, name the ids with --classes "
                f"{','.join(map(str, counted))}, or repair the mask."
            )
        if strange:
            print(f"not among --classes, so ignored: {strange}")
        remap = {label: ids.index(label) if label in ids else IGNORE_INDEX for label in found}
        remap[options.ignore_index] = IGNORE_INDEX
    if len(ids) < 2:
        raise DataError(f"at least two classes are needed, got the ids {found}. Name them with --classes.")
    names = options.class_names.split(",") if options.class_names else [f"class {label}" for label in ids]
    if len(names) != len(ids):
        raise DataError(f"--class-names must have {len(ids)} names for the ids {ids}, got {len(names)}.")
    return remap, names


def split(pairs: list[Pair], options) -> tuple[list[Pair], list[Pair]]:
    """By the column "split" of --pairs, else at random (the same for the same seed)."""
    if options.pairs is None:
        order = np.random.default_rng(options.seed).permutation(len(pairs))
        cut = min(len(pairs) - 1, max(1, round(len(pairs) * options.val_fraction)))
        return [pairs[i] for i in sorted(order[cut:])], [pairs[i] for i in sorted(order[:cut])]
    with open(options.pairs, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "split"} <= rows[0].keys():
        raise DataError(
            f"{options.pairs} must have the columns 'file' and 'split', got {list(rows[0]) if rows else []}."
        )
    part_of = {pathlib.Path(row["file"]).stem: row["split"] for row in rows}
    train = [pair for pair in pairs if part_of.get(pathlib.Path(pair.image).stem) == "train"]
    val = [pair for pair in pairs if part_of.get(pathlib.Path(pair.image).stem, "train") != "train"]
    if not train or not val:
        raise DataError(
            f"{options.pairs} must name images of 'train' and of another split, got {set(part_of.values())}."
        )
    return train, val
