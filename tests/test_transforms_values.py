"""Colour, noise, blur and holes: what they change, what they leave, and for any number of channels."""

from __future__ import annotations

import colorsys
import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage

from segkit.transforms import (
    ColorJitter,
    Compose,
    Cutout,
    GaussianBlur,
    GaussianNoise,
    Normalize,
    OnImage,
    ToTensor,
    functional,
)
from transforms_table import VALUES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_brightness_contrast_and_their_identity():
    image = torch.rand(13, 9, 11, generator=seeded(), dtype=torch.float64)
    assert functional.adjust_color(image) is image
    assert torch.equal(functional.adjust_color(image, brightness=0.5), image * 0.5)
    mean = image.mean((1, 2), keepdim=True)
    assert torch.allclose(functional.adjust_color(image, contrast=2.0), mean + 2 * (image - mean))
    assert torch.allclose(functional.adjust_color(image, contrast=0.0), mean.expand_as(image))


def test_saturation_and_hue_leave_greys_and_turn_colours():
    grey = torch.rand(1, 5, 6, generator=seeded()).expand(3, 5, 6)
    assert torch.allclose(functional.adjust_color(grey, saturation=1.7, hue=0.3), grey, atol=2e-4)  # YIQ has 4 digits
    image = torch.rand(3, 5, 6, generator=seeded(1))
    no_color = functional.adjust_color(image, saturation=0.0)
    assert torch.allclose(no_color[0], 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2], atol=1e-3)
    back = functional.adjust_color(functional.adjust_color(image, hue=0.5), hue=-0.5)
    assert torch.allclose(back, image, atol=1e-4)
    red = torch.tensor([0.6, 0.3, 0.3])[:, None, None]
    turned = functional.adjust_color(red, hue=1 / 3).flatten().tolist()
    hue = colorsys.rgb_to_hsv(*turned)[0]
    assert min(abs(hue - 1 / 3), abs(hue - 2 / 3)) < 0.06  # a third of the circle on: green or blue


@pytest.mark.parametrize("color", [{}, {"saturation": 1.6}, {"hue": -0.2}, {"saturation": 0.4, "hue": 0.3}], ids=str)
@pytest.mark.parametrize(
    "values", [{"brightness": 1.3}, {"contrast": 1.9}, {"brightness": 0.6, "contrast": 0.2}], ids=str
)
def test_a_picture_of_uint8_changes_as_it_does_in_float64(values, color):
    images = torch.randint(256, (2, 2, 3, 31, 37), generator=seeded(), dtype=torch.uint8)
    images = (
        images[..., :-1] // torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]
    )  # channels of other means, memory with gaps
    changed = functional.adjust_color(images, **values, **color)
    exact = functional.adjust_color(images.double(), **values, **color).clamp(0, 255)
    assert changed.dtype == torch.uint8
    assert (changed.double() - exact).abs().max() <= (1.5 if color else 0.5 + 1e-4)  # OpenCV counts colours in 1/1024
    assert abs((changed.double() - exact).mean()) < 0.1


def test_integers_are_rounded_and_stay_in_their_range():
    bright = functional.adjust_color(torch.tensor([[[3, 200]]], dtype=torch.uint8), brightness=1.5)
    assert bright.tolist() == [[[4, 255]]]  # 4.5 rounds to even
    deep = torch.tensor([[[1000, 60_000]]], dtype=torch.int32)
    assert functional.adjust_color(deep, brightness=1.5).tolist() == [[[1500, 65_535]]]
    signed = torch.tensor([[[-1000, 1000]]], dtype=torch.int16)
    assert functional.adjust_color(signed, brightness=40.0).tolist() == [[[-32_768, 32_767]]]


@pytest.mark.parametrize(("dtype", "top"), [(torch.float32, 1), (torch.uint8, 255), (torch.int32, 65_535)])
def test_noise_has_the_strength_that_was_asked_for(dtype, top):
    flat = torch.full((4, 100, 100), 0.5 * top).to(dtype)
    noisy = functional.add_noise(flat, std=0.05, generator=seeded())
    difference = (noisy.double() - flat.double()) / top
    assert abs(difference.std().item() - 0.05) < 0.002
    assert abs(difference.mean().item()) < 0.002
    channels = difference.flatten(1)
    assert np.abs(np.corrcoef(channels.numpy()) - np.eye(4)).max() < 0.05
    assert torch.equal(noisy, functional.add_noise(flat, std=0.05, generator=seeded()))


