"""Resize, crops, pads and flips: nothing is lost, nothing is shifted, and masks are exact."""

from __future__ import annotations

import pickle

import pytest
import torch

from segkit.transforms import (
    CenterCrop,
    Compose,
    HorizontalFlip,
    Normalize,
    PadTo,
    RandomCrop,
    Resize,
    ToTensor,
    VerticalFlip,
    functional,
)

DTYPES = [torch.uint8, torch.int32, torch.float32, torch.bool]
CHANNELS = [1, 3, 4, 13]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(channels=3, height=23, width=31, dtype=torch.uint8, seed=0):
    """Random pixels up to the top of the stored range (16 bits for int32); a mask with classes and ignored pixels."""
    top = {torch.uint8: 256, torch.int32: 65536, torch.float32: 256, torch.bool: 2}[dtype]
    image = torch.randint(top, (channels, height, width), generator=seeded(seed)).to(dtype)
    mask = torch.randint(5, (height, width), generator=seeded(seed + 1), dtype=torch.uint8)
    mask[mask == 4] = 255
    return image, mask


@pytest.mark.parametrize("size", [(23, 31), (46, 62), (7, 9), (40, 11), (1, 1), (23, 5)])
def test_a_resized_mask_is_the_integer_map_of_pixel_centres(size):
    _, mask = picture()
    _, resized = Resize(size)(torch.zeros(1, 23, 31), mask)
    rows = [(2 * i + 1) * 23 // (2 * size[0]) for i in range(size[0])]  # floor((i + 0.5) * H / h), without rounding
    columns = [(2 * j + 1) * 31 // (2 * size[1]) for j in range(size[1])]
    assert torch.equal(resized, mask[rows][:, columns])


def test_an_edge_between_two_pixels_belongs_to_the_later_one():
    mask = torch.arange(24 * 32).reshape(24, 32)
    for size in ((12, 16), (6, 8), (4, 32), (24, 2)):  # here every new centre lies on such an edge, or on none
        _, resized = Resize(size)(torch.zeros(1, 24, 32), mask)
        rows = [(2 * i + 1) * 24 // (2 * size[0]) for i in range(size[0])]
        columns = [(2 * j + 1) * 32 // (2 * size[1]) for j in range(size[1])]
        assert torch.equal(resized, mask[rows][:, columns])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_transform_that_changes_nothing_returns_the_input_bit_for_bit(dtype, channels):
    image, mask = picture(channels, dtype=dtype)
    for same in (
        Resize((23, 31)),
        PadTo(5),
        CenterCrop((23, 31)),
        RandomCrop((23, 31)),
        HorizontalFlip(0),
        Compose([]),
    ):
        moved, labels = same(image, mask)
        assert torch.equal(moved, image)
        assert moved.dtype == dtype
        assert torch.equal(labels, mask)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_flips_crops_and_pads_move_whole_pixels(dtype, channels):
    image, mask = picture(channels, dtype=dtype)
    for pixels, moved in zip((image, mask), HorizontalFlip(1)(image, mask), strict=True):
        assert torch.equal(moved, pixels.flip(-1))
    for pixels, moved in zip((image, mask), VerticalFlip(1)(image, mask), strict=True):
        assert torch.equal(moved, pixels.flip(-2))
    for pixels, moved in zip((image, mask), CenterCrop((9, 10))(image, mask), strict=True):
        assert torch.equal(moved, pixels[..., 7:16, 10:20])
    moved, labels = PadTo((25, 40), center=True)(image, mask)
    assert torch.equal(moved[:, 1:24, 4:35], image)
    assert moved.sum() == image.sum()
    assert torch.equal(labels[1:24, 4:35], mask)
    assert (labels == 255).sum() == (mask == 255).sum() + 25 * 40 - 23 * 31


def test_compose_of_whole_pixel_moves_is_what_the_members_do_one_by_one():
    image, mask = picture()
    members = [HorizontalFlip(), RandomCrop((20, 18)), VerticalFlip(), PadTo((26, 22)), RandomCrop((21, 21))]
    for seed in range(20):
        together = Compose(members)(image, mask, generator=seeded(seed))
        one, generator = (image, mask), seeded(seed)
        for member in members:
            one = member(*one, generator=generator)
        assert torch.equal(together[0], one[0])
        assert torch.equal(together[1], one[1])


def test_a_crop_cuts_off_for_good():
    image, mask = torch.ones(1, 8, 8), torch.zeros(8, 8, dtype=torch.uint8)
    moved, labels = Compose([CenterCrop(4), PadTo(8, center=True)])(image, mask)
    assert moved.sum() == 16
    assert (labels == 0).sum() == 16
    assert (labels == 255).sum() == 48


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float64, torch.float16, torch.int16])
def test_a_resized_ramp_stays_a_ramp_with_its_edges_in_place(dtype):
    ramp = torch.arange(40, dtype=torch.float64)[None, None] * 6
    image = ramp.expand(2, 30, 40).to(dtype)
    doubled = Resize((60, 80))(image).to(torch.float64)
    expected = ((torch.arange(80) + 0.5) / 2 - 0.5).clamp(0, 39) * 6
    # integers are rounded; OpenCV before version 5 places pixels on a grid of 1/32, which is 6/64 here
    assert (doubled - expected).abs().max() <= 0.6
    halved = Resize((15, 20))(image).to(torch.float64)[..., 2:-2]
    expected = ((torch.arange(20) + 0.5) * 2 - 0.5)[2:-2] * 6
    assert (halved - expected).abs().max() <= 0.6


def test_antialiasing_removes_what_the_small_picture_cannot_show():
    stripes = (torch.arange(120) % 2 * 255.0).expand(1, 90, 120)
    assert Resize((18, 40))(stripes)[..., 2:-2].std() < 5
    assert Resize((18, 40), antialias=False)(stripes)[..., 2:-2].std() > 50


def test_batches_and_stacks_move_as_single_pictures_do():
    images = torch.randint(256, (2, 3, 4, 13, 17), generator=seeded(), dtype=torch.uint8)
    masks = torch.randint(4, (2, 3, 13, 17), generator=seeded(), dtype=torch.int64)
    for transform in (Resize((9, 20)), RandomCrop(8), CenterCrop((5, 6)), PadTo(20), VerticalFlip(1)):
        moved, labels = transform(images, masks, generator=seeded())
        for b in range(2):
            for k in range(3):
                one, label = transform(images[b, k], masks[b, k], generator=seeded())
                assert torch.equal(moved[b, k], one)
                assert torch.equal(labels[b, k], label)


def test_the_input_is_left_alone_and_a_window_holds_no_large_image_in_memory():
    image, mask = picture()
    kept = image.clone(), mask.clone()
    transform = Compose([PadTo(40), HorizontalFlip(1), Resize(50), RandomCrop(20), ToTensor(), Normalize(0.5, 0.5)])
    transform(image, mask)
    assert torch.equal(image, kept[0])
    assert torch.equal(mask, kept[1])
    assert CenterCrop(4)(image).untyped_storage().nbytes() == 3 * 4 * 4


def test_a_channels_last_image_is_taken_as_it_is():
    image = picture()[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(Resize(12)(image), Resize(12)(image.contiguous()))


def test_gradients_pass_through():
    image = torch.rand(2, 8, 9, dtype=torch.float64, requires_grad=True)
    transform = Compose([Resize((12, 7)), CenterCrop((6, 7)), HorizontalFlip(1), PadTo(8), Normalize(0.5, 2.0)])
    assert torch.autograd.gradcheck(transform, (image,))


def test_size_replaces_the_last_size_and_those_equal_to_it():
    image = torch.zeros(3, 64, 64)
    train = Compose([Resize(100), PadTo(32), RandomCrop(32)])
    assert train(image, size=48).shape == (3, 48, 48)
    assert train(image, size=(120, 40)).shape == (3, 120, 40)  # PadTo(32) became PadTo((120, 40)): no error
    assert train(image).shape == (3, 32, 32)
    ramp = torch.arange(64.0).expand(1, 64, 64)
    steps = train(ramp, size=48)[0, 0, 10:38].diff()
    assert torch.allclose(steps, torch.tensor(0.64), atol=0.02)  # 64 / 100: Resize kept its own size
    assert Resize(8)(image, size=(5, 6)).shape == (3, 5, 6)
    with pytest.raises(ValueError, match=r"Compose: `size` must have a member that takes it"):
        Compose([HorizontalFlip()])(image, size=5)
    with pytest.raises(ValueError, match=r"Compose: `focus_class` must have a member that takes it"):
        Compose([Resize(8)])(image, torch.zeros(64, 64, dtype=torch.uint8), focus_class=1)


def test_a_focused_crop_always_contains_the_class_and_every_pixel_is_as_likely_its_anchor():
    mask = torch.zeros(12, 14, dtype=torch.uint8)
    mask[0, 0] = mask[11, 13] = mask[5, 2:6] = mask[3:9, 9] = 3
    image = torch.arange(12 * 14, dtype=torch.float32).reshape(1, 12, 14)
    crop = RandomCrop((5, 4), focus_class=3)
    generator = seeded(7)
    for _ in range(200):
        _, cropped = crop(image, mask, generator=generator)
        assert (cropped == 3).any()
        assert not (cropped == 255).any()  # a crop never reaches beyond the picture

    # A window of one pixel shows the anchor itself.
    anchors = torch.stack([crop(image, mask, generator=generator, size=1)[0].flatten()[0] for _ in range(6000)])
    pixels, counts = anchors.unique(return_counts=True)
    assert pixels.tolist() == image[0][mask == 3].tolist()
    expected = 6000 / len(pixels)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 31.3  # the 0.999 quantile for 11 degrees of freedom (12 pixels)


def test_a_focus_looks_at_the_mask_as_it_is_at_that_place_of_the_row():
    mask = torch.zeros(40, 40, dtype=torch.uint8)
    mask[:3, :3] = 1
    image = torch.zeros(1, 40, 40)
    row = Compose([HorizontalFlip(1), Resize(80), CenterCrop(80), RandomCrop(10)])
    for seed in range(30):
        _, labels = row(image, mask, generator=seeded(seed), focus_class=1)
        assert (labels == 1).any()
    _, labels = row(image, mask * 0, generator=seeded(0), focus_class=1)
    assert labels.shape == (10, 10)  # a mask without the class is cropped anywhere


def test_chance_comes_from_the_generator_alone():
    image, mask = picture(height=60, width=60)
    row = Compose([HorizontalFlip(), VerticalFlip(), RandomCrop(16)])
    first, again = (row(image, mask, generator=seeded(3)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    others = [row(image, mask, generator=seeded(seed))[0] for seed in range(5)]
    assert sum(torch.equal(first[0], other) for other in others) == 1  # seed 3 itself


@pytest.mark.parametrize(
    "transform",
    [
        Compose([Resize((4, 5), antialias=False), HorizontalFlip(0.25), RandomCrop(3, focus_class=2)]),
        PadTo(9, center=True, image_fill=0.5, mask_fill=7),
        Normalize([0.5, 0.25], [1.0, 2.0]),
        ToTensor(bits=12),
    ],
    ids=lambda t: type(t).__name__,
)
def test_a_transform_pickles_and_shows_what_it_was_made_with(transform):
    assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform)
    assert repr(Resize((4, 5), antialias=False)) == "Resize(size=(4, 5), antialias=False, interpolation='bilinear')"


def test_integers_become_floats_between_zero_and_one():
    assert ToTensor()(torch.tensor([[[255]]], dtype=torch.uint8)).item() == 1
    assert ToTensor(bits=16)(torch.tensor([[[65535]]], dtype=torch.int32)).item() == 1
    assert ToTensor()(torch.tensor([[[0.25]]])).item() == 0.25
    with pytest.raises(TypeError, match=r"ToTensor: `bits` must be given for an image of torch.int32"):
        ToTensor()(torch.zeros(1, 2, 2, dtype=torch.int32))


def test_normalize_takes_one_number_a_channel():
    image = torch.rand(2, 3, 4, 4)
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]
    expected = (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.equal(Normalize(mean, std)(image), expected)
    with pytest.raises(ValueError, match=r"one number for each of the image's 3 channels, got 2"):
        Normalize([0.1, 0.2], 1.0)(image)
    with pytest.raises(TypeError, match=r"Put ToTensor\(\) before it"):
        Normalize(0, 1)(torch.zeros(3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"`std` must not be negative"):
        Normalize(0, [1, -1])


@pytest.mark.parametrize("rest", [0.0, 1e-6 / 255, 3e-8])
def test_a_constant_channel_is_centred_and_not_divided_and_named(rest):
    image = torch.stack([torch.rand(4, 4), torch.ones(4, 4)])
    with pytest.warns(UserWarning, match=r"Normalize: channel 1 of 2 \(from 0\) is constant: .*channels="):
        normalize = Normalize([0.5, 1.0], [0.25, rest])
    jittered = normalize(image * 1.04)  # what a jitter makes of an opaque alpha
    assert torch.allclose(jittered[1], torch.full((4, 4), 0.04))
    assert torch.equal(jittered, functional.normalize(image * 1.04, mean=[0.5, 1.0], std=[0.25, rest]))


def test_statistics_normalise_in_the_units_of_the_data_set():
    class Numbers:
        mean, std, scale = [2047.5, 819.0], [409.5, 4095.0], 4095

    assert repr(Normalize.from_statistics(Numbers())) == "Normalize(mean=(0.5, 0.2), std=(0.1, 1.0))"


IMAGE, MASK = torch.zeros(3, 8, 9), torch.zeros(8, 9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("image", "mask", "error", "message"),
    [
        (IMAGE.numpy(), None, TypeError, r"must be a torch.Tensor, got ndarray. Begin with ToTensor\(\)"),
        (IMAGE[0], None, ValueError, r"must have the shape \[..., C, H, W\], got \[8, 9\]"),
        (IMAGE, MASK[:7], ValueError, r"got \[7, 9\]. Image and mask must have the same height and width"),
        (IMAGE, MASK[None], ValueError, r"channel axis of length 1: pass mask.squeeze\(-3\)"),
        (IMAGE[None], MASK.expand(3, 8, 9)[None, :, :7], ValueError, r"It has a channel axis: turn one-hot"),
        (IMAGE[None], MASK, ValueError, r"A batch of images takes a batch of masks"),
        (
            IMAGE,
            MASK.float(),
            TypeError,
            r"`mask` must hold integer class numbers, got torch.float32.*maps=\(\"map\",\)",
        ),
        (IMAGE.to(torch.uint16), None, TypeError, r"Pass image.to\(torch.int32\)"),
        (IMAGE[:, :0], None, ValueError, r"must have at least one pixel"),
        (IMAGE.to(torch.complex64), None, TypeError, r"must hold real numbers"),
    ],
)
@pytest.mark.parametrize("make", [lambda: Resize(4), lambda: RandomCrop(4), lambda: HorizontalFlip(), None])
def test_a_pair_that_does_not_fit_is_refused(make, image, mask, error, message):
    transform = Compose([CenterCrop(4), RandomCrop(2)]) if make is None else make()
    with pytest.raises(error, match=message):
        transform(image, mask)


def test_parameters_that_make_no_sense_are_refused():
    for wrong in (0, -3, 2.5, (3,), (3, 4, 5), float("nan"), "12", None, True):
        with pytest.raises(ValueError, match=r"Resize: `size` must be an int or \(height, width\), each at least 1"):
            Resize(wrong)
    for wrong in (float("nan"), -0.1, 1.5):
        with pytest.raises(ValueError, match=r"`p` must be a finite number in \[0, 1\]"):
            HorizontalFlip(wrong)
    with pytest.raises(ValueError, match=r"RandomCrop: `size` must not exceed .* Put PadTo\(\(9, 9\)\) before it"):
        RandomCrop(9)(IMAGE)
    with pytest.raises(ValueError, match=r"RandomCrop: `mask` must be given to find focus_class=1"):
        RandomCrop(2, focus_class=1)(IMAGE)
    with pytest.raises(ValueError, match=r"can hold mask_fill=255, got torch.bool"):
        PadTo(20)(IMAGE, MASK.bool())
    with pytest.raises(TypeError, match=r"Compose: `transforms` at 1 must be callable"):
        Compose([Resize(3), 3])
    with pytest.raises(ValueError, match=r"crop: `size` must fit into the image \(8, 9\) from row 1"):
        functional.crop(IMAGE, top=1, left=0, size=8)
    with pytest.raises(ValueError, match=r"must be at least 0"):
        functional.pad(IMAGE, top=-1)
    with pytest.raises(ValueError, match=r"`geometry` must be made for the image's size \(8, 9\)"):
        functional.apply_geometry(IMAGE, geometry=CenterCrop(2).draw((9, 9)))
    with pytest.raises(ValueError, match=r"`after` must start from \(2, 2\)"):
        CenterCrop(2).draw((9, 9)).then(CenterCrop(1).draw((9, 9)))
