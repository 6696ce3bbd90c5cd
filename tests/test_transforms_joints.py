"""Where transforms meet other parts: other libraries' transforms, users' functions, NumPy's numbers, empty batches."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segkit.transforms import (
    CenterCrop,
    Compose,
    FromAlbumentations,
    FromTorchvision,
    HorizontalFlip,
    Normalize,
    OnImage,
    RandomAffine,
    RandomCrop,
    Resize,
    ToTensor,
    functional,
)
from transforms_table import MOVING, VALUES


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"{name} is not installed: it belongs to the bench extra")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Drawn:
    """Stands for albumentations.Compose: what it does depends on its own seed alone."""

    seed = 0

    def set_random_seed(self, seed):
        self.seed = seed

    def __call__(self, image, mask=None):
        return {"image": np.full_like(image, self.seed % 251)}


def test_without_a_generator_albumentations_draws_as_torch_does_in_each_worker():
    ours = FromAlbumentations(Drawn())
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)

    def epoch(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # as a DataLoader seeds its workers
            return [int(ours(image).flatten()[0]) for _ in range(8)]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
    assert len(set(epoch(1))) > 1


@pytest.mark.parametrize("factor", [2, 7, 8, 13, 20])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.int32])
def test_a_resize_without_antialiasing_is_exact_at_any_factor(factor, dtype):
    ramp = torch.arange(factor * 12, dtype=torch.float64)
    image = torch.stack([ramp[:, None].expand(-1, len(ramp)), ramp.expand(len(ramp), -1)]).to(dtype)
    expected = F.interpolate(image.double()[None], (12, 12), mode="bilinear")[0]
    resized = Resize(12, antialias=False)(image)
    assert (resized.double() - expected).abs().max() <= (0.5 if not dtype.is_floating_point else 1e-4)


class PadsWithZero(torch.nn.Module):
    """Stands for v2.CenterCrop: it fills with 0 and cannot be told otherwise."""

    def forward(self, image, mask):
        return F.pad(image, (2, 2)), F.pad(mask, (2, 2)).as_subclass(type(mask))


@pytest.mark.parametrize("fill", [255, 7])
def test_what_fills_a_mask_with_0_fills_it_with_the_ignored_label(fill, monkeypatch):
    class Kind(torch.Tensor):
        pass

    kinds = type(
        "tv_tensors",
        (),
        {"Image": staticmethod(lambda x: x.as_subclass(Kind)), "Mask": staticmethod(lambda x: x.as_subclass(Kind))},
    )
    monkeypatch.setitem(__import__("sys").modules, "torchvision.tv_tensors", kinds)
    mask = torch.randint(4, (5, 6), generator=seeded(), dtype=torch.uint8)
    mask[0] = fill
    kept = mask.clone()
    _, padded = FromTorchvision(PadsWithZero(), mask_fill=fill)(torch.rand(3, 5, 6), mask)
    assert torch.equal(padded[:, 2:-2], mask)
    assert (padded[:, :2] == fill).all()
    assert torch.equal(mask, kept)


def test_a_center_crop_of_torchvision_fills_the_mask_with_the_ignored_label():
    v2 = library("torchvision.transforms.v2")
    mask = torch.zeros(10, 12, dtype=torch.uint8)
    for theirs in (v2.CenterCrop((16, 16)), v2.Compose([v2.CenterCrop((16, 16))]), v2.Pad(4), v2.RandomZoomOut(p=1)):
        image, labels = FromTorchvision(theirs)(torch.ones(1, 10, 12), mask, generator=seeded())
        assert torch.equal(image[0] == 0, labels == 255)


@pytest.mark.parametrize("name", [*MOVING, *VALUES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
def test_an_empty_batch_passes_through_on_every_way(name, dtype):
    transform = (MOVING | VALUES)[name]
    if name == "Normalize" and not dtype.is_floating_point:
        return
    images, masks = torch.zeros(0, 3, 23, 27, dtype=dtype), torch.zeros(0, 23, 27, dtype=torch.uint8)
    for batch in (images, images.clone().requires_grad_()) if dtype.is_floating_point else (images,):
        moved, labels = transform(batch, masks, generator=seeded())
        assert len(moved) == len(labels) == 0
        assert moved.shape[-2:] == labels.shape[-2:]


def test_a_crop_with_labelled_pixels_is_never_ignored_altogether():
    mask = torch.full((200, 200), 255, dtype=torch.uint8)
    mask[90:110, 90:110] = 1
    image = torch.zeros(1, 200, 200)
    crop = RandomCrop(32, min_labelled=0.02)
    assert all((crop(image, mask, generator=seeded(s))[1] != 255).any() for s in range(60))
    in_a_row = Compose([HorizontalFlip(), RandomAffine(5), crop])
    assert all((in_a_row(image, mask, generator=seeded(s))[1] != 255).any() for s in range(20))
    assert crop(image, torch.full_like(mask, 255)).__class__ is tuple  # nothing is labelled: anywhere
    assert crop(image).shape == (1, 32, 32)
    half = RandomCrop(32, min_labelled=0.5)
    mask[:, :100] = 0
    shares = [(half(image, mask, generator=seeded(s))[1] != 255).double().mean() for s in range(40)]
    assert np.mean([float(share) >= 0.5 for share in shares]) > 0.9


def test_a_crop_contains_any_of_several_classes_each_equally_likely():
    mask = torch.zeros(100, 100, dtype=torch.uint8)
    mask[:40, :40], mask[90, 90] = 1, 2
    crop = RandomCrop(5, focus_class=(1, 2, 9))
    seen = [crop(torch.zeros(1, 100, 100), mask, generator=seeded(s))[1] for s in range(200)]
    assert all(((labels == 1) | (labels == 2)).any() for labels in seen)
    assert 70 < sum(bool((labels == 2).any()) for labels in seen) < 130
    row = Compose([HorizontalFlip(), crop])
    assert (row(torch.zeros(1, 100, 100), mask, focus_class=[2, 9])[1] == 2).any()
    with pytest.raises(ValueError, match="`focus_class` must name at least one class"):
        RandomCrop(5, focus_class=())


def test_numbers_of_numpy_are_numbers():
    assert RandomCrop(np.int64(8)).size == (8, 8)
    assert Resize(np.array([8, 9])).size == (8, 9)
    assert Resize(tuple(np.array([8, 9]))).size == (8, 9)
    assert RandomAffine(np.float32(10)).degrees == (-10.0, 10.0)
    for wrong in (np.array([8, 9, 10]), np.float64(8), np.bool_(True), np.array(8.5)):
        with pytest.raises(ValueError, match=r"`size` must be an int or \(height, width\)"):
            Resize(wrong)


@pytest.mark.parametrize("transform", [RandomCrop(8), Compose([RandomCrop(8)])], ids=["alone", "row"])
@pytest.mark.parametrize("wrong", [0, np.random.default_rng(0)], ids=["seed", "numpy"])
def test_chance_that_is_not_torchs_is_refused_with_what_to_type(transform, wrong):
    with pytest.raises(TypeError, match=r"`generator` must be a torch.Generator or None.*manual_seed\(0\)"):
        transform(torch.zeros(3, 20, 20), generator=wrong)


def test_a_member_that_does_not_take_both_is_refused_with_the_adapter_to_use():
    def both(image, mask):
        return image, mask

    for wrong, remedy in (
        (lambda image: image, r"Wrap a function of the image alone in OnImage\(\.\.\.\)"),
        (both, "give another the keyword `generator`"),
        (torch.nn.Identity(), r"Identity of torch. Wrap it in OnImage\(\.\.\.\)"),
    ):
        with pytest.raises(TypeError, match=rf"Compose: `transforms` at 1 must take .*{remedy}"):
            Compose([HorizontalFlip(), wrong])
    for package, adapter in (
        ("torchvision.transforms.v2", "FromTorchvision"),
        ("albumentations", "FromAlbumentations"),
    ):
        theirs = type("RandomHorizontalFlip", (), {"__module__": package, "__call__": lambda self, *inputs: inputs})()
        with pytest.raises(TypeError, match=rf"Wrap it in {adapter}\(\.\.\.\)"):
            Compose([theirs])
    assert Compose([lambda image, mask=None, *, generator=None: image, OnImage(torch.sqrt)])(torch.ones(1, 2, 2)).all()


def test_axes_in_another_order_are_named():
    with pytest.raises(ValueError, match=r"Its channel axis stands last: pass mask.squeeze\(-1\)"):
        RandomCrop(2)(torch.zeros(3, 5, 6), torch.zeros(5, 6, 1, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"channel axis stands last: pass image.movedim\(-1, -3\)"):
        RandomCrop(2)(torch.zeros(20, 21, 3), torch.zeros(20, 21, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"If the channel axis stands last, pass image.movedim\(-1, -3\)"):
        RandomCrop(16)(torch.zeros(20, 20, 3))


def test_pictures_of_pillow_and_masks_with_a_last_axis_become_tensors():
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    image, mask = ToTensor()(Image.fromarray(pixels), Image.fromarray(pixels[..., 0]))
    assert torch.equal(image, ToTensor()(pixels))
    assert torch.equal(mask, torch.from_numpy(pixels[..., 0].copy()))
    assert torch.equal(ToTensor()(pixels, pixels[..., :1])[1], mask)
    with pytest.raises(TypeError, match=r"`image` must be a tensor .* got str"):
        ToTensor()("a.png")


def test_numbers_of_bytes_on_a_scaled_image_are_told_once():
    image = torch.rand(3, 40, 40, generator=seeded())
    of_bytes = Normalize([123.7, 116.3, 103.5], [58.4, 57.1, 57.4])
    with pytest.warns(
        UserWarning, match=r"Normalize: `mean` and `std` must be in the image's units.*Divide both by 255"
    ) as told:
        of_bytes(image), of_bytes(image)
    assert len(told) == 1
    Normalize([123.7, 116.3, 103.5], [58.4, 57.1, 57.4])(image * 255)
    Normalize(0.5, 0.25)(image)
    assert functional.normalize(image, mean=100.0, std=1.0).shape == image.shape
    assert CenterCrop(3)(image).shape == (3, 3, 3)