@pytest.mark.parametrize("sigma", [0.5, (1.3, 2.0), 3.0])
def test_a_blur_is_the_gaussian_of_scipy(sigma):
    image = torch.rand(5, 40, 37, generator=seeded())
    both = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    expected = ndimage.gaussian_filter(image.double().numpy(), (0, *both), mode="nearest", truncate=2.5)
    for blurred in (
        functional.gaussian_blur(image, sigma=sigma),
        functional.gaussian_blur(image.double(), sigma=sigma),
    ):
        # truncated at 2.5 standard deviations, as ours; where that falls between two taps SciPy rounds it
        assert np.abs(blurred.numpy() - expected).max() < 0.01
    as_bytes = functional.gaussian_blur((image * 255).round().to(torch.uint8), sigma=sigma)
    assert np.abs(as_bytes.numpy() - expected * 255).max() < 3.5
    assert functional.gaussian_blur(image, sigma=0.1) is image


def test_a_hole_is_cut_into_image_and_mask():
    image, mask = torch.ones(13, 20, 30), torch.zeros(20, 30, dtype=torch.uint8)
    for seed in range(10):
        cut, labels = Cutout(2, size=(0.2, 0.5), image_fill=-1)(image, mask, generator=seeded(seed))
        assert torch.equal(cut[0] == -1, labels == 255)
        assert 4 * 6 <= (labels == 255).sum() <= 2 * 10 * 15
    kept = Cutout(mask_fill=None)(image, mask)[1]
    assert torch.equal(kept, mask)
    assert image.min() == 1
    assert mask.max() == 0


ALWAYS = {"p": 0.99}  # what may not happen cannot be seen to change anything
TRANSFORMS = [
    *(type(t)(**ALWAYS) if hasattr(t, "p") else t for t in VALUES.values() if not isinstance(t, (Normalize, ToTensor))),
    GaussianBlur((1.0, 2.0), p=0.99),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_any_channels_and_dtype_the_input_untouched_and_repeatable(transform, channels, dtype):
    top = {torch.uint8: 255, torch.int32: 65_535, torch.float32: 1}[dtype]
    image = (torch.rand(2, channels, 15, 17, generator=seeded()) * top).to(dtype)
    mask = torch.randint(5, (2, 15, 17), generator=seeded())
    kept = image.clone(), mask.clone()
    changed, labels = transform(image, mask, generator=seeded(3))
    again, _ = transform(image, mask, generator=seeded(3))
    assert (changed.shape, changed.dtype, labels.dtype) == (image.shape, dtype, mask.dtype)
    assert torch.equal(changed, again)
    assert torch.equal(transform(image, generator=seeded(3)), changed)
    assert torch.equal(image, kept[0])
    assert torch.equal(mask, kept[1])
    assert not torch.equal(changed, image)
    assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform)


def test_with_chance_zero_nothing_happens():
    image, mask = torch.rand(3, 5, 6), torch.zeros(5, 6, dtype=torch.uint8)
    for transform in (ColorJitter(p=0), GaussianNoise(p=0), GaussianBlur(p=0), Cutout(p=0)):
        changed, labels = transform(image, mask)
        assert changed is image
        assert labels is mask


def test_gradients_pass_through():
    image = torch.rand(3, 4, 5, dtype=torch.float64, requires_grad=True)
    for change in (
        lambda x: functional.adjust_color(x, brightness=1.1, contrast=0.8, saturation=1.2, hue=0.1),
        lambda x: functional.gaussian_blur(x, sigma=1.0),
        lambda x: functional.add_noise(x, std=0.1, generator=seeded()),
        lambda x: functional.cutout(x, boxes=[(1, 2, 3, 3)]),
    ):
        assert torch.autograd.gradcheck(change, (image,))


