"""Transforms of other libraries keep masks nearest, fill with ignore, and draw from the generator of the call.

Where the library is not installed, a stand-in with its interface shows what the adapter does to it.
"""

from __future__ import annotations

import importlib
import pickle
import warnings

import numpy as np
import pytest
import torch

from segkit.transforms import Compose, FromAlbumentations, FromTorchvision, HorizontalFlip, OnImage, PerSample


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a library says about itself while it is imported is not our concern
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed: it belongs to the bench extra")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(channels=3, dtype=torch.uint8):
    image = torch.randint(256, (channels, 33, 41), generator=seeded())
    mask = torch.randint(1, 5, (33, 41), generator=seeded(1))
    mask[:4] = 255
    return (image.to(dtype) if dtype == torch.uint8 else image.to(dtype) / 255), mask


class Rotate:
    """Stands for albumentations.Affine."""

    def __init__(self):
        self.fill_mask = 0
        self.mask_interpolation = 1
        self.random_generator = np.random.default_rng(0)


class Dropout:
    """Stands for albumentations.CoarseDropout, which leaves the mask alone."""

    fill_mask = None


class Row:
    """Stands for albumentations.Compose."""

    def __init__(self, transforms):
        self.transforms = transforms
        self.seed = None

    def set_random_seed(self, seed):
        self.seed = seed

    def __call__(self, image, mask=None):
        assert image.flags.c_contiguous
        assert image.ndim == 3
        shift = int(np.random.default_rng(self.seed).integers(1, 9))
        done = {"image": np.roll(image, shift, 1)}
        if mask is not None:
            assert mask.dtype == np.uint8
            done["mask"] = np.roll(mask, shift, 1)
            done["mask"][:, :shift] = self.transforms[0].fill_mask
        return done


