"""A bicubic resize is torch's, to the bit, for the image alone; the mask is what a bilinear one makes of it."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F

from segkit import transforms as T
from segkit.transforms import functional

SIZES = [(46, 62), (9, 11), (40, 11), (1, 1)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(dtype=torch.float32, *shape):
    image = torch.rand(*shape, 3, 23, 31, generator=seeded(), dtype=torch.float64)
    image = image if dtype.is_floating_point else (image * 255).round()
    return image.to(dtype), torch.randint(5, (*shape, 23, 31), generator=seeded(1), dtype=torch.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_interpolation_of_torch_to_the_bit_and_the_mask_is_nearest(size, antialias, dtype):
    image, mask = picture(dtype)
    resized, labels = T.Resize(size, antialias=antialias, interpolation="bicubic")(image, mask)
    expected = F.interpolate(image[None], size, mode="bicubic", align_corners=False, antialias=antialias)[0]
    assert torch.equal(resized, expected)
    assert torch.equal(labels, T.Resize(size, antialias=antialias)(image, mask)[1])
    word = {"antialias": antialias, "interpolation": "bicubic"}
    assert torch.equal(functional.resize(image, mask, size=size, **word)[0], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_integers_are_rounded_and_cut_off_where_their_dtype_ends(dtype):
    top = torch.iinfo(dtype).max if dtype != torch.int32 else 65_535
    image = torch.zeros(1, 8, 8, dtype=dtype)
    image[..., 4:] = top  # an edge, at which bicubic overshoots
    resized = T.Resize(40, interpolation="bicubic")(image)
    wide = F.interpolate(image[None].double(), (40, 40), mode="bicubic", align_corners=False, antialias=True)[0]
    assert wide.min() < -1
    assert wide.max() > top + 1
    low, high = (0, 65_535) if dtype == torch.int32 else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    assert (resized.double() - wide.clamp(low, high)).abs().max() <= 0.51
    noise = picture(dtype)[0]
    wide = F.interpolate(noise[None].double(), (40, 33), mode="bicubic", align_corners=False, antialias=True)[0]
    resized = T.Resize((40, 33), interpolation="bicubic")(noise)
    assert (resized.double() - wide.clamp(low, high)).abs().max() <= 0.51


def test_wide_integers_beyond_16_bits_keep_their_own_range():
    image = torch.tensor([-5, 100_000] * 4).repeat_interleave(4).expand(1, 6, 32)
    wide = F.interpolate(image[None].double(), (12, 64), mode="bicubic", align_corners=False, antialias=True)[0]
    for dtype in (torch.int32, torch.int64):
        resized = T.Resize((12, 64), interpolation="bicubic")(image.to(dtype))
        assert torch.equal(resized, wide.round().to(dtype))
    assert wide.min() < -1000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.bool])
def test_every_dtype_stays_and_its_own_size_changes_nothing(dtype):
    image = picture()[0].gt(0.5) if dtype == torch.bool else picture(dtype)[0]
    assert T.Resize((40, 33), interpolation="bicubic")(image).dtype == dtype
    assert torch.equal(T.Resize((23, 31), interpolation="bicubic")(image), image)
    assert T.Resize((40, 33), interpolation="bicubic")(image.new_zeros(0, 3, 23, 31)).shape == (0, 3, 40, 33)


def test_the_side_that_is_asked_for_and_a_gradient_work_as_well():
    image = picture()[0].requires_grad_()
    resized = T.ResizeKeepRatio(46, interpolation="bicubic")(image)
    assert resized.shape == (3, 46, 62)
    assert torch.equal(resized, T.Resize((46, 62), interpolation="bicubic")(image))
    resized.sum().backward()
    assert image.grad.abs().sum() > 0


def test_in_a_row_it_is_a_resampling_of_its_own_in_every_way_to_call():
    image, mask = picture(torch.float32, 4)
    resize = T.Resize((46, 62), interpolation="bicubic")
    row = T.Compose([T.HorizontalFlip(), T.RandomAffine(20), resize, T.RandomAffine(20), T.RandomCrop(30)])
    one, target = image[0], mask[0]
    chance = seeded(3)
    parts = T.Compose(row.transforms[:2])(one, target, generator=chance)
    expected = T.Compose(row.transforms[3:])(*resize(*parts), generator=chance)
    called = row(one, target, generator=seeded(3))
    drawn = row.draw((23, 31), generator=seeded(3))(one, target)
    for each in (called, drawn):
        assert torch.equal(each[0], expected[0])
        assert torch.equal(each[1], expected[1])
    at_once = T.PerSample(row, batched=True)(image.double(), mask, generator=seeded(5))
    one_by_one = T.PerSample(row, batched=False)(image.double(), mask, generator=seeded(5))
    torch.testing.assert_close(at_once[0], one_by_one[0], rtol=0, atol=1e-6)
    assert torch.equal(at_once[1], one_by_one[1])
    assert torch.equal(T.PerSample(resize, batched=True)(image), resize(image))


def test_it_reads_the_whole_picture_and_a_crop_before_it_still_reads_its_window():
    resize = T.Resize((46, 62), interpolation="bicubic")
    assert resize.plan((23, 31)) is None
    assert T.Compose([resize, T.RandomCrop(10)]).plan((23, 31)) is None
    row = T.Compose([T.CenterCrop(12), resize, T.HorizontalFlip()])
    plan = row.plan((23, 31), generator=seeded())
    assert plan.window[2:] == (12, 12)
    image, mask = picture()
    top, left, height, width = plan.window
    rows, columns = slice(top, top + height), slice(left, left + width)
    moved, labels = plan(image[:, rows, columns].clone(), mask[rows, columns].clone())
    expected = row(image, mask, generator=seeded())
    assert torch.equal(moved, expected[0])
    assert torch.equal(labels, expected[1])


def test_maps_of_numbers_stay_bilinear():
    weights = torch.rand(23, 31, generator=seeded(2))
    sample = {"image": picture()[0], "weights": weights}
    moved = T.Resize(20, interpolation="bicubic")(sample, maps={"weights": 0.0})
    assert torch.equal(moved["weights"], T.Resize(20)(weights[None])[0])


def test_it_shows_itself_and_another_word_is_refused():
    resize = T.Resize((4, 5), interpolation="bicubic")
    assert repr(resize) == "Resize(size=(4, 5), antialias=True, interpolation='bicubic')"
    assert repr(pickle.loads(pickle.dumps(resize))) == repr(resize)
    for make in (
        lambda: T.Resize(4, interpolation="cubic"),
        lambda: T.Resize(4, interpolation=3),
        lambda: T.ResizeKeepRatio(4, interpolation="nearest"),
        lambda: functional.resize(torch.zeros(1, 2, 2), size=4, interpolation="area"),
    ):
        with pytest.raises(ValueError, match=r"^\w+: `interpolation` must be one of \('bilinear', 'bicubic'\), got "):
            make()
