"""Skeletons and distance maps, held against SciPy and scikit-image."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.data import binary_blobs
from skimage.morphology import skeletonize

from segkit.transforms import (
    BorderWeights,
    ComponentRegions,
    Compose,
    DistanceMaps,
    FiveCrop,
    HorizontalFlip,
    RandomCrop,
    SkeletonTarget,
    functional,
)

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


SPACINGS = [None, (1.0, 1.0), (0.5, 2.0), (1.0, 1.0, 1.0), (3.0, 1.0, 0.5)]


def some_mask(seed, spacing, classes=3):
    draw = np.random.default_rng(seed)
    size = draw.integers(1, 9, 2 if spacing is None else len(spacing))
    mask = draw.integers(0, classes, size) * (draw.random(size) < draw.random())
    mask[draw.random(size) < 0.1] = 255
    return torch.from_numpy(mask.astype(np.uint8))


def distances(mask, spacing):
    """From each pixel to each other, by coordinates: [*spatial, *spatial]."""
    lengths = np.array((1.0,) * mask.ndim if spacing is None else spacing)
    at = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), -1) * lengths
    flat = at.reshape(-1, mask.ndim)
    return np.sqrt(((flat[:, None] - flat[None]) ** 2).sum(-1))


def objects_of(mask):
    """The parts of each class but 0 and 255, as flat bool masks with their class."""
    found = []
    for label in (1, 2):
        parts, number = ndimage.label(mask.numpy() == label, np.ones((3,) * mask.ndim))
        found += [(label, (parts == k).ravel()) for k in range(1, number + 1)]
    return found


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_regions_and_border_weights_are_those_of_all_pairs_of_pixels(spacing, seed):
    mask = some_mask(seed, spacing)
    regions = functional.component_regions(mask, spacing=spacing)
    weights = functional.border_weights(mask, weight=4.0, sigma=2.5, spacing=spacing).numpy().ravel()
    assert regions.dtype == torch.int32
    objects, between = objects_of(mask), distances(mask, spacing)
    flat = mask.numpy().ravel()
    to_each = np.array([between[:, inside].min(1) for _, inside in objects]).reshape(len(objects), len(flat))
    if not objects:
        assert not regions.any()
    else:
        number, label = regions.numpy().ravel() // 65536, regions.numpy().ravel() % 65536
        named = {int(number[inside][0]): k for k, (_, inside) in enumerate(objects)}
        assert sorted(named) == list(range(1, len(objects) + 1))
        nearest = np.array([named[n] for n in number.tolist()])
        assert np.allclose(to_each[nearest, np.arange(len(flat))], to_each.min(0), rtol=1e-6)  # of equal ones either
        assert (label == np.array([c for c, _ in objects])[nearest]).all()
        assert all((nearest[inside] == k).all() for k, (_, inside) in enumerate(objects))
    two = np.sort(np.concatenate([to_each, np.full((2, len(flat)), np.inf)]), 0)[:2].sum(0)
    expected = np.where(flat == 0, 1 + 4 * np.exp(-(two**2) / 12.5), flat != 255)
    assert np.allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS[1:], ids=str)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_distances_have_the_length_of_a_pixel_along_each_axis(spacing, seed):
    mask = some_mask(seed, spacing)
    maps, between = functional.distance_maps(mask, num_classes=3, spacing=spacing).numpy(), distances(mask, spacing)
    for label in range(3):
        inside = mask.numpy().ravel() == label
        if not inside.any():
            assert not maps[label].any()
            continue
        away = between[:, inside].min(1)
        into = between[:, ~inside].min(1) - min(spacing) if not inside.all() else np.zeros(len(inside))
        expected = np.where(mask.numpy().ravel() == 255, 0, np.where(inside, -into, away))
        assert np.allclose(maps[label].ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_skeleton_of_a_volume_is_thin_and_hangs_together_as_its_region_does(seed):
    region = ndimage.gaussian_filter(np.random.default_rng(seed).random((20, 24, 28)), 2) > 0.5
    region[:3] = False
    region[:2, :2, :2] = True  # a cube that peels away altogether has a line, too
    lines = functional.skeleton(torch.from_numpy(region.astype(np.uint8)), radius=0, spacing=(1, 1, 1)).numpy() == 1
    assert not (lines & ~region).any()
    assert ndimage.label(lines, np.ones((3, 3, 3)))[1] == ndimage.label(region, np.ones((3, 3, 3)))[1]
    assert lines.sum() < 0.2 * region.sum()
    wide = functional.skeleton(torch.from_numpy(region.astype(np.uint8)), radius=1, spacing=(1, 1, 1)).numpy() == 1
    assert (wide == (ndimage.binary_dilation(lines, np.ones((3, 3, 3))) & region)).all()
    thin = torch.zeros(5, 9, 9, dtype=torch.uint8)
    thin[2, 4, :] = 1
    assert torch.equal(functional.skeleton(thin, spacing=(1, 1, 1)) == 1, thin == 1)


def test_targets_of_volumes_are_made_beside_the_mask():
    image, mask = torch.zeros(2, 4, 6, 5), torch.zeros(4, 6, 5, dtype=torch.uint8)
    mask[1, 1:3], mask[3, 5] = 1, 2
    row = Compose([SkeletonTarget(spacing=(2, 1, 1)), DistanceMaps(3, spacing=(2, 1, 1))])
    _, targets = BorderWeights(spacing=(2, 1, 1))(*ComponentRegions(spacing=(2, 1, 1))(image, mask))
    assert {name: tuple(t.shape) for name, t in targets.items()} == {
        "mask": (4, 6, 5), "component_regions": (4, 6, 5), "pixel_weights": (4, 6, 5)
    }  # fmt: skip
    assert row(image, mask)[1]["distance_maps"].shape == (3, 4, 6, 5)
    with pytest.raises(ValueError, match=r"DistanceMaps: `image` and `mask` must be \[..., C, D, H, W\]"):
        DistanceMaps(3, spacing=(2, 1, 1))(image, mask[0])
    with pytest.raises(ValueError, match="distance_maps: `spacing` must hold two or three lengths above 0"):
        functional.distance_maps(mask, num_classes=3, spacing=(1, 0, 1))


@pytest.mark.parametrize("make", [ComponentRegions(), BorderWeights(sigma=3.0), BorderWeights(spacing=(2.0, 1.0))])
def test_the_new_targets_are_pickled_and_shown(make):
    same = pickle.loads(pickle.dumps(make))
    assert repr(same) == repr(make)
    mask = torch.randint(0, 2, (8, 9), generator=torch.Generator().manual_seed(0))
    found, again = make(torch.zeros(1, 8, 9), mask)[1], same(torch.zeros(1, 8, 9), mask)[1]
    assert all(torch.equal(found[name], again[name]) for name in found)
    batch = make(torch.zeros(2, 1, 8, 9), torch.stack([mask, mask]))[1]
    assert all(torch.equal(batch[name][0], found[name]) for name in found)


def test_what_is_missing_for_volumes_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    mask = torch.zeros(2, 3, 4, dtype=torch.uint8)
    mask[0, 0] = 1
    assert functional.component_regions(mask).any()  # pictures need nothing
    with pytest.raises(ImportError, match="need scipy. Type pip install scipy"):
        functional.component_regions(mask, spacing=(1, 1, 1))


def test_more_objects_than_have_numbers_are_refused():
    mask = torch.zeros(600, 600, dtype=torch.uint8)
    mask[::2, ::2] = 1
    with pytest.raises(ValueError, match="component_regions: `mask` must have at most 32,767 objects.*got 90,000"):
        functional.component_regions(mask)
