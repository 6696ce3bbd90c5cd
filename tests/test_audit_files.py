"""The audit takes files as people have them: pairs of several files, other numbers, no data, silent channels."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from segkit import audit, io
from segkit.audit._measure.by_windows import Pixels
from segkit.audit._measure.image import measure_image
from segkit.audit._measure.row import ROW
from segkit.cli import main
from segkit.datasets import find_pairs

rng = np.random.default_rng


@pytest.fixture
def folders(tmp_path):
    r = rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(8):
        Image.fromarray(r.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
        mask = r.integers(0, 3, (5, 6), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path / "images", tmp_path / "masks"


def test_the_pairs_of_a_data_set_are_audited_as_its_folders_are(folders):
    pairs = find_pairs(*folders)
    by_folders = audit.audit_dataset(*folders, num_classes=3, progress=False)
    assert audit.audit_dataset(pairs, num_classes=3, progress=False).to_json() == by_folders.to_json()
    plain = [(pair.image, pair.mask) for pair in pairs]
    report = audit.audit_dataset(plain, num_classes=3, progress=False)
    assert report.to_json() == by_folders.to_json()
    assert [tuple(pair) for pair in report.clean_pairs()] == plain


def test_orphans_of_pairs_are_found(folders):
    (folders[0] / "9.png").write_bytes((folders[0] / "0.png").read_bytes())
    with pytest.warns(UserWarning, match="9"):
        pairs = find_pairs(*folders)
    found = audit.audit_dataset(pairs, progress=False).select("orphan-image")
    assert [finding.path for finding in found] == [str(folders[0] / "9.png")]


def test_an_image_of_several_bands_and_a_mask_of_several_objects_are_one_pair(tmp_path):
    pairs = []
    for i in range(5):
        for k in range(3):
            io.write_image(tmp_path / f"{i}_b{k}.tif", rng(9 * i + k).integers(0, 4000, (40, 48, 1)).astype(np.uint16))
        for k in range(2):
            objects = np.zeros((40, 48), np.uint8)
            objects[10 * k + 5 : 10 * k + 12, 5:20] = 200
            io.write_mask(tmp_path / f"{i}_o{k}.png", objects)
        pairs.append(
            (
                tuple(str(tmp_path / f"{i}_b{k}.tif") for k in range(3)),
                tuple(str(tmp_path / f"{i}_o{k}.png") for k in range(2)),
            )
        )
    (tmp_path / "4_b1.tif").write_bytes(b"")
    report = audit.audit_dataset(pairs, num_classes=2, progress=False)
    assert report.rows["channels"].tolist() == [3, 3, 3, 3, 0]
    assert report.labels == {0: [5 * (40 * 48 - 14 * 15), 5], 1: [5 * 14 * 15, 5]}
    assert [(finding.code, finding.path) for finding in report.findings if finding.severity == "error"] == [
        ("unreadable", str(tmp_path / "4_b1.tif"))
    ]
    report.to_html(tmp_path / "report.html")


@pytest.mark.parametrize(
    ("options", "labels", "codes"),
    [
        ({"remap": {0: 0, 1: 1, 2: 1}, "num_classes": 2}, {0, 1}, set()),
        ({"remap": {0: 0}, "unmapped": 1, "num_classes": 2}, {0, 1}, set()),
        ({"remap": {2: 7}, "unmapped": "keep", "num_classes": 3}, {0, 1, 7}, {"label-out-of-range"}),
        ({"remap": {0: 0, 1: 1}, "num_classes": 2}, set(), {"label-out-of-range"}),
    ],
)
def test_classes_are_given_new_numbers_before_they_are_judged(folders, options, labels, codes):
    report = audit.audit_dataset(*folders, progress=False, **options)
    assert set(report.labels) == labels
    assert {finding.code for finding in report.select(severity="error")} == codes


def test_pixels_without_data_count_in_no_measure():
    image = rng(0).normal(100, 5, (200, 240, 1)).astype(np.float32)
    holed = image.copy()
    holed[:, :80] = -9999

    def measured(pixels, nodata=None):
        row = np.zeros(1, ROW)[0]
        measure_image(Pixels(*pixels.shape[:2], 1, iter([(0, 0, pixels)])), row, nodata=nodata)
        return row

    right, found = measured(image[:, 80:]), measured(holed, -9999)
    for name in ("p01", "p50", "p99", "mean", "std"):
        assert found[name] == pytest.approx(right[name], rel=0.01), name
    assert found["sharp"] == pytest.approx(right["sharp"], abs=0.2), "no edge leads around what is missing"
    assert found["clipped_low"] < 0.01
    nothing = measured(np.full_like(image, -9999), -9999)
    assert nothing["constant"]
    holed[:, :80] = np.nan
    assert measured(holed, float("nan"))["non_finite"] == 0
    assert measured(holed)["non_finite"] == 80 * 200


def test_a_set_with_declared_holes_is_not_called_dark_or_clipped(tmp_path, monkeypatch):
    if "nodata" not in io.ImageInfo.__dataclass_fields__:
        monkeypatch.setattr(io.ImageInfo, "nodata", 0, raising=False)
    r = rng(0)
    for i in range(8):
        image = r.normal(1200, 200, (96, 96)).clip(1, 4000).astype(np.uint16)
        image[: 12 * i] = 0
        tifffile.imwrite(tmp_path / f"{i}.tif", image, metadata=None, extratags=[(42113, 2, 0, "0", True)])
    assert audit.audit_dataset(tmp_path, progress=False).findings == []


def test_a_channel_that_says_nothing_is_named_once(tmp_path):
    r = rng(0)
    for i in range(6):
        image = r.integers(0, 256, (40, 48, 4), dtype=np.uint8)
        image[..., 3] = 255
        if i == 2:
            image[..., 1] = 7
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    found = audit.audit_dataset(tmp_path, progress=False).select("constant-channel")
    assert [(finding.path, finding.value, finding.severity) for finding in found] == [("", 3, "info")]
    assert "channels=" in found[0].remedy


def test_a_stack_of_pages_is_said_to_be_one(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        image = rng.integers(0, 255, (4, 32, 40), np.uint8)
        tifffile.imwrite(tmp_path / f"{i}.tif", image if i else image[0], photometric="minisblack")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = audit.audit_dataset(tmp_path, progress=False, executor=ThreadPoolExecutor(1))
    found = [f for f in report.findings if f.code == "several-pages"]
    assert [(f.severity, f.value, f.path[-5:]) for f in found] == [("warning", 4, "1.tif"), ("warning", 4, "2.tif")]


@pytest.mark.parametrize("pages", [None, "first", "channels"])
def test_pages_are_what_the_caller_says_they_are(tmp_path, capsys, pages):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(4):
        bands = rng.integers(0, 255, (4, 32, 40), np.uint8)
        bands[2] = 7
        tifffile.imwrite(tmp_path / f"images/{i}.tif", bands, photometric="minisblack")
        labels = rng.integers(0, 2, (2, 32, 40), np.uint8)
        tifffile.imwrite(tmp_path / f"masks/{i}.tif", labels, photometric="minisblack")
    folders = tmp_path / "images", tmp_path / "masks"
    pool = ThreadPoolExecutor(1)
    report = audit.audit_dataset(*folders, num_classes=2, pages=pages, progress=False, executor=pool)
    assert report.counts().get("several-pages", 0) == (8 if pages is None else 0)
    assert report.rows["channels"].tolist() == [4 if pages == "channels" else 1] * 4
    assert [f.value for f in report.select("constant-channel")] == [2] * (pages == "channels")
    told = ["--pages", pages] if pages else []
    main(["audit", *map(str, folders), "--num-classes", "2", "--quiet", "--json", "-", *told])
    assert ("several-pages" in capsys.readouterr().out) == (pages is None)
    with pytest.raises(ValueError, match="`pages` must be 'first', 'channels' or None"):
        audit.audit_dataset(*folders, pages="samples")


@pytest.mark.parametrize("form", ["three equal channels", "whole floats", "grey palette"])
def test_masks_are_read_as_the_data_set_reads_them(tmp_path, form):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        mask = np.kron(rng.integers(0, 2, (4, 5)), np.ones((8, 8))).astype(np.uint8)
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(tmp_path / f"images/{i}.png")
        if form == "three equal channels":
            Image.fromarray(np.dstack([mask] * 3)).save(tmp_path / f"masks/{i}.png")
        elif form == "whole floats":
            tifffile.imwrite(tmp_path / f"masks/{i}.tif", mask.astype(np.float32))
        else:
            picture = Image.fromarray(1 - mask)
            picture.putpalette([1, 1, 1, 0, 0, 0])
            picture.save(tmp_path / f"masks/{i}.png")
    folders = tmp_path / "images", tmp_path / "masks"
    report = audit.audit_dataset(*folders, num_classes=2, progress=False, executor=ThreadPoolExecutor(1))
    assert [f for f in report.findings if f.severity == "error"] == []
