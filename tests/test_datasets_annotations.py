"""PairDataset with annotations instead of mask files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import annotation_files as files
from annotation_files import CLASSES, HEIGHT, WIDTH, write
from segkit import annotations, transforms
from segkit.datasets import PairDataset, find_images, find_pairs
from segkit.errors import DataError
from segkit.io import write_image, write_mask


@pytest.fixture
def here(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    content = files.coco()
    content["images"] = []
    for i in range(4):
        write_image(tmp_path / "images" / f"{i}.png", rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        content["images"].append({"id": i + 7, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH})
        write_mask(tmp_path / "masks" / f"{i}.png", files.expected() if i == 0 else np.zeros((HEIGHT, WIDTH), np.uint8))
    write(tmp_path / "c.json", content)
    return tmp_path


def both(here, **options):
    """The same data set from annotations, and from the masks that they are."""
    drawn = annotations.read(here / "c.json")
    one = PairDataset(find_images(here / "images"), masks=drawn.masks(classes=CLASSES), **options)
    return one, PairDataset(find_pairs(here / "images", here / "masks"), **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform": transforms.Compose([transforms.RandomCrop(16), transforms.HorizontalFlip()])},
        {"transform": transforms.RandomCrop(16, focus_class=2)},
        {"remap": {0: 0, 1: 5, 2: 6}},
        {"as_tuple": "index", "mask_dtype": torch.int64},
    ],
)
def test_samples_are_those_of_the_masks_as_files(here, options):
    for i in range(4):
        samples = []
        for dataset in both(here, **options):
            torch.manual_seed(i)
            sample = dataset[i]
            samples.append(sample if isinstance(sample, tuple) else (sample["image"], sample["mask"]))
        for ours, theirs in zip(*samples, strict=True):
            assert ours.dtype == theirs.dtype if isinstance(ours, torch.Tensor) else True
            assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_draw_the_same_masks(here, method):
    ours, theirs = both(here)
    loader = DataLoader(ours, batch_size=2, num_workers=2, multiprocessing_context=method)
    masks = torch.cat([batch["mask"] for batch in loader])
    assert torch.equal(masks, torch.stack([theirs[i]["mask"] for i in range(4)]))


def test_of_a_crop_only_the_window_is_drawn(here):
    asked = []

    def draw(image, size, window=None):
        asked.append(window)
        return np.zeros(size if window is None else window[2:], np.uint8)

    crop = transforms.RandomCrop(16)
    PairDataset(find_images(here / "images"), masks=draw, transform=crop)[0]
    PairDataset(find_images(here / "images"), masks=draw)[0]
    assert asked[0][2:] == (16, 16)
    assert asked[1] is None
    whole = PairDataset(find_images(here / "images"), masks=lambda image, size: np.ones(size, np.uint8), transform=crop)
    assert whole[0]["mask"].shape == (16, 16)


def test_parts_and_sums_draw_too(here):
    ours, theirs = both(here)
    part = (ours + ours).datasets[1].split([[0, 2], [1, 3]])[0]
    assert torch.equal(part[0]["mask"], theirs[0]["mask"])
    assert part.pair(1).image.endswith("2.png")


def test_what_does_not_belong_together_is_refused(here):
    drawn = annotations.read(here / "c.json")
    with pytest.raises(DataError, match="got 'dog' besides 'cat'"):
        drawn.masks(classes=["cat"])
    with pytest.raises(ValueError, match="with `masks` item 0 of `pairs` must be the path of an image"):
        PairDataset([("a.png", "b.png")], masks=drawn.masks(classes=CLASSES))
    write_image(here / "images" / "9.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="must be a picture of .*, got .*9.png"):
        PairDataset([here / "images" / "9.png"], masks=drawn.masks(classes=CLASSES))[0]
    content = json.loads((here / "c.json").read_text())
    content["images"][0].update(height=WIDTH, width=HEIGHT)
    write(here / "c.json", content)
    other = annotations.read(here / "c.json").masks(classes=CLASSES)
    with pytest.raises(DataError, match="EXIF orientation"):
        PairDataset(find_images(here / "images")[:1], masks=other)[0]
    with pytest.raises(DataError, match="`masks` must give integers of the size of .*, got float64"):
        PairDataset(find_images(here / "images")[:1], masks=lambda image, size: np.zeros(size))[0]