def test_a_function_of_the_image_draws_from_the_generator_of_the_call():
    transform = Compose([OnImage(lambda image: image + torch.rand_like(image))])
    image = torch.zeros(1, 4, 4)
    state = torch.get_rng_state()
    first, again, other = (transform(image, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"must return an image of \[4, 4\] pixels, got \[1, 2, 4\]"):
        OnImage(lambda image: image[:, :2])(image)
    with pytest.raises(TypeError, match="must be callable"):
        OnImage(3)


def test_values_that_make_no_sense_are_refused():
    nan, image = float("nan"), torch.zeros(4, 5, 6)
    for make in (
        lambda: ColorJitter(nan),
        lambda: ColorJitter((1.2, 0.8)),
        lambda: ColorJitter(hue=0.7),
        lambda: GaussianNoise((nan, 1)),
        lambda: GaussianNoise((-1, 1)),
        lambda: GaussianBlur((0.0, 1)),
        lambda: Cutout(0),
        lambda: Cutout(size=(0, 2)),
        lambda: functional.add_noise(image, std=nan),
        lambda: functional.gaussian_blur(image, sigma=-1),
    ):
        with pytest.raises(ValueError, match=r"^\w+: `\w+` must "):
            make()
    with pytest.raises(ValueError, match=r"3 channels RGB for saturation and hue, got 4"):
        ColorJitter(saturation=0.5)(image)
    with pytest.raises(ValueError, match=r"3 channels RGB for saturation and hue, got 4"):
        functional.adjust_color(image, hue=0.1)
    for change in (ColorJitter(), GaussianNoise((1, 1)), GaussianBlur((1, 1))):
        with pytest.raises(TypeError, match=r"`image` must hold numbers, got torch.bool"):
            change(image.bool())


@pytest.mark.parametrize(("dtype", "top"), [(torch.uint8, 255), (torch.int32, 65_535), (torch.float32, 1.0)])
def test_a_power_leaves_black_and_white_and_is_that_of_the_share(dtype, top):
    image = (torch.linspace(0, 1, 60).reshape(1, 6, 10) * top).to(dtype)
    for gamma in (0.5, 1.0, 2.2):
        changed = functional.adjust_gamma(image, gamma=gamma)
        expected = (image.double() / top) ** gamma * top
        assert changed.dtype == dtype
        assert (changed.double() - expected).abs().max() <= (0.51 if top > 1 else 1e-6)
    assert functional.adjust_gamma(torch.full((1, 2, 2), -0.5), gamma=0.5).max() == 0
    one = torch.rand(3, 4, 5, dtype=torch.float64).add_(0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: functional.adjust_gamma(x, gamma=0.7), (one,))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_evened_tiles_have_more_contrast_and_keep_their_colours(dtype):
    top = {torch.uint8: 255, torch.int32: 65_535}.get(dtype, 1)
    grey = 0.4 + 0.1 * torch.rand(1, 64, 80, generator=seeded())
    colours = torch.tensor([1.0, 0.7, 0.4])[:, None, None] * grey
    for image in (grey, colours, grey.expand(13, 64, 80)):
        image = (image * top).to(dtype)
        changed = functional.equalize_tiles(image, clip_limit=4.0)
        assert changed.shape == image.shape
        assert changed.dtype == dtype
        assert changed.double().std((1, 2)).min() > 1.5 * image.double().std((1, 2)).max() or len(image) == 3
    changed = functional.equalize_tiles((colours * top).to(dtype), clip_limit=4.0).double()
    middle = (changed[0] > 0.1 * top) & (changed[0] < 0.98 * top)  # colours that reach the top are cut there
    assert ((changed[1] / changed[0]) - 0.7).abs()[middle].max() < 0.05
    assert middle.double().mean() > 0.5
    assert changed[0].std() > 1.5 * colours[0].double().std() * top


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["noise", "contrast"])
def test_it_does_not_matter_how_the_pixels_lie_in_memory(dtype, name):
    image = torch.rand(13, 40, 52, generator=torch.Generator().manual_seed(1)).to(dtype)
    other = image.transpose(-1, -2).contiguous().transpose(-1, -2)
    change = {
        "noise": lambda x: functional.add_noise(x, std=0.05, generator=torch.Generator().manual_seed(2)),
        "contrast": lambda x: functional.adjust_color(x, brightness=1.1, contrast=0.8),
    }[name]
    assert torch.equal(change(image), change(other))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_other_colours_of_integers_are_those_of_float64_kept_in_their_range(dtype):
    """A turned hue leads out of the range, up to 50 levels: floating point values stay there, integers end at it."""
    image = torch.rand(3, 40, 52, generator=torch.Generator().manual_seed(1)).mul(100).to(dtype)
    low, high = (0, 65_535) if dtype == torch.int32 else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    factors = {"brightness": 1.2, "contrast": 0.8, "saturation": 1.3, "hue": 0.2}
    exact = functional.adjust_color(image.double(), **factors)
    assert exact.min() < -20
    changed = functional.adjust_color(image, **factors)
    assert (changed.double() - exact.clamp(low, high)).abs().max() <= (1 if dtype == torch.uint8 else 0.501)
