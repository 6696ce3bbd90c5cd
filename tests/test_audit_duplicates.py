"""Near duplicates among many images: found without comparing each with each, and nothing else taken for one."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from segkit import audit, io
from segkit.audit._judge.duplicates import ThumbStore, find_duplicates
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.image import thumb_of
from segkit.audit._measure.landmarks import landmarks_of
from segkit.audit._measure.row import ROW, Options

IMAGES = 10_000 if os.environ.get("SEGKIT_LONG") == "1" else 1_000


def picture(seed, height=96, width=128):
    """Waves of three lengths, some discs, and noise: much the same statistics in each, and no two alike."""
    rng = np.random.default_rng([7, seed])
    image = np.full((height, width), 120, np.float32)
    for cells, strength in ((4, 30), (12, 20), (32, 12)):
        coarse = rng.standard_normal((cells * 3 // 4, cells), dtype=np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * strength
    for _ in range(8):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.circle(image, centre, int(rng.integers(4, 16)), float(rng.uniform(40, 220)), -1)
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def cropped(image, share, rng):
    """A share less of each edge, taken from both of its ends as it comes."""
    height, width = image.shape
    top, left = (int(rng.integers(0, round(edge * share) + 1)) for edge in image.shape)
    return image[top : top + height - round(height * share), left : left + width - round(width * share)]


def times(image, factor):
    return (image * factor).clip(0, 255).astype(np.uint8)


VARIANTS = {
    "left to right": lambda image, rng: image[:, ::-1],
    "upside down": lambda image, rng: image[::-1],
    "half a turn": lambda image, rng: image[::-1, ::-1],
    "a quarter": lambda image, rng: np.rot90(image),
    "a quarter back": lambda image, rng: np.rot90(image, -1),
    "JPEG 50": lambda image, rng: jpeg(image, 50),
    "JPEG 70": lambda image, rng: jpeg(image, 70),
    "JPEG 90": lambda image, rng: jpeg(image, 90),
    "crop 5 %": lambda image, rng: cropped(image, 0.05, rng),
    "crop 8 %": lambda image, rng: cropped(image, 0.08, rng),
    "crop 10 %": lambda image, rng: cropped(image, 0.1, rng),
    "darker": lambda image, rng: times(image, 0.8),
    "brighter": lambda image, rng: times(image, 1.2),
    "half size": lambda image, rng: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "larger": lambda image, rng: cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_LINEAR),
    "crop, flip, JPEG": lambda image, rng: jpeg(np.ascontiguousarray(cropped(image, 0.05, rng)[:, ::-1]), 70),
}


def test_near_duplicates_are_found_among_many_images_and_nothing_else():
    rng = np.random.default_rng(0)
    copies = IMAGES // 10
    originals = rng.permutation(IMAGES)[:copies].tolist()
    names = list(VARIANTS)
    images = [lambda i=i: picture(i) for i in range(IMAGES)]
    images += [
        lambda k=k, i=i: np.ascontiguousarray(VARIANTS[names[k % len(names)]](picture(i), np.random.default_rng(k)))
        for k, i in enumerate(originals)
    ]
    rows = np.zeros(len(images), ROW)
    rows["image_ok"] = True
    files = [(f"{i}.png", None) for i in range(len(images))]
    data = MeasuredSet(files, rows, {}, Options(None, None, 255))
    with ThumbStore() as store:
        for i, make in enumerate(images):
            image = make()
            rows["image_digest"][i] = i  # all differ
            thumb = thumb_of(image)
            store.put(i, thumb[None], np.array([landmarks_of(thumb)]))
        findings = find_duplicates(data, store, splits=None, executor=None, progress=False)
    found = {(f.related, f.path) for f in findings}
    planted = {(f"{i}.png", f"{IMAGES + k}.png"): names[k % len(names)] for k, i in enumerate(originals)}
    # A pair is one pair, whichever of the two has the finding.
    found = {tuple(sorted(pair, key=lambda name: int(name[:-4]))) for pair in found}
    assert found - set(planted) == set(), "no false hit"
    missed = [name for pair, name in planted.items() if pair not in found]
    assert len(missed) <= 0.05 * copies, missed


@pytest.mark.parametrize(("frames", "severity"), [(3, "warning"), (14, "info")])
def test_frames_of_one_scene_are_a_fact_of_the_set(tmp_path, frames, severity):
    """A few pictures that are alike are a fault; a set of which most are alike is a film."""
    rng = np.random.default_rng(0)
    scenes = [cv2.GaussianBlur(rng.normal(0, 1, (96, 128)), (0, 0), 3) * 300 + 128 for _ in range(12)]
    shots = [*scenes, *(scenes[0] + rng.normal(0, 3, scenes[0].shape) for _ in range(frames))]
    for number, shot in enumerate(shots):
        io.write_image(tmp_path / f"{number:02d}.png", shot.clip(0, 255).astype(np.uint8)[..., None])
    found = audit.audit_dataset(tmp_path, progress=False).select("near-duplicate")
    assert len({finding.path for finding in found}) == frames
    assert {finding.severity for finding in found} == {severity}
