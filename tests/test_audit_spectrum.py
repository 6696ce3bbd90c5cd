"""What a picture's own numbers say about blur and light, whatever is on it."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from audit_faults import _gain, _gamma, _gauss, _motion, _of_light
from segkit.audit import audit_dataset
from segkit.audit._measure.by_windows import Pixels
from segkit.audit._measure.image import levels, measure_image
from segkit.audit._measure.row import ROW
from segkit.io import write_image


def picture(seed, size=256):
    """Amplitudes that fall like one over the frequency, as in nature, with a camera's noise: uint8 [size, size, 1]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(rng.normal(size=(size, size))) / frequency
    light = np.fft.irfft2(waves, s=(size, size))
    return (120 + 35 * light / light.std() + rng.normal(0, 1, light.shape)).clip(0, 255).astype(np.uint8)[..., None]


def measured(image):
    row = np.zeros(1, ROW)[0]
    measure_image(Pixels(*image.shape[:2], 1, iter([(0, 0, image)])), row)
    return row


def faulty(image, change):
    return _of_light(change)(image, None, None)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sigma", [1.5, 2, 3, 5])
def test_softness_grows_as_the_square_of_a_gaussian_blur(seed, sigma):
    image = picture(seed)
    assert measured(image)["softness"] < 0.4
    found = measured(faulty(image, _gauss(sigma)))["softness"]
    assert found == pytest.approx(sigma**2, rel=0.35)  # the noise and the window cost some of it


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("length", "angle"), [(7, 0), (9, 90), (15, 30), (21, 45), (31, 0)])
def test_the_trail_of_a_motion_is_as_long_as_the_motion(seed, length, angle):
    image = picture(seed)
    assert measured(image)["trail"] < 3.5
    row = measured(faulty(image, _motion(length, angle)))
    assert row["trail"] > 5
    assert row["trail_length"] == pytest.approx(length, abs=1.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", [_gain(0.4), _gain(1.8), _gain(3), _gamma(0.3), _gamma(3)])
def test_levels_are_uneven_after_a_gain_or_gamma_and_even_before(seed, change):
    image = picture(seed)
    assert levels(image)[3] < 1.5
    assert levels(faulty(image, change))[3] > 2


def test_levels_of_a_whole_picture_by_hand():
    image = np.zeros((4, 5, 2), np.uint8)
    image[:2, :, 0] = 7
    image[0, :3, 1] = 9
    assert levels(image)[:3] == (0.85, 0.5, 7)  # of the second channel 17 of 20 are 0, of the first 10 of 20 are 7
    assert np.isnan(levels(image)[3])
    assert levels(image.astype(np.float32))[:3] == pytest.approx((0.85, 0.5, 7))


def test_an_alpha_channel_has_no_end_of_the_scale():
    image = np.dstack([np.arange(20, dtype=np.uint8).reshape(4, 5), np.full((4, 5), 255, np.uint8)])
    assert levels(image)[:3] == (0.05, 0.05, 19)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (40, 40), (63, 64), (64, 64), (70, 3000), (257, 300)])
def test_any_size_is_measured(shape):
    row = measured(np.random.default_rng(0).integers(0, 256, (*shape, 1), dtype=np.uint8))
    assert np.isfinite(row["softness"]) == (min(shape) >= 64)


def test_what_is_in_focus_anywhere_is_in_focus():
    sharp = picture(0)
    image = cv2.copyMakeBorder(sharp[:160, :160], 0, 480, 480, 0, cv2.BORDER_REFLECT)
    image[160:] = cv2.GaussianBlur(image[160:], (0, 0), 6)
    image[:, :480] = cv2.GaussianBlur(image[:, :480], (0, 0), 6)
    assert measured(image[..., None])["softness"] < 0.5


def test_the_reason_says_what_shows_the_fault(tmp_path):
    changes = {1: _gamma(1.7), 2: _motion(15, 0), 5: _gauss(3), 7: _gamma(3), 11: _gain(1.4)}
    for i in range(24):
        image = picture(i)
        write_image(tmp_path / f"{i}.png", faulty(image, changes[i]) if i in changes else image)
    findings = audit_dataset(tmp_path, progress=False).findings
    said = {(int(os.path.basename(f.path)[:-4]), f.code): f.reason for f in findings}
    assert said[2, "blurred"] == "Everything in it appears again 15 pixels away: the camera moved during the exposure."
    assert said[5, "blurred"].startswith("Its finest detail is -")
    assert said[7, "too-dark"].startswith("99% of its pixels are below ")
    assert "levels are used unequally" in said[1, "too-dark"]
    assert said[1, "too-dark"].endswith("it is darker than the set.")
    assert said[11, "too-bright"].endswith("it is brighter than the set.")
    assert {number for number, _ in said} == set(changes)
