"""Beyond its edge a picture may be mirrored or repeated, as if padded by hand; the mask is ignored there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segkit import transforms as T
from segkit.transforms import functional

MODES = ("reflect", "replicate")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(count=2, dtype=torch.float64):
    image = torch.rand(count, 3, 20, 30, generator=seeded(1), dtype=torch.float64)
    image = image if dtype.is_floating_point else image * 255
    return image.to(dtype), torch.randint(0, 5, (count, 20, 30), generator=seeded(2)).to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int32])
@pytest.mark.parametrize("mode", MODES)
def test_a_margin_is_what_numpy_makes_of_it_and_the_mask_is_ignored(mode, dtype):
    image, mask = picture(dtype=dtype)
    padded, labels = T.PadTo((32, 50), center=True, image_fill=mode)(image, mask)
    expected = F.pad(image.double(), (10, 10, 6, 6), mode=mode).to(dtype)
    assert torch.equal(padded, expected)
    assert torch.equal(labels, F.pad(mask, (10, 10, 6, 6), value=255))
    wide = functional.pad(image, top=70, image_fill=mode)  # several pictures long
    assert torch.equal(wide[..., 70 - 38, :], image[..., 0, :])  # 38 = 2 * (20 - 1) rows up it begins anew
    assert torch.equal(wide[..., 70 - 18, :], image[..., 18 if mode == "reflect" else 0, :])


@pytest.mark.parametrize("mode", MODES)
def test_a_turned_picture_is_that_of_one_padded_by_hand(mode):
    image, mask = picture()
    large = F.pad(image, (19, 19, 19, 19), mode=mode)
    moved, labels = functional.affine(image, mask, angle=30, translate=(2.3, 1), image_fill=mode)
    by_hand = functional.affine(large, angle=30, translate=(2.3, 1))[..., 19:-19, 19:-19]
    torch.testing.assert_close(moved, by_hand, rtol=0, atol=1e-8)
    assert torch.equal(labels, functional.affine(image, mask, angle=30, translate=(2.3, 1))[1])
    assert (labels == 255).any()


@pytest.mark.parametrize(
    "row",
    [
        lambda mode: T.Compose([T.RandomAffine(60, image_fill=mode), T.RandomCrop(15), T.HorizontalFlip()]),
        lambda mode: T.Compose([T.RandomCrop(15), T.RandomAffine(60, translate=0.5, image_fill=mode)]),
        lambda mode: T.RandomAffine(60, image_fill=mode, scale=(0.3, 0.5)),
        lambda mode: T.RandomPerspective(0.24, image_fill=mode),
        lambda mode: T.Compose(
            [T.RandomPerspective(0.24, image_fill=mode), T.RandomAffine(60, image_fill=mode, scale=(0.3, 0.5))]
        ),
        lambda mode: T.ElasticDeform(8, spacing=20, image_fill=mode),
        lambda mode: T.PadToMultiple(16, image_fill=mode),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_filled_and_batches_at_once_are_the_same(mode, row):
    image, mask = picture(4)
    image += 1
    at_once = T.PerSample(row(mode), batched=True)(image, mask, generator=seeded(3))
    one_by_one = T.PerSample(row(mode), batched=False)(image, mask, generator=seeded(3))
    torch.testing.assert_close(at_once[0], one_by_one[0], rtol=0, atol=1e-6)
    assert torch.equal(at_once[1], one_by_one[1])
    assert at_once[0].min() >= 1


def test_a_crop_cuts_off_what_the_mirror_would_show():
    image = torch.arange(100.0).reshape(1, 1, 100)
    row = T.Compose([T.CenterCrop((1, 20)), T.PadTo((1, 24), center=True, image_fill="reflect")])
    assert row(image)[0, 0].tolist() == [42.0, 41.0, *range(40, 60), 58.0, 57.0]


def test_a_window_is_not_read_where_the_picture_goes_on_beyond_its_edge():
    affine = T.RandomAffine(image_fill="reflect")
    assert affine.plan((20, 30)) is None
    assert T.Compose([affine, T.RandomCrop(10)]).plan((20, 30)) is None
    assert T.Compose([T.RandomCrop(15), affine]).plan((20, 30)).window[2:] == (15, 15)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match=r"PadTo: `image_fill` must be a number or one of \('reflect', 'replicate'\)"):
        T.PadTo(8, image_fill="mirror")
    with pytest.raises(ValueError, match="pad: `image_fill` must be a number or one of"):
        functional.pad(torch.zeros(1, 2, 2), top=1, image_fill="wrap")