def test_masks_are_nearest_and_filled_with_ignore_in_a_copy_of_the_transform():
    theirs = Row([Rotate(), Dropout()])
    ours = FromAlbumentations(theirs)
    assert (ours.transform.transforms[0].fill_mask, ours.transform.transforms[0].mask_interpolation) == (255, 0)
    assert ours.transform.transforms[1].fill_mask is None
    assert (theirs.transforms[0].fill_mask, theirs.transforms[0].mask_interpolation) == (0, 1)
    image, mask = picture()
    moved, labels = ours(image, mask, generator=seeded(3))
    again, _ = ours(image, mask, generator=seeded(3))
    assert torch.equal(moved, again)
    assert (moved.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert (labels[:, 0] == 255).all()
    assert torch.equal(ours(image, generator=seeded(3)), moved)


@pytest.mark.parametrize(
    ("dtype", "taken"),
    [(torch.float16, np.float32), (torch.bfloat16, np.float32), (torch.float64, np.float32), (torch.bool, np.uint8)],
)
def test_what_opencv_has_no_kind_for_is_handed_over_as_another_and_comes_back(dtype, taken):
    seen = []

    class Looks(Row):
        def __call__(self, image, mask=None):
            seen.append(image.dtype)
            return {"image": image}

    image = (torch.rand(3, 4, 5, generator=seeded()) > 0.5).to(dtype)
    moved = FromAlbumentations(Looks([]))(image)
    assert seen == [taken]
    assert torch.equal(moved, image)
    assert moved.dtype == dtype


def test_sixteen_bits_in_int32_reach_the_transform_as_uint16_and_come_back():
    seen = []

    class Looks(Row):
        def __call__(self, image, mask=None):
            seen.append(image.dtype)
            return {"image": image[..., 0]}  # some transforms drop the axis of a grey picture

    image = torch.randint(65_536, (1, 4, 5), dtype=torch.int32)
    moved = FromAlbumentations(Looks([]))(image)
    assert seen == [np.uint16]
    assert torch.equal(moved, image)
    assert moved.dtype == torch.int32


def test_a_last_to_tensor_of_albumentations_is_left_out_and_what_moves_is_no_function_of_the_image_alone():
    class ToTensorV2:
        def __call__(self, image, mask):
            raise AssertionError("the adapter makes tensors itself")

    row = Row([Rotate(), ToTensorV2()])
    assert [type(member) for member in FromAlbumentations(row).transform.transforms] == [Rotate]
    assert len(row.transforms) == 2  # the user's own stays as it was
    flip = type("RandomHorizontalFlip", (Mirrored,), {"__module__": "torchvision.transforms.v2._geometry"})()
    with pytest.raises(TypeError, match="RandomHorizontalFlip of torchvision, which moves .* Use FromTorchvision"):
        OnImage(flip)
    with pytest.raises(TypeError, match="which moves"):
        OnImage(Row([flip]))


class Mirrored:
    def __call__(self, image):
        return image.flip(-1)


def test_what_the_adapters_cannot_take_is_refused():
    image, mask = picture()
    ours = FromAlbumentations(Row([Rotate()]))
    with pytest.raises(ValueError, match=r"must be one image \[C, H, W\].*PerSample\(FromAlbumentations"):
        ours(image[None], mask[None])
    with pytest.raises(ValueError, match=r"`mask` must hold values in \[0, 255\], got 1000 to 1255"):
        ours(image, mask.clamp(0, 255) % 1 + 1000 + (mask == 255) * 255)
    for adapter in (FromAlbumentations, FromTorchvision):
        with pytest.raises(TypeError, match="`transform` must be callable"):
            adapter(3)
        with pytest.raises(ValueError, match="can hold mask_fill=255, got torch.bool"):
            adapter(Row([Rotate()]) if adapter is FromAlbumentations else torch.nn.Identity())(image, mask > 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_albumentations_keeps_labels_and_ignores_what_is_outside(dtype, channels):
    albumentations = library("albumentations")
    image, mask = picture(channels, dtype)
    theirs = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Affine(scale=(0.5, 0.7), rotate=(-30, 30), p=1),
            albumentations.ElasticTransform(alpha=20, sigma=5, p=1),
        ]
    )
    row = Compose([FromAlbumentations(theirs), HorizontalFlip()])
    first, again, other = (row(image, mask, generator=seeded(seed)) for seed in (1, 1, 2))
    for moved, labels in (first, other):
        assert (moved.shape, moved.dtype) == (image.shape, dtype)
        assert labels.dtype == mask.dtype
        assert set(labels.unique().tolist()) <= {1, 2, 3, 4, 255}
        assert (labels[0] == 255).float().mean() > 0.8
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert pickle.loads(pickle.dumps(row))(image, mask, generator=seeded(1))[0].equal(first[0])


def test_torchvision_keeps_labels_and_ignores_what_is_outside():
    v2 = library("torchvision.transforms.v2")
    image, mask = picture()
    theirs = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomAffine(30, scale=(0.5, 0.7)), v2.ColorJitter(0.5)])
    ours = FromTorchvision(theirs)
    state = torch.get_rng_state()
    first, again, other = (ours(image, mask, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert type(first[0]) is type(first[1]) is torch.Tensor
    assert set(first[1].unique().tolist()) <= {1, 2, 3, 4, 255}
    assert (first[1][0] == 255).float().mean() > 0.8
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert (theirs(library("torchvision.tv_tensors").Mask(mask))[0] == 0).any(), "theirs is left as it was"
    images, masks = PerSample(ours)(image.expand(2, 3, 33, 41), mask.expand(2, 33, 41), generator=seeded(1))
    assert not torch.equal(images[0], images[1])
    assert masks.shape == (2, 33, 41)


def test_torchvision_is_imported_only_when_an_image_comes(monkeypatch):
    ours = FromTorchvision(torch.nn.Identity())
    monkeypatch.setitem(__import__("sys").modules, "torchvision.tv_tensors", None)
    with pytest.raises(ImportError, match="torchvision must be installed to run its transforms"):
        ours(picture()[0])
