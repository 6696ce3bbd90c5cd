"""viz: any dtype and channel count becomes an ordinary RGB picture."""

from __future__ import annotations

import numpy as np
import pytest

from segkit import viz


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64, bool])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
def test_any_dtype_and_channel_count_becomes_8_bit_rgb(dtype, channels):
    image = (np.random.default_rng(0).random((7, 9, channels)) * 200).astype(dtype)
    before = image.copy()
    picture = viz.to_rgb(image)
    assert (picture.shape, picture.dtype) == ((7, 9, 3), np.dtype(np.uint8))
    np.testing.assert_array_equal(image, before)


def test_an_8_bit_rgb_image_is_shown_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(viz.to_rgb(image), image)


def test_the_stretch_uses_the_whole_range_and_keeps_the_order():
    ramp = np.arange(0, 4000, 10, dtype=np.uint16).reshape(20, 20)
    picture = viz.to_rgb(ramp)[..., 0].ravel().astype(int)
    assert (picture.min(), picture.max()) == (0, 255)
    assert (np.diff(picture) >= 0).all()


def test_nan_and_infinity_are_drawn_without_spoiling_the_rest():
    image = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    image[0, 0], image[0, 1] = np.nan, np.inf
    picture = viz.to_rgb(image)
    assert picture[0, 0].max() == 0
    assert picture[9, 9].max() == 255
    assert 100 < picture[5, 0, 0] < 150


def test_named_bands_are_the_ones_shown():
    image = np.zeros((2, 2, 13), np.uint16)
    image[0, 0, 7], image[0, 0, 5], image[0, 0, 1] = 100, 200, 300
    red, green, blue = viz.to_rgb(image, bands=(7, 5, 1), percentiles=(0, 100))[0, 0]
    assert (red, green, blue) == (255, 255, 255)
    assert viz.to_rgb(image, bands=(6, 5, 1), percentiles=(0, 100))[0, 0, 0] == 0


def test_an_overlay_mixes_by_alpha():
    image = np.full((2, 2, 3), 100, np.uint8)
    mask = np.array([[0, 1], [1, 0]])
    np.testing.assert_array_equal(viz.overlay(image, mask, alpha=0), image)
    full = viz.overlay(image, mask, colors={(10, 20, 30): 0, (40, 50, 60): 1}, alpha=1)
    np.testing.assert_array_equal(full, [[[10, 20, 30], [40, 50, 60]], [[40, 50, 60], [10, 20, 30]]])


def test_ignored_pixels_look_like_no_class():
    image = np.zeros((16, 16), np.uint8)
    mask = np.full((16, 16), 255, np.uint8)
    hatched = viz.overlay(image, mask)
    assert len(np.unique(hatched.reshape(-1, 3), axis=0)) == 2
    assert (hatched[..., 0] == hatched[..., 1]).all()
    assert (hatched[..., 1] == hatched[..., 2]).all()
    assert len(np.unique(viz.overlay(image, mask, ignore_index=None).reshape(-1, 3), axis=0)) == 1


def test_tensors_are_taken_channels_first():
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    mask = np.zeros((5, 6), np.int64)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    np.testing.assert_array_equal(viz.overlay(tensor, torch.from_numpy(mask)), viz.overlay(picture, mask))


def test_a_contact_sheet_takes_samples_of_different_sizes_and_kinds():
    rng = np.random.default_rng(0)
    samples = [
        rng.integers(0, 256, (30, 90, 3), dtype=np.uint8),
        (rng.integers(0, 5000, (64, 32, 13), dtype=np.uint16), rng.integers(0, 3, (64, 32))),
        {"image": rng.random((10, 10)), "mask": np.zeros((10, 10), int), "name": "scan Ω"},
    ]
    sheet = viz.contact_sheet(samples, columns=2, tile=48)
    assert (sheet.shape, sheet.dtype) == ((2 * 70, 2 * 52, 3), np.dtype(np.uint8))
    assert (sheet[70:, 52:] == 255).all(), "the fourth place stays empty"
    assert (sheet[:48, :48].min(), sheet[70:118, :48].min()) < (255, 255)


def test_no_samples_give_an_empty_sheet():
    assert (viz.contact_sheet([]) == 255).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: viz.overlay(np.zeros((4, 4)), np.zeros((4, 5), int)),
            r"overlay: `mask` must have the height and width",
        ),
        (lambda: viz.overlay(np.zeros((4, 4)), np.zeros((4, 4))), r"must hold integers, got float64"),
        (lambda: viz.overlay(np.zeros((4, 4)), np.zeros((4, 4), int), alpha=2), r"`alpha` must lie in \[0, 1\], got 2"),
        (lambda: viz.to_rgb(np.zeros((2, 3, 4, 5))), r"must be a real array \[H, W, C\]"),
        (lambda: viz.to_rgb(np.zeros((0, 3))), r"at least one pixel"),
        (lambda: viz.to_rgb(np.zeros((2, 2, 3)), bands=(0, 1, 3)), r"three indices in \[0, 3\), got \(0, 1, 3\)"),
        (lambda: viz.rgb_bands(0), r"`channels` must be at least 1"),
        (lambda: viz.contact_sheet([], columns=0), r"`columns` must be at least 1"),
        (lambda: viz.contact_sheet([(np.zeros((4, 4)), np.zeros((5, 4), int))]), r"mask of sample 0 must have"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("filler", [-9999.0, -3.4028235e38, 1e30, np.nan, np.inf])
def test_a_value_far_outside_of_all_others_does_not_stretch_a_picture(filler):
    image = np.random.default_rng(0).normal(100, 5, (64, 64)).astype(np.float32)
    image[:, :32] = filler
    assert len(np.unique(viz.to_rgb(image)[:, 32:])) > 100
