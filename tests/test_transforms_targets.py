"""Skeletons and distance maps, held against SciPy and scikit-image."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.data import binary_blobs
from skimage.morphology import skeletonize

from segkit.transforms import Compose, DistanceMaps, FiveCrop, HorizontalFlip, RandomCrop, SkeletonTarget, functional

EIGHT = np.ones((3, 3))


def blobs(seed, size=96):
    return binary_blobs(size, rng=seed, volume_fraction=0.45, blob_size_fraction=0.12)


@pytest.mark.parametrize("seed", range(5))
def test_a_skeleton_is_thin_and_hangs_together_as_its_region_does(seed):
    region = blobs(seed)
    region[:4] = region[-1] = region[:, 0] = region[:, -1] = False
    region[1:3, 1:3] = region[1, 6] = region[2, 20:22] = True  # tiny parts have a line too
    lines = functional.skeleton(torch.from_numpy(region.astype(np.int64)), radius=0).numpy() == 1
    assert not (lines & ~region).any()
    assert ndimage.label(lines, EIGHT)[1] == ndimage.label(region, EIGHT)[1]
    assert ndimage.label(~lines)[1] == ndimage.label(~region)[1]  # and it has the same holes
    assert ndimage.convolve(lines.astype(int), np.ones((2, 2))).max() < 4
    theirs = skeletonize(region)  # another variant of the same thinning: the lines lie within a pixel of each other
    assert ndimage.distance_transform_edt(~theirs)[lines].max() < 3
    assert np.mean(ndimage.distance_transform_edt(~theirs)[lines] <= 1) > 0.95


def test_a_skeleton_is_a_target_with_ignore_off_the_lines():
    mask = torch.zeros(2, 30, 40, dtype=torch.uint8)
    mask[0, 10:19] = 2
    mask[1, :, 20:25] = 3
    mask[0, :5] = 255
    lines = functional.skeleton(mask, radius=1)
    assert lines.dtype == torch.uint8
    assert set(lines.unique().tolist()) == {2, 3, 255}
    assert (lines[mask != lines] == 255).all()
    assert (lines[0, :, 15] == 2).nonzero()[:, 0].tolist() == [13, 14, 15]
    assert (lines[1, 15] == 3).nonzero()[:, 0].tolist() == [21, 22, 23]
    thin = torch.zeros(9, 9, dtype=torch.uint8)
    thin[:, 4] = 1
    assert torch.equal(functional.skeleton(thin, radius=2) == 1, thin == 1)  # never beyond their own class
    everything = functional.skeleton(mask, radius=1, background=None)
    assert (everything == 0).any()


@pytest.mark.parametrize(("dtype", "label"), [(torch.uint8, -1), (torch.uint8, 511), (torch.int8, 255)], ids=str)
def test_a_label_that_no_pixel_can_hold_cannot_stand_off_the_lines(dtype, label):
    mask = torch.zeros(9, 9, dtype=dtype)
    with pytest.raises(ValueError, match=rf"skeleton: `ignore_index` must fit into the dtype.*{dtype}.*got {label}"):
        functional.skeleton(mask, ignore_index=label)


@pytest.mark.parametrize("seed", range(3))
def test_distance_maps_are_exact_and_signed(seed):
    mask = blobs(seed).astype(np.int64) + 2 * blobs(seed + 10)
    mask[30:35, 10:50] = 255
    maps = functional.distance_maps(torch.from_numpy(mask), num_classes=5).numpy()
    assert maps.shape == (5, 96, 96)
    assert maps.dtype == np.float32
    for label in range(4):
        inside = mask == label
        expected = np.where(inside, 1 - ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside))
        assert np.abs(maps[label] - np.where(mask == 255, 0, expected)).max() < 1e-4
    assert (maps[4] == 0).all()  # a class that is not there


def test_distance_maps_are_the_same_bits_wherever_their_memory_lies():
    mask = torch.zeros(40, 53, dtype=torch.uint8)
    mask[10:25, 12:30] = 1
    draw, kept, found = np.random.default_rng(0), [], set()
    for _ in range(300):
        kept = [np.empty(length, np.uint8) for length in draw.integers(1, 5000, 3)]  # moves what is allocated next
        found.add(functional.distance_maps(mask, num_classes=2).numpy().tobytes())
    assert kept
    assert len(found) == 1


def test_one_class_alone_is_inside_everywhere():
    maps = functional.distance_maps(torch.zeros(2, 5, 6, dtype=torch.uint8), num_classes=2)
    assert maps.shape == (2, 2, 5, 6)
    assert (maps == 0).all()
    lines = functional.distance_maps(torch.full((4, 4), 255), num_classes=2)
    assert (lines == 0).all()


def test_targets_are_made_at_the_end_of_a_row():
    image, mask = torch.rand(3, 40, 40), torch.zeros(40, 40, dtype=torch.uint8)
    mask[10:30, 18:22] = 1
    row = Compose([HorizontalFlip(1), RandomCrop(32), SkeletonTarget(), DistanceMaps(2)])
    generator = torch.Generator().manual_seed(0)
    _, targets = row(image, mask, generator=generator)
    assert list(targets) == ["mask", "skeleton", "distance_maps"]
    assert torch.equal(targets["skeleton"], functional.skeleton(targets["mask"]))
    assert torch.equal(targets["distance_maps"], functional.distance_maps(targets["mask"], num_classes=2))
    _, crops = Compose([FiveCrop(16), DistanceMaps(2)])(image, mask)
    assert crops["distance_maps"].shape == (5, 2, 16, 16)
    assert repr(pickle.loads(pickle.dumps(row))) == repr(row)


def test_what_makes_no_target_is_refused():
    image, mask = torch.zeros(1, 4, 4), torch.full((4, 4), 7)
    with pytest.raises(ValueError, match=r"distance_maps: `mask` must hold labels in \[0, 3\) or 255, got \[7\]"):
        DistanceMaps(3)(image, mask)
    with pytest.raises(ValueError, match=r"SkeletonTarget: `mask` must be given"):
        SkeletonTarget()(image)
    with pytest.raises(ValueError, match=r"`radius` must be a finite number"):
        SkeletonTarget(radius=-1)
    with pytest.raises(TypeError, match=r"must be a torch.Tensor, got dict.* must come last"):
        Compose([DistanceMaps(8), HorizontalFlip()])(image, mask)
