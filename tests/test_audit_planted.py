"""Every fault that the audit knows, planted in several strengths: found by its code; the clean twin stays silent.

Faults of single files are planted into one pair of a real set (X-ray tomography) and of a drawn one (discs on texture).
"""

from __future__ import annotations

import functools
import pathlib
import shutil

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from segkit import audit, io
from segkit.audit import Finding
from segkit.audit._judge.checks import judge
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.row import Options
from segkit.audit._measure.worker import measure
from segkit.cli import main
from segkit.datasets import find_pairs


def scene(seed, size=128):
    """A textured picture of some discs of classes 1 to 3, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    image = rng.normal(90, 12, (size, size, 3)) + 20 * np.sin(x / rng.uniform(3, 9) + y / 7)[..., None]
    mask = np.zeros((size, size), np.uint8)
    for label in (1, 2, 3, 2, 3):
        cy, cx = rng.uniform(0.15, 0.85, 2) * size
        inside = (y - cy) ** 2 + (x - cx) ** 2 < (size * rng.uniform(0.08, 0.14)) ** 2
        mask[inside] = label
        image[inside] = image[inside] * 0.4 + 60 + 40 * label
    return cv2.GaussianBlur(image, (0, 0), 0.6).clip(0, 255).astype(np.uint8), mask


class Set:
    """A clean set that was measured once, so that a fault in one file costs one file."""

    def __init__(self, pairs, num_classes, ignore_index=255):
        self.items = [(pair.image, pair.mask) for pair in pairs]
        self.options = Options(num_classes, None, ignore_index)
        self.parts = [measure([item], self.options) for item in self.items]

    def findings(self, number=None, image=None, mask=None, said=()):
        parts, items = list(self.parts), list(self.items)
        if number is not None:
            items[number] = (str(image), str(mask))
            parts[number] = measure([items[number]], self.options)
        labels = {}
        for part in parts:
            for label, (pixels, count) in part.labels.items():
                entry = labels.setdefault(label, [0, 0])
                entry[0] += pixels
                entry[1] += count
        rows = np.concatenate([part.rows for part in parts])
        findings = [*said, *(f for part in parts for f in part.findings)]
        data = MeasuredSet(items, rows, labels, self.options, findings)
        judge(data)
        return data.findings

    def codes(self, number, image, mask):
        return {f.code for f in self.findings(number, image, mask) if f.path in (str(image), str(mask))}


@functools.cache
def drawn_set(folder):
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(24):
        image, mask = scene(i)
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")
    return Set(find_pairs(folder / "images", folder / "masks"), 4)


@functools.cache
def real_set(folder):
    return Set(find_pairs(folder / "images", folder / "masks")[::2], 4)


@pytest.fixture(params=["drawn", "real"])
def clean(request, tmp_path_factory):
    if request.param == "real":
        return real_set(request.getfixturevalue("shared") / "data" / "sandstone_ct")
    if not hasattr(pytest, "_drawn"):
        pytest._drawn = drawn_set(tmp_path_factory.mktemp("drawn"))
    return pytest._drawn


def blur(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape)


def coarse(image, factor):
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(image.shape)


def scaled(image, gain, offset=0.0):
    return (image * float(gain) + offset).clip(0, 255).astype(np.uint8)


def flat(image, share):
    mean = image.mean()
    return ((image - mean) * share + mean).round().astype(np.uint8)


def speckle(mask, share):
    rng = np.random.default_rng(0)
    return np.where(rng.random(mask.shape) < share, rng.integers(0, 4, mask.shape), mask).astype(np.uint8)


def smooth(mask, factor):
    height, width = mask.shape
    small = cv2.resize(mask, (width // factor, height // factor), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def jpeg(mask, quality):
    return cv2.imdecode(cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def moved(mask, y, x):
    return np.roll(mask, (y, x), (0, 1))


def as_255(mask):
    return ((mask > 0) * 255).astype(np.uint8)


IMAGE_FAULTS = [
    *[("blurred", f"gauss {s}", functools.partial(blur, sigma=s)) for s in (1.5, 2, 3, 5)],
    *[("blurred", f"upsampled {f}", functools.partial(coarse, factor=f)) for f in (2, 4)],
    *[("too-dark", f"gain {g}", functools.partial(scaled, gain=g)) for g in (0.15, 0.08, 0.03)],
    *[("too-bright", f"offset {o}", functools.partial(scaled, gain=1, offset=o)) for o in (160, 200)],
    *[("saturated", f"gain {g}", functools.partial(scaled, gain=g)) for g in (3, 4)],
    *[("low-information", f"contrast {s}", functools.partial(flat, share=s)) for s in (0.05, 0.02)],
    *[("constant-image", f"value {v}", lambda image, v=v: np.full_like(image, v)) for v in (0, 100, 255)],
    *[("odd-size", f"{h}x{w}", lambda i, h=h, w=w: cv2.resize(i, (w, h)).reshape(h, w, -1)) for h, w in ((30, 400),)],
    ("unexpected-channels", "two", lambda image: image[..., [0, 0]]),
    ("unexpected-dtype", "uint16", lambda image: image.astype(np.uint16) * 257),
]
MASK_FAULTS = [
    *[("speckle", f"{s}", functools.partial(speckle, share=s)) for s in (0.01, 0.03, 0.1)],
    *[("interpolated-mask", f"x{f}", functools.partial(smooth, factor=f)) for f in (2, 3, 4)],
    *[("interpolated-mask", f"0 and 255, x{f}", lambda m, f=f: smooth(as_255(m), f)) for f in (2, 4)],
    *[("lossy-mask", f"q{q}", functools.partial(jpeg, quality=q)) for q in (75, 95)],
    *[("lossy-mask", f"0 and 255, q{q}", lambda m, q=q: jpeg(as_255(m), q)) for q in (75, 95)],
    *[("shifted-mask", f"{s}", functools.partial(moved, y=s[0], x=s[1])) for s in ((5, 0), (0, 7), (9, 8), (-15, 10))],
    ("shifted-mask", "mirrored", lambda mask: np.ascontiguousarray(mask[:, ::-1])),
    ("shifted-mask", "of another image", lambda mask: np.ascontiguousarray(mask.T[::-1])),
    ("empty-mask", "background", np.zeros_like),
    ("all-ignored", "255", lambda mask: np.full_like(mask, 255)),
    ("foreground-is-ignored", "0 and 255", as_255),
    *[("label-out-of-range", f"label {v}", lambda m, v=v: np.where(m == 3, v, m).astype(np.uint8)) for v in (4, 77)],
]
# Sandstone: a few tiles lie outside of the sample and hold next to nothing; faults are planted into the others.
TARGETS = {"drawn": [1, 7, 12, 20], "real": [5, 14, 23, 31]}


def name_of(value):
    """Code and strength name a case; the fault itself would show its address, which differs from run to run."""
    return "" if callable(value) else str(value)


@pytest.mark.parametrize(("code", "strength", "fault"), IMAGE_FAULTS, ids=name_of)
def test_a_fault_of_an_image_is_found(clean, request, tmp_path, code, strength, fault):
    found = []
    for number in TARGETS[request.node.callspec.params["clean"]]:
        image_path, mask_path = clean.items[number]
        path = tmp_path / f"{number}.tif"
        io.write_image(path, fault(io.read_image(image_path)))
        found.append(code in clean.codes(number, path, mask_path))
    assert sum(found) >= len(found) - (code == "saturated"), found


@pytest.mark.parametrize(("code", "strength", "fault"), MASK_FAULTS, ids=name_of)
def test_a_fault_of_a_mask_is_found(clean, request, tmp_path, code, strength, fault):
    found = []
    for number in TARGETS[request.node.callspec.params["clean"]]:
        image_path, mask_path = clean.items[number]
        path = tmp_path / f"{number}.png"
        io.write_mask(path, fault(io.read_mask(mask_path)))
        found.append(code in clean.codes(number, image_path, path))
    assert all(found), found


@pytest.mark.parametrize("gain", [1.2, 1.35, 1.5])
def test_a_usual_picture_whose_contrast_was_stretched_is_neither_dark_nor_bright(clean, tmp_path, gain):
    """As two slices of the ISBI 2012 membranes: levels are missing, and nobody sees it."""
    means = np.concatenate([part.rows["mean"] for part in clean.parts])
    number = int(abs(means - np.median(means)).argmin())
    image_path, mask_path = clean.items[number]
    image = io.read_image(image_path)
    for toward in (-6, 6):  # of 255, so that it leans
        io.write_image(tmp_path / "a.tif", scaled(image, gain, image.mean() * (1 - gain) + toward))
        assert not clean.codes(number, tmp_path / "a.tif", mask_path) & {"too-bright", "too-dark"}


def test_a_mask_that_fits_well_somewhere_else_is_moved_whatever_a_note_says_of_its_image(clean, request, tmp_path):
    number = TARGETS[request.node.callspec.params["clean"]][0]
    image_path, mask_path = clean.items[number]
    io.write_mask(tmp_path / "a.png", moved(io.read_mask(mask_path), 9, -7))

    note = Finding("low-information", "info", str(image_path), None, None, "Little detail.", "Look at it.")
    found = clean.findings(number, image_path, tmp_path / "a.png", said=[note])
    assert "shifted-mask" in {f.code for f in found if f.path == str(tmp_path / "a.png")}


def test_the_clean_sets_are_silent(clean):
    assert [f for f in clean.findings() if f.severity != "info"] == []


# --- faults between files: whole audits of a small folder


@pytest.fixture
def folders(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for i in range(12):
        image, mask = scene(i)
        Image.fromarray(image).save(images / f"{i:02d}.png")
        Image.fromarray(mask).save(masks / f"{i:02d}.png")
    return images, masks


def run(folders, **options):
    return audit.audit_dataset(*folders, num_classes=4, progress=False, **options)


def found(report, code):
    return {(f.path.split("/")[-1], (f.related or "").split("/")[-1]) for f in report.select(code)}


def test_the_small_folder_is_silent(folders):
    assert run(folders, splits={f"{i:02d}": "train" if i < 9 else "val" for i in range(12)}).findings == []


def test_an_exact_duplicate_is_found_whatever_its_format(folders):
    images, masks = folders
    io.write_image(images / "90.tif", io.read_image(images / "03.png"))
    shutil.copy(masks / "03.png", masks / "90.png")
    report = run(folders)
    assert found(report, "exact-duplicate") == {("90.tif", "03.png")}
    assert len(report.findings) == 1


def test_a_duplicate_with_another_mask_is_an_error(folders):
    images, masks = folders
    shutil.copy(images / "03.png", images / "90.png")
    shutil.copy(masks / "04.png", masks / "90.png")
    report = run(folders)
    assert found(report, "duplicate-with-other-mask") == {("90.png", "03.png")}
    assert report.select("duplicate-with-other-mask")[0].severity == "error"
    assert report.select("exact-duplicate") == []


def crop(image, share):
    height, width = image.shape[:2]
    top, left = round(height * share / 3), round(width * share / 2)
    return np.ascontiguousarray(image[top : height - round(height * share) + top, left : width - left])


VARIANTS = {
    "left to right": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "JPEG 50": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
    "darker": lambda image: scaled(image, 0.7),
    "brighter": lambda image: scaled(image, 1.1, 10),
    "gamma": lambda image: ((image / 255.0) ** 1.3 * 255).astype(np.uint8),
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "crop 5%": lambda image: crop(image, 0.05),
    "crop 10%": lambda image: crop(image, 0.1),
    "crop 8%, flipped, JPEG": lambda image: jpeg3(crop(image, 0.08)[:, ::-1]),
}


def jpeg3(image):
    return cv2.imdecode(cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_near_duplicate_is_found(folders, name):
    images, masks = folders
    for number in (3, 8):
        io.write_image(images / f"9{number}.png", VARIANTS[name](io.read_image(images / f"0{number}.png")))
        shutil.copy(masks / f"0{number}.png", masks / f"9{number}.png")
    assert found(run(folders), "near-duplicate") == {("93.png", "03.png"), ("98.png", "08.png")}


def test_a_leak_between_splits_is_named_as_a_pair(folders):
    images, masks = folders
    shutil.copy(images / "03.png", images / "90.png")
    shutil.copy(masks / "03.png", masks / "90.png")
    io.write_image(images / "91.png", io.read_image(images / "05.png")[:, ::-1])
    shutil.copy(masks / "05.png", masks / "91.png")
    splits = {f"{i:02d}": "train" for i in range(12)} | {"90": "val", "91": "val"}
    report = run(folders, splits=splits)
    assert found(report, "split-leak") == {("03.png", "90.png"), ("05.png", "91.png")}
    same = splits | {"90": "train", "91": "train"}
    assert found(run(folders, splits=same), "split-leak") == set()


def test_an_image_turned_by_exif_with_a_mask_that_is_not_is_found(folders):
    images, _ = folders
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(images / "03.png").save(images / "03.jpg", quality=95, exif=exif)
    (images / "03.png").unlink()
    report = run(folders)
    assert found(report, "exif-rotated") == {("03.jpg", "03.png")}


def test_a_class_that_no_mask_has_is_found_once(folders):
    report = audit.audit_dataset(*folders, num_classes=6, progress=False)
    assert [(f.path, f.value) for f in report.select("class-never-seen")] == [("", 4), ("", 5)]


CODERS = [
    ("jpeg", True, lambda mask, path: Image.fromarray(mask).save(path)),
    ("webp", True, lambda mask, path: Image.fromarray(np.dstack([mask] * 3)).save(path, quality=80)),
    ("avif", True, lambda mask, path: path.write_bytes(imagecodecs.avif_encode(mask, level=90))),
    ("tif", True, lambda mask, path: Image.fromarray(mask).save(path, compression="jpeg")),
    ("webp", False, lambda mask, path: Image.fromarray(np.dstack([mask] * 3)).save(path, lossless=True)),
    ("jpg", False, lambda mask, path: path.write_bytes(imagecodecs.ljpeg_encode(mask))),
    ("tif", False, lambda mask, path: Image.fromarray(mask).save(path, compression="tiff_lzw")),
]


@pytest.mark.parametrize(("suffix", "lossy", "write"), CODERS)
def test_what_changes_labels_is_one_rule_for_header_audit_and_convert_masks(folders, capsys, suffix, lossy, write):
    path = folders[1] / f"03.{suffix}"
    write(np.array(Image.open(folders[1] / "03.png")), path)
    (folders[1] / "03.png").unlink()
    assert bool(io.image_info(path).lossy) == lossy
    assert ((path.name, "") in found(run(folders), "lossy-mask")) == lossy
    assert main(["convert-masks", str(path), str(path.parent / "out"), "--map", "0=0"]) == (2 if lossy else 0)
    assert ("which changes labels" in capsys.readouterr().err) == lossy


def test_nan_and_infinity_are_found(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        image = rng.random((32, 32, 1)).astype(np.float32)
        if i == 4:
            image[3, 4], image[5, 6] = np.nan, -np.inf
        io.write_image(tmp_path / f"{i}.tif", image)
    report = audit.audit_dataset(tmp_path, progress=False)
    assert [(f.code, f.value, f.path[-5:]) for f in report.findings] == [("non-finite", 2, "4.tif")]


def test_every_code_has_a_planted_fault():
    here = pathlib.Path(__file__)
    text = (
        here.read_text()
        + here.with_name("test_audit_first.py").read_text()
        + here.with_name("test_audit_files.py").read_text()
    )
    assert [code for code in audit.CODES if f'"{code}"' not in text] == []
